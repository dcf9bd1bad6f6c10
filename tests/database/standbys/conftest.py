"""A primary, its standby, and a collection that both have."""

import followed
import numpy as np
import psycopg
import pytest
import standbys
from followed import DIMS, N

import mrl_db


@pytest.fixture(scope="package")
def primary(tmp_path_factory, postgres_version):
    server = standbys.new_primary(tmp_path_factory.mktemp("primary"), postgres_version)
    yield server
    server.embedded.release()


@pytest.fixture(scope="package")
def standby(primary):
    with standbys.standby_of(primary) as copy:
        yield copy


@pytest.fixture
def vectors(rng):
    return followed.made(rng)


@pytest.fixture
def written(primary):
    """The primary's database, open."""
    with mrl_db.connect(primary.dsn) as db:
        yield db
        for name in db.list():
            db.drop(name)


@pytest.fixture
def on_primary(primary):
    """A session on the primary."""
    with psycopg.connect(primary.dsn, autocommit=True) as session:
        yield session


@pytest.fixture
def replay(standby, on_primary):
    """Waits until the standby has all that was written."""
    with psycopg.connect(standby.dsn, autocommit=True) as session:
        yield lambda: standbys.catch_up(on_primary, session)


@pytest.fixture
def copied(standby, written, vectors, replay):
    """The collection on the standby, not loaded."""
    docs = written.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    docs.add(np.arange(N), vectors[:N], year=np.arange(N) % 10)
    docs.load(cache=False)
    docs.unload()
    replay()
    with mrl_db.connect(standby.dsn) as db:
        yield db.open("docs")


@pytest.fixture
def hasty(standby):
    """The standby without feedback and without patience: its primary removes rows that it reads."""
    impatience = ("max_standby_streaming_delay = 0", "hot_standby_feedback = off")
    with psycopg.connect(standby.dsn, autocommit=True) as session:
        for setting in impatience:
            session.execute(f"ALTER SYSTEM SET {setting}")
        session.execute("SELECT pg_reload_conf()")
    yield standby
    with psycopg.connect(standby.dsn, autocommit=True) as session:
        for setting in impatience:
            session.execute(f"ALTER SYSTEM RESET {setting.split()[0]}")
        session.execute("SELECT pg_reload_conf()")


@pytest.fixture
def pair(primary, written, vectors, on_primary):
    """The primary with the collection, and a standby of its own that may be promoted."""
    docs = written.create_collection("docs", dims=DIMS)
    docs.add(np.arange(N), vectors[:N])
    docs.load(cache=False)
    docs.unload()
    with standbys.standby_of(primary, port=5434) as copy:
        with psycopg.connect(copy.dsn, autocommit=True) as there:
            standbys.catch_up(on_primary, there)
        yield primary, copy
