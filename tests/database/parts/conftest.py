"""One table in three parts, and one collection on three servers."""

import numpy as np
import psycopg
import pytest
from parted import DIMS, N, create, tied
from psycopg import conninfo
from psycopg import sql as psql

from mrl_db import parts


@pytest.fixture
def servers(server, dsn):
    """Three databases that stand for three servers."""
    names = [f"{conninfo.conninfo_to_dict(dsn)['dbname']}_{number}" for number in range(3)]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(
                psql.SQL("CREATE DATABASE {} TEMPLATE template_mrl STRATEGY file_copy").format(
                    psql.Identifier(name)
                )
            )
    yield [conninfo.make_conninfo(dsn, dbname=name) for name in names]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(
                psql.SQL("DROP DATABASE {} WITH (FORCE)").format(psql.Identifier(name))
            )


@pytest.fixture
def table(db, rng):
    docs = db.create_collection("docs", dims=DIMS, metric="l2", columns={"year": "integer"})
    docs.add(np.arange(N), tied(rng, N), year=np.arange(N) % 5)
    return docs


@pytest.fixture
def split(db, table):
    with parts.open_threads(db, "docs", parts=3, route="flat", cache=False) as split:
        yield split


@pytest.fixture
def three(servers, rng):
    for dsn in servers:
        create(dsn)
    with parts.open_servers(servers, "docs", connect_timeout=0.5) as docs:
        docs.add(np.arange(N), tied(rng, N), year=np.arange(N) % 5)
        yield docs
