"""A collection as VectorDBBench drives it: many processes, each with connections of its own."""

from contextlib import contextmanager
from copy import copy

import numpy as np

import mrl_db
from vectordb_bench.backend.clients.api import VectorDB
from vectordb_bench.backend.filter import FilterOp


class MrlDb(VectorDB):
    """Loaded rows are a file that all processes of a machine map: each begins in a moment."""

    name = "mrl_db"
    thread_safe = True
    supported_filter_types = (FilterOp.NonFilter, FilterOp.NumGE, FilterOp.StrEqual)

    def __init__(
        self, dim, db_config, db_case_config, drop_old=False, with_scalar_labels=False, **_
    ):
        self.dsn, self.collection = db_config["dsn"], db_config["collection"]
        self.case, self.labelled = db_case_config, with_scalar_labels
        self.db = self.docs = self.where = None
        if drop_old:
            with mrl_db.connect(self.dsn) as db:
                if self.collection in db:
                    db.drop(self.collection)
                db.create_collection(
                    self.collection,
                    dims=dim,
                    metric=self.case.index_param()["metric"],
                    columns={"label": "text"} if self.labelled else None,
                )

    @contextmanager
    def init(self):
        with mrl_db.connect(self.dsn) as self.db:
            self.docs = self.db.open(self.collection)
            yield
        self.db = self.docs = None

    def copy_for_thread(self):
        return copy(self)

    def insert_embeddings(self, embeddings, metadata, labels_data=None, **_):
        labels = {"label": labels_data} if self.labelled and labels_data is not None else {}
        try:
            vectors = np.asarray(embeddings, dtype=np.float32)
            return self.docs.add(np.asarray(metadata), vectors, **labels), None
        except mrl_db.MrlDbError as error:
            return 0, error

    def optimize(self, data_size=None):  # noqa: ARG002
        if self.case.engine == "native":
            self.docs.load(effort=self.case.effort)  # the file is there for the processes to come
            self.docs.unload()
        else:
            self.docs.create_index()

    def prepare_filter(self, filters):
        """Is called in each process before it searches."""
        if filters.type == FilterOp.NumGE:
            self.where = {"id": {"$gte": int(filters.int_value)}}
        elif filters.type == FilterOp.StrEqual:
            self.where = {"label": filters.label_value}
        if self.case.engine == "native":
            self.docs.load(effort=self.case.effort)

    def search_embedding(self, query, k=100, **_):
        return self.docs.search(query, k=k, where=self.where, engine=self.case.engine).ids.tolist()
