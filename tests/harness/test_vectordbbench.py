"""The client of VectorDBBench against the exact answer, with each of its filters."""

from pathlib import Path

import numpy as np
import pytest
from vectordb_bench.backend import clients
from vectordb_bench.backend.clients.api import MetricType
from vectordb_bench.backend.filter import IntFilter, LabelFilter, NonFilter

HARNESS = Path(__file__).parents[2] / "benchmarks" / "harness"


@pytest.mark.parametrize("engine", ["native", "sql"])
def test_a_client_loads_and_searches_with_every_filter(dsn, rng, monkeypatch, engine):
    monkeypatch.setattr(clients, "__path__", [*clients.__path__, str(HARNESS / "vectordbbench")])
    from vectordb_bench.backend.clients.mrl_db.client import MrlDb
    from vectordb_bench.backend.clients.mrl_db.config import MrlDbCaseConfig, MrlDbConfig

    rows = rng.standard_normal((400, 16), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    label = LabelFilter(label_percentage=0.5)
    labels = [label.label_value if i % 2 else "other" for i in range(400)]
    case = MrlDbCaseConfig(metric_type=MetricType.COSINE, engine=engine, effort=200)
    made = MrlDb(16, MrlDbConfig(dsn=dsn).to_dict(), case, drop_old=True, with_scalar_labels=True)
    with made.init():
        for at in (0, 200):
            part = slice(at, at + 200)
            ids = list(range(at, at + 200))
            assert made.insert_embeddings(rows[part].tolist(), ids, labels[part]) == (200, None)
        count, error = made.insert_embeddings(rows[:1].tolist(), [0], labels[:1])
        assert (count, error is not None) == (0, True)  # there already: reported, not raised
        made.optimize()

    for filters, passing in (
        (NonFilter(), np.ones(400, dtype=bool)),
        (IntFilter(int_value=300, filter_rate=0.75), np.arange(400) >= 300),
        (label, np.arange(400) % 2 == 1),
    ):
        assert MrlDb.filter_supported(filters)
        client = made.copy_for_thread()
        with client.init():
            client.prepare_filter(filters)
            answer = client.search_embedding(rows[7].tolist(), k=10)
        exact = np.argsort(np.where(passing, -(rows @ rows[7]), np.inf))[:10]
        assert len(set(answer) & set(exact.tolist())) >= 9
        assert passing[answer].all()
