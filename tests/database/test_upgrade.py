"""An embedded cluster of PostgreSQL 16 becomes one of 18, with its data."""

import os

import numpy as np
import pytest

import mrl_db
from mrl_db.postgres.server.upgrade import upgrade

DIMS = 16


@pytest.mark.carried
def test_a_cluster_is_upgraded_with_its_data(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "a home"
    vectors = rng.standard_normal((300, DIMS)).astype(np.float32)
    with mrl_db.connect(home=home, postgres_version=16) as db:
        assert db.server_version == 16
        docs = db.create_collection("docs", dims=DIMS, shortlist_dims=8, columns={"title": "text"})
        docs.add(np.arange(300), vectors, title=[f"row {i} é" for i in range(300)])
        docs.create_index()
        assert docs.index_kind == "mrl"
        docs.tune(recall=0.9, k=5, queries=vectors[:120] + 0.01, engine="sql", budget_seconds=1)
        promised = docs.promise
        docs.load()
        before = docs.search(vectors[:20], k=5)
        with pytest.raises(mrl_db.ServerError, match="in use"):
            upgrade(home)
        assert docs.count() == 300
    assert upgrade(home) == (16, 18)
    assert upgrade(home) == (18, 18)
    with mrl_db.connect(home=home) as db:
        assert db.server_version == 18
        docs = db.open("docs")
        assert docs.index_kind == "mrl"
        assert docs.promise == promised  # transaction ids are those of before
        assert docs.get([7]).columns["title"] == ["row 7 é"]
        docs.load()
        np.testing.assert_array_equal(docs.search(vectors[:20], k=5).ids, before.ids)
        docs.add([1000], rng.standard_normal((1, DIMS)).astype(np.float32))
        assert docs.search(vectors[0], k=400).ids.size == 301
        assert docs.search(vectors[0], k=5, engine="sql").ids.tolist() == before.ids[0].tolist()
    assert not [name for name in os.listdir(home) if name.startswith(("data.", "upgrade"))]


@pytest.mark.carried
def test_what_cannot_be_upgraded_stays_as_it_was(tmp_path, monkeypatch):
    home = tmp_path / "home"
    with pytest.raises(mrl_db.ServerError, match="no embedded cluster"):
        upgrade(home)
    with mrl_db.connect(home=home, postgres_version=16) as db:
        db.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])
    with pytest.raises(mrl_db.ServerError, match="mrl-db upgrade"):
        mrl_db.connect(home=home, postgres_version=18)

    def fails(binaries, name, *arguments, **options):
        raise mrl_db.ServerError(f"{name} failed: no")

    with monkeypatch.context() as patched:
        patched.setattr("mrl_db.postgres.server.upgrade.run_program", fails)
        with pytest.raises(mrl_db.ServerError, match="pg_upgrade failed"):
            upgrade(home)
    with mrl_db.connect(home=home) as db:
        assert db.server_version == 16
        assert db.open("docs").count() == 1
