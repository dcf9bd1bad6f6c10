"""What frameworks gain by the index alone: models of pgvector in Django, SQLAlchemy and LangChain.

pip install django sqlalchemy pgvector langchain-postgres
python benchmarks/bench_orms.py --data FOLDER --name orms

Two databases hold the same rows in the tables that the frameworks themselves make. They differ in
the index: pgvector's HNSW in one, mrl in the other, both with their defaults. The code that asks is
the same. Queries go to both in turns, one client; recall@10 against exact float64 comes first.
LangChain's column has no dims unless told: there HNSW cannot index it, mrl can (`WITH (width = …)`).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import machine
import numpy as np
import psycopg
from bench_extension import K, exact, load
from psycopg import conninfo

import mrl_db

DIMS = 384
SIDES = "before", "after"
Ask = Callable[[np.ndarray], list[int]]


def django(dsns: dict[str, str]) -> tuple[str, str, dict[str, Ask]]:
    """A model with a VectorField; its manager asks."""
    import django
    from django.conf import settings
    from django.db import connections, models

    databases = {}
    for side, dsn in dsns.items():
        at = conninfo.conninfo_to_dict(dsn)
        databases[side] = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": at["dbname"],
            "USER": at["user"],
            "HOST": at["host"],
            "PORT": at["port"],
            "CONN_MAX_AGE": None,
        }
    settings.configure(DATABASES={**databases, "default": databases["before"]}, DEBUG=False)
    django.setup()
    from pgvector.django import CosineDistance, VectorField

    class Article(models.Model):
        embedding = VectorField(dimensions=DIMS)

        class Meta:
            app_label = "news"
            db_table = "django_article"

    for side in dsns:
        with connections[side].schema_editor() as editor:
            editor.create_model(Article)

    def asks(side: str) -> Ask:
        return lambda query: [
            article.id
            for article in Article.objects.using(side).order_by(
                CosineDistance("embedding", query.tolist())
            )[:K]
        ]

    return "django_article (id, embedding)", "", {side: asks(side) for side in dsns}


def sqlalchemy(dsns: dict[str, str]) -> tuple[str, str, dict[str, Ask]]:
    """A mapped class with a Vector column; a session asks."""
    from pgvector.sqlalchemy import Vector
    from sqlalchemy import Integer, create_engine, select
    from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class Article(Base):
        __tablename__ = "alchemy_article"
        id = mapped_column(Integer, primary_key=True)
        embedding = mapped_column(Vector(DIMS))

    asks: dict[str, Ask] = {}
    for side, dsn in dsns.items():
        engine = create_engine(url(dsn))
        Base.metadata.create_all(engine)

        def ask(query: np.ndarray, engine: object = engine) -> list[int]:
            near = select(Article).order_by(Article.embedding.cosine_distance(query)).limit(K)
            with Session(engine) as session:  # type: ignore[arg-type]
                return [article.id for article in session.scalars(near)]

        asks[side] = ask
    return "alchemy_article (id, embedding)", "", asks


def langchain(dsns: dict[str, str]) -> tuple[str, str, dict[str, Ask]]:
    """The PGVector store, as it comes: its column says no dims."""
    from langchain_core.embeddings import FakeEmbeddings
    from langchain_postgres import PGVector

    no_model = FakeEmbeddings(size=1)  # the rows and queries are vectors already
    asks: dict[str, Ask] = {}
    for side, dsn in dsns.items():
        store = PGVector(embeddings=no_model, collection_name="news", connection=url(dsn))
        store.create_collection()

        def ask(query: np.ndarray, store: PGVector = store) -> list[int]:
            hits = store.similarity_search_with_score_by_vector(query.tolist(), k=K)
            return [int(document.page_content) for document, _ in hits]

        asks[side] = ask
    return (
        "langchain_pg_embedding (id, embedding, document, cmetadata, collection_id)",
        "(SELECT uuid FROM langchain_pg_collection)",
        asks,
    )


def url(dsn: str) -> str:
    """The connection string as SQLAlchemy writes it."""
    at = conninfo.conninfo_to_dict(dsn)
    return f"postgresql+psycopg://{at['user']}@/{at['dbname']}?host={at['host']}&port={at['port']}"


def fill(dsn: str, columns: str, collection: str, rows: list[str]) -> None:
    """Copies rows into a framework's table; those of LangChain's store belong to a collection."""
    table = columns.split(" (")[0]
    with psycopg.connect(dsn, autocommit=True) as session:
        belongs = session.execute(f"SELECT {collection}").fetchone() if collection else None
        with session.cursor().copy(f"COPY {columns} FROM STDIN") as copy:
            for i, vector in enumerate(rows):
                copy.write_row(
                    (i, vector) if belongs is None else (str(i), vector, str(i), "{}", belongs[0])
                )
        session.execute(f"ANALYZE {table}")


def index(dsn: str, table: str, side: str, untyped: bool) -> str:
    """Makes the one thing that differs; returns its statement."""
    if side == "after":
        width = f" WITH (width = {DIMS})" if untyped else ""
        statement = f"CREATE INDEX ON {table} USING mrl (embedding vector_cosine_ops){width}"
    elif untyped:
        return "none: HNSW needs a column that says its dims"
    else:
        statement = f"CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops)"
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(statement)
        session.execute(f"VACUUM ANALYZE {table}")
    return statement


def recall(ask: Ask, rows: np.ndarray, queries: np.ndarray, kth: np.ndarray) -> float:
    """Share of the answers that are as near as the k-th nearest, at least."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    right = 0
    for query, bound in zip(queries, kth, strict=True):
        near = unit[ask(query)].astype(np.float64) @ (query / np.linalg.norm(query))
        right += int((near >= bound - 1e-6).sum())
    return right / (K * len(queries))


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=62_666)
    options = parser.parse_args()
    record = machine.resume(
        options.name, "django", "sqlalchemy", "pgvector", "langchain-postgres", "psycopg"
    )
    rows, queries = load(options.data, "debian", 1000)
    rows, queries = rows[: options.rows], queries[:300]
    kth = exact(rows, queries)
    texts = ["[" + ",".join(f"{x:.7g}" for x in row) + "]" for row in rows]
    with tempfile.TemporaryDirectory() as home, mrl_db.connect(home=home) as db:
        dsns = {}
        for side in SIDES:
            with psycopg.connect(db.dsn, autocommit=True) as session:
                session.execute(f"CREATE DATABASE {side}")
            dsns[side] = conninfo.make_conninfo(db.dsn, dbname=side)
            with psycopg.connect(dsns[side], autocommit=True) as session:
                session.execute("CREATE EXTENSION mrl_db CASCADE")
        for framework in (sqlalchemy, django, langchain):
            columns, collection, asks = framework(dsns)
            table, untyped = columns.split(" (")[0], bool(collection)
            statements = {}
            for side in SIDES:
                fill(dsns[side], columns, collection, texts)
                statements[side] = index(dsns[side], table, side, untyped)
            asked = 30 if untyped else len(queries)  # a scan of all rows for each, before
            found = {
                side: round(recall(asks[side], rows, queries[:asked], kth[:asked]), 4)
                for side in SIDES
            }
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            for query in queries[:asked]:
                for side in SIDES:
                    began = time.perf_counter()
                    asks[side](query)
                    times[side].append((time.perf_counter() - began) * 1e3)
            medians = {side: round(statistics.median(times[side]), 2) for side in SIDES}
            result = {
                "rows": len(rows),
                "queries": asked,
                "index": statements,
                "recall": found,
                "median_ms": medians,
                "faster": round(medians["before"] / medians["after"], 2),
            }
            machine.keep(options.name, record, framework.__name__, result)
            for side in SIDES:
                with psycopg.connect(dsns[side], autocommit=True) as session:
                    session.execute(f"TRUNCATE {table}")


if __name__ == "__main__":
    main()
