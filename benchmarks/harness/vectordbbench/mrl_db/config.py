"""How the server is reached, and how a case is run."""

from typing import Literal

from pydantic import BaseModel, SecretStr

from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType

METRICS = {MetricType.COSINE: "cosine", MetricType.L2: "l2", MetricType.IP: "inner_product"}


class MrlDbConfig(DBConfig):
    dsn: SecretStr
    collection: str = "vdbbench"

    def to_dict(self):
        return {"dsn": self.dsn.get_secret_value(), "collection": self.collection}


class MrlDbCaseConfig(BaseModel, DBCaseConfig):
    metric_type: MetricType | None = None
    engine: Literal["native", "sql"] = "native"
    effort: int | None = None  # of the native engine's walk; None: its default

    def index_param(self):
        return {"metric": METRICS[self.metric_type or MetricType.COSINE]}

    def search_param(self):
        return {"engine": self.engine, "effort": self.effort}
