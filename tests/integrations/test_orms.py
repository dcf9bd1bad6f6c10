"""Vectors and business rows in one transaction, on the connections of SQLAlchemy and Django."""

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from django import setup as django_setup
from django.conf import settings
from django.db import connections, transaction
from django.db.utils import ConnectionHandler
from psycopg import conninfo
from sqlalchemy import orm

import mrl_db

DIMS = 4


def vectors(n):
    return np.random.default_rng(0).standard_normal((n, DIMS)).astype(np.float32)


@pytest.fixture
def docs(db, execute):
    execute("CREATE TABLE bills (id bigint PRIMARY KEY)")
    collection = db.create_collection("docs", dims=DIMS)
    execute("ALTER TABLE docs ADD FOREIGN KEY (id) REFERENCES bills (id)")
    return collection


@pytest.fixture
def engine(dsn):
    at = conninfo.conninfo_to_dict(dsn)
    url = sa.URL.create(
        "postgresql+psycopg", username=at["user"], database=at["dbname"], query={"host": at["host"]}
    )
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


class Base(orm.DeclarativeBase):
    pass


class Bill(Base):
    __tablename__ = "bills"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)


def test_a_session_of_sqlalchemy_commits_rows_and_vectors_together(docs, engine):
    with orm.Session(engine) as session:
        session.add_all([Bill(id=1), Bill(id=2)])
        assert docs.add([1, 2], vectors(2), connection=session) == 2  # it flushed: the key is there
        assert docs.search(vectors(2)[1], k=1, connection=session).ids.tolist() == [2]
        assert (docs.count(), docs.count(connection=session)) == (0, 2)
        session.rollback()
        assert docs.count(connection=session) == 0

        session.add_all([Bill(id=1), Bill(id=2)])
        docs.add([1, 2], vectors(2), connection=session)
        session.commit()

    assert docs.count() == 2


def test_what_fails_leaves_the_session_of_sqlalchemy_as_it_was(docs, engine):
    with orm.Session(engine) as session:
        session.add(Bill(id=1))
        docs.add([1], vectors(1), connection=session)
        with pytest.raises(mrl_db.DuplicateKeyError):
            docs.add([1], vectors(1), connection=session)
        with pytest.raises(mrl_db.DatabaseError, match="foreign key"):
            docs.add([7], vectors(1), connection=session)
        session.commit()

    assert docs.get([1, 7]).ids.tolist() == [1]


def test_a_connection_of_sqlalchemy_begins_as_it_does_by_itself(docs, engine, execute):
    execute("INSERT INTO bills VALUES (1), (2)")
    with engine.connect() as connection:
        docs.add([1], vectors(1), connection=connection)
        connection.commit()
        docs.add([2], vectors(1), connection=connection)
        connection.rollback()
        assert docs.count(connection=connection) == 1
    assert docs.count() == 1


def test_an_engine_of_sqlalchemy_commits_each_call(docs, engine, execute):
    execute("INSERT INTO bills VALUES (1), (2)")

    docs.add([1, 2], vectors(2), connection=engine)

    assert docs.count() == 2
    assert engine.pool.checkedout() == 0


def test_another_driver_is_refused_with_the_way_out(docs):
    class Session:
        autoflush = False

        def connection(self):
            return type("Connection", (), {"connection": type("Raw", (), {"driver_connection": 1})})

        def flush(self):
            raise AssertionError

    with pytest.raises(mrl_db.DtypeError, match=r"postgresql\+psycopg"):
        docs.add([1], vectors(1), connection=Session())


@pytest.fixture
def django(dsn):
    at = conninfo.conninfo_to_dict(dsn)
    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        django_setup()
    here = {"ENGINE": "django.db.backends.postgresql", "NAME": at["dbname"], "HOST": at["host"]}
    connection = ConnectionHandler({"default": {**here, "USER": at["user"]}})["default"]
    connections["default"] = connection
    yield connection
    connection.close()


def test_django_commits_rows_and_vectors_together(docs, django):
    with transaction.atomic():
        django.cursor().execute("INSERT INTO bills VALUES (1), (2)")
        docs.add([1, 2], vectors(2), connection=django)
        with pytest.raises(mrl_db.DuplicateKeyError):
            docs.add([2], vectors(1), connection=django)
        assert docs.count(connection=django) == 2
        assert docs.count() == 0
    assert docs.count() == 2

    with transaction.atomic():
        docs.delete([1], connection=django)
        assert docs.count(connection=django) == 1
        transaction.set_rollback(True)
    assert docs.count() == 2


def test_django_outside_of_atomic_commits_each_call(docs, django, execute):
    execute("INSERT INTO bills VALUES (1)")

    docs.add([1], vectors(1), connection=django)

    assert docs.count() == 1
    assert isinstance(django.connection, psycopg.Connection)
