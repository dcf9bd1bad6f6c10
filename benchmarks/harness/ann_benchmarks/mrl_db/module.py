"""mrl_db for ann-benchmarks: this folder goes into its `ann_benchmarks/algorithms`."""

import os
from dataclasses import replace

import numpy as np
import psycopg

import mrl_db

from ..base.module import BaseANN

METRICS = {"angular": "cosine", "euclidean": "l2"}


class MrlDb(BaseANN):
    """Rows in PostgreSQL, searched in this process by the native engine's graph."""

    def __init__(self, metric, build):
        self.metric = METRICS[metric]
        self.build = build
        self.name = f"mrl_db(build={build})"

    def fit(self, X):
        self.db = mrl_db.connect(os.environ.get("MRL_DB_DSN"))
        if "ann_benchmarks" in self.db:
            self.db.drop("ann_benchmarks")
        self.docs = self.db.create_collection("ann_benchmarks", dims=X.shape[1], metric=self.metric)
        self.docs.ingest(np.arange(len(X)), np.asarray(X, dtype=np.float32), index=False)
        self.make_index()

    def make_index(self):
        self.docs.load(build=self.build, max_staleness=float("inf"), cache=False)

    def set_query_arguments(self, effort, widen):
        """Takes hops of the walk, and how many times more rows the stages keep than by default.

        Below a hundred dims four bits of each say less of a row: there wider stages find more.
        """
        self.effort, self.widen, self.plans = effort, widen, {}
        self.name = f"mrl_db(build={self.build}, effort={effort}, widen={widen})"

    def plan(self, n):
        if n not in self.plans:
            plan = mrl_db.graph_plan(dims=self.docs.dims, k=n, effort=self.effort)
            wider = [replace(stage, keep=stage.keep * self.widen) for stage in plan.stages[:-1]]
            self.plans[n] = replace(plan, stages=(*wider, plan.stages[-1]))
        return self.plans[n]

    def query(self, v, n):
        return self.docs.search(v, k=n, plan=self.plan(n)).ids

    def batch_query(self, X, n):
        self.answers = self.docs.search(X, k=n, plan=self.plan(n)).ids

    def get_batch_results(self):
        return self.answers

    def done(self):
        self.db.close()


class MrlDbInPostgres(MrlDb):
    """The extension's index, by plain pgvector SQL on one connection."""

    def __init__(self, metric):
        super().__init__(metric, "default")
        self.name = "mrl_db_sql"

    def make_index(self):
        self.docs.create_index(kind="mrl")
        operator = {"cosine": "<=>", "l2": "<->"}[self.metric]
        self.statement = (
            f"SELECT id FROM ann_benchmarks ORDER BY embedding {operator} %s::vector LIMIT %s"
        )
        self.connection = psycopg.connect(self.db.dsn, autocommit=True)

    def set_query_arguments(self, effort):
        self.connection.execute("SELECT set_config('mrl.effort', %s, false)", [str(effort)])
        self.name = f"mrl_db_sql(effort={effort})"

    def query(self, v, n):
        text = str(v.tolist())
        return [id for (id,) in self.connection.execute(self.statement, [text, n], prepare=True)]

    def batch_query(self, X, n):
        self.answers = [self.query(v, n) for v in X]

    def done(self):
        self.connection.close()
        super().done()
