"""Runs a case of VectorDBBench on the package descriptions that mrl_db carries.

    pip install vectordb-bench
    python benchmarks/harness/run_vectordbbench.py --engine native

Its databases are an enumeration in its own repository, where a client is a folder and three lines.
Here the client stands in for the one named `test`, which does nothing.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from vectordb_bench.backend import clients

# Spawned processes run these lines, too: they unpickle the client.
clients.__path__.append(str(Path(__file__).parent / "vectordbbench"))

DATA = "packages"
ROWS, QUERIES, NEIGHBOURS = 5000, 200, 100


def write_data(folder):
    """Writes rows, queries and true neighbours as Parquet."""
    from mrl_db.faces.demo import load_packages

    vectors = np.random.default_rng(0).permutation(load_packages().vectors)
    rows, queries = vectors[:ROWS], vectors[ROWS:]
    true = np.argsort(-queries @ rows.T, axis=1)[:, :NEIGHBOURS]
    for name, column, values in (
        ("train", "emb", rows),
        ("test", "emb", queries),
        ("neighbors", "neighbors_id", true),
    ):
        table = pa.table({"id": np.arange(len(values)), column: list(values)})
        pq.write_table(table, folder / f"{name}.parquet")


def run(dsn, folder, engine, effort, k):
    """Returns the metrics of one case: load, then searches by one process and by several."""
    from vectordb_bench.backend.assembler import Assembler
    from vectordb_bench.backend.cases import CaseType
    from vectordb_bench.backend.clients import DB
    from vectordb_bench.backend.clients.mrl_db.client import MrlDb
    from vectordb_bench.backend.clients.mrl_db.config import MrlDbCaseConfig, MrlDbConfig
    from vectordb_bench.backend.data_source import DatasetSource
    from vectordb_bench.models import CaseConfig, ConcurrencySearchConfig, TaskConfig

    theirs = DB.init_cls
    DB.init_cls = property(lambda db: MrlDb if db is DB.Test else theirs.fget(db))
    case = CaseConfig(
        case_id=CaseType.PerformanceCustomDataset,
        custom_case={
            "name": DATA,
            "description": "",
            "load_timeout": 300,
            "optimize_timeout": 300,
            "dataset_config": {
                "name": DATA,
                "dir": str(folder),
                "size": ROWS,
                "dim": 384,
                "metric_type": "COSINE",
            },
        },
        k=k,
        concurrency_search_config=ConcurrencySearchConfig(
            num_concurrency=[1, 2], concurrency_duration=5
        ),
    )
    task = TaskConfig(
        db=DB.Test,
        db_config=MrlDbConfig(dsn=dsn),
        db_case_config=MrlDbCaseConfig(engine=engine, effort=effort),
        case_config=case,
    )
    return Assembler.assemble("mrl_db", task, DatasetSource.S3).run(drop_old=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("native", "sql"), default="native")
    parser.add_argument("--effort", type=int)
    parser.add_argument("--k", type=int, default=10)
    given = parser.parse_args()

    import mrl_db

    with (
        tempfile.TemporaryDirectory() as folder,
        mrl_db.connect(os.environ.get("MRL_DB_DSN")) as db,
    ):
        write_data(Path(folder))
        metric = run(db.dsn, Path(folder), given.engine, given.effort, given.k)
    print(f"engine {given.engine}, {ROWS:,} x 384, k = {given.k}")
    print(f"recall {metric.recall:.3f}  ndcg {metric.ndcg:.3f}  load {metric.load_duration:.1f} s")
    print(
        f"p50 {metric.serial_latency_p50 * 1e6:.0f} µs  p99 {metric.serial_latency_p99 * 1e6:.0f} µs"
    )
    for processes, rate in zip(metric.conc_num_list, metric.conc_qps_list, strict=True):
        print(f"{processes} processes: {rate:,.0f} q/s")


if __name__ == "__main__":
    main()
