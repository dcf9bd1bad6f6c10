"""The stores of frameworks; a framework that is not installed is left out.

All tests of a module share a database, and each has collections of its own.
"""

import psycopg
import pytest
from needs import lacking
from psycopg import conninfo

import mrl_db

collect_ignore = lacking(
    {
        "test_langchain.py": ("langchain_tests",),
        "test_llama_index.py": ("llama_index", "pytest_asyncio"),
        "test_haystack.py": ("haystack", "pytest_asyncio"),
    }
)


def pytest_configure(config):
    """LangChain's coroutines have no marks that would say what runs them."""
    config.option.asyncio_mode = "auto"


@pytest.fixture(scope="module")
def shared_dsn(server, request):
    """The connection string of a database that the module's tests share."""
    name = request.module.__name__.rpartition(".")[2]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_mrl STRATEGY file_copy")
    yield conninfo.make_conninfo(server.dsn, dbname=name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def shared_db(shared_dsn):
    """The database, open."""
    with mrl_db.connect(shared_dsn) as database:
        yield database


@pytest.fixture
def empty_db(shared_db):
    """The database without collections, but for what a module's fixture keeps."""
    for name in shared_db.list():
        if not name.startswith("kept"):
            shared_db.drop(name)
    return shared_db
