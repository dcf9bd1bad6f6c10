"""Alembic's autogenerate beside collections."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pgvector.sqlalchemy import Vector
from psycopg import conninfo

from mrl_db.integrations.alembic import include_name, include_object


def engine_of(dsn):
    at = conninfo.conninfo_to_dict(dsn)
    url = sa.URL.create(
        "postgresql+psycopg", username=at["user"], database=at["dbname"], query={"host": at["host"]}
    )
    return sa.create_engine(url)


def models():
    metadata = sa.MetaData()
    sa.Table(
        "articles",
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("embedding", Vector(32), nullable=False),
        sa.Column("content", sa.Text),
    )
    return metadata


def operations(engine, metadata, **options):
    """What a migration would do: (operation, name), whatever it is grouped in."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_schemas": True, "include_name": include_name, **options},
        )
        listed = compare_metadata(context, metadata)
    return sorted(
        (each[0], getattr(each[-1], "name", None)) for each in listed if isinstance(each, tuple)
    )


def test_autogenerate_leaves_alone_what_came_with_collections(db, dsn):
    engine, metadata = engine_of(dsn), models()
    metadata.create_all(engine)
    docs = db.attach("articles", nesting_dims=(8, 32), text="content")
    docs.create_index(kind="hnsw")
    db.create_collection("notes", dims=32)

    without = operations(engine, metadata)
    with_it = operations(engine, metadata, include_object=include_object)

    engine.dispose()
    assert {"remove_column", "remove_index", "remove_table"} == {name for name, _ in without}
    assert ("remove_table", "notes") in without
    assert with_it == []


def test_autogenerate_still_drops_what_is_the_callers(db, dsn, execute):
    engine, metadata = engine_of(dsn), models()
    metadata.create_all(engine)
    db.attach("articles", nesting_dims=(8, 32))
    execute("ALTER TABLE articles ADD COLUMN note text; CREATE INDEX notes ON articles (note)")
    execute(
        "CREATE TABLE old (id bigint); ALTER TABLE articles ADD twice bigint "
        "GENERATED ALWAYS AS (id * 2) STORED"
    )

    listed = operations(engine, metadata, include_object=include_object)

    engine.dispose()
    assert listed == [
        ("remove_column", "note"),
        ("remove_column", "twice"),
        ("remove_index", "notes"),
        ("remove_table", "old"),
    ]
