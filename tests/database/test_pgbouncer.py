"""PgBouncer in transaction mode, which gives every transaction another session of the server."""

import shutil
import subprocess
import time

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import conninfo

import mrl_db
from mrl_db.classify import Cascade
from mrl_db.learn import Rotation
from mrl_db.postgres.server import programs

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
if PGBOUNCER is None:
    pytest.skip("needs the program pgbouncer (package pgbouncer)", allow_module_level=True)

pytestmark = pytest.mark.superuser

DIMS, N = 24, 600


@pytest.fixture(scope="module")
def pooler(server, tmp_path_factory):
    """A PgBouncer before the server of the tests: the folder of its socket."""
    folder = tmp_path_factory.mktemp("pgbouncer") / "run"
    programs.owned_by_server(folder)
    data = server.server.home / "data"
    names = {programs.pwd.getpwuid(programs.os.geteuid()).pw_name, "nobody"}
    programs.let_in(data, *names)  # PgBouncer runs as the server's user, and connects as it
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute("SELECT pg_reload_conf()")
    at = conninfo.conninfo_to_dict(server.dsn)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host='{at['host']}' port={at['port']} user=postgres\n"
        f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 4\nmin_pool_size = 4\n"
        "server_round_robin = 1\nlogfile = /dev/null\n"
    )
    settings.chmod(0o644)
    process = subprocess.Popen([*programs.as_server_user(), PGBOUNCER, "-q", str(settings)])
    for _ in range(100):
        if (folder / ".s.PGSQL.6432").exists():
            break
        time.sleep(0.05)
    yield folder
    process.terminate()
    process.wait()


@pytest.fixture
def pooled(pooler, dsn):
    """The connection string of a fresh database, through PgBouncer."""
    name = conninfo.conninfo_to_dict(dsn)["dbname"]
    return conninfo.make_conninfo(host=str(pooler), port=6432, dbname=name, user="postgres")


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((N, DIMS)).astype(np.float32)


def test_every_method_works_through_it(pooled, vectors, tmp_path):
    with mrl_db.connect(pooled, prepare=False, pool_size=3) as db:
        docs = db.create_collection(
            "docs", dims=DIMS, nesting_dims=(8, DIMS), columns={"year": "integer"}
        )
        docs.add(np.arange(300), vectors[:300], year=np.arange(300) % 5, batch_id="first")
        pq.write_table(
            pa.table({"id": range(300, N), "embedding": vectors[300:].tolist(), "year": [7] * 300}),
            tmp_path / "rows.parquet",
        )
        docs.ingest(tmp_path / "rows.parquet")
        docs.upsert([3], vectors[3:4], year=[1])
        docs.create_index()
        docs.create_index(kind="hnsw")
        assert docs.count(where={"year": 7}) == 300
        assert docs.get([3]).columns["year"] == [1]
        nearest = docs.search(vectors[:20], k=5, exact=True).ids.tolist()
        assert docs.search(vectors[:20], k=5).ids.tolist() == nearest
        assert docs.search(vectors[5], k=3, where={"year": 0}, shortlist=50).ids[0] == 5
        assert docs.explain(vectors[5], want=[5], k=3).fates
        assert docs.tune(recall=0.9, k=5, queries=vectors[:120] + 0.01, budget_seconds=1).plan
        assert docs.promise.stale is None
        assert docs.recall(vectors[:50], k=5).mean > 0.8
        docs.set_plan(None)

        docs.load()
        assert docs.search(vectors[:20], k=5, engine="native").ids.tolist() == nearest
        with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as client:
            client.execute("DELETE FROM docs WHERE id = 4")
        assert 4 not in docs.search(vectors[4], k=3).ids
        docs.delete([6])
        docs.refresh()
        assert 6 not in docs.search(vectors[6], k=3, max_staleness=60.0).ids
        assert docs.log_health()
        docs.unload()

        labels = (vectors[:, 0] > 0).astype(int)
        cascade = Cascade(dims=(8, DIMS)).fit(vectors, labels, calibrate=(vectors, labels))
        docs.save_classifier("sign", cascade)
        assert len(docs.classify("sign", where={"year": 7}).ids) == 300
        turned = db.create_collection(
            "turned", dims=DIMS, nesting_dims=(8, DIMS), adaptor=Rotation.fit(vectors)
        )
        turned.add([1, 2], vectors[:2])
        assert turned.search(vectors[1], k=1).ids[0] == 2
        db.drop("turned")
        assert db.list() == ["docs"]
        assert db.extension_health().advice is None


def test_a_statement_that_takes_too_long_is_cancelled(pooled):
    with mrl_db.connect(pooled, prepare=False, statement_timeout=0.3, pool_size=2) as db:
        docs = db.create_collection("docs", dims=2)
        docs.add([1], [[1.0, 0.0]])
        with psycopg.connect(pooled, prepare_threshold=None) as other:
            other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            with pytest.raises(mrl_db.CancelledError):
                docs.add([2], [[0.0, 1.0]])
            assert time.monotonic() - began < 2

        docs.add([2], [[0.0, 1.0]])
        assert docs.count() == 2
