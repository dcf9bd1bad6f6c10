"""A database that was dumped and restored, upgraded or brought back from an archive is whole.

Whatever the way, searches, promises and loaded rows are what they were, and what is written
afterwards is found. One way and one type of key each by default; MRL_DB_RESTORES=all takes every
way with every type.
"""

import os
import shutil
import subprocess
import time
import uuid
from itertools import product

import numpy as np
import psycopg
import pytest
from psycopg import conninfo

import mrl_db
from mrl_db.postgres.server import programs
from mrl_db.postgres.server.embedded import EmbeddedServer

pytestmark = pytest.mark.superuser

DIMS, N = 16, 300
OWNER = "restored_owner"
KEYS = {
    "bigint": lambda i: i,
    "uuid": lambda i: uuid.UUID(int=i + 1),
    "text": lambda i: f"row {i:04} é",
}


class Dump:
    """pg_dump and its kin on two databases of one server."""

    def __init__(self, server, source, target, folder):
        self.server, self.source, self.target, self.folder = server, source, target, folder

    def run(self, name, *arguments, passes=True):
        done = subprocess.run(
            [self.server.server.binaries.program(name), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=programs.environment(),
            check=False,
        )
        assert not passes or done.returncode == 0, done.stderr
        return done.stderr

    def dump(self, *arguments, file="dump"):
        path = self.folder / file
        self.run("pg_dump", "-d", self.source, "-f", path, *arguments)
        return path

    def restore(self, *arguments, dsn=None):
        self.run("pg_restore", "--exit-on-error", "-d", dsn or self.target, *arguments)

    def psql(self, path, dsn=None):
        self.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn or self.target, "-f", path)

    @property
    def as_owner(self):
        """The target, for a role that owns the database and is no superuser."""
        return conninfo.make_conninfo(self.target, user=OWNER)

    def extensions_exist(self):
        with psycopg.connect(self.target, autocommit=True) as session:
            session.execute("CREATE EXTENSION vector; CREATE EXTENSION mrl_db")


def plain(d):
    d.psql(d.dump())


def plain_as_inserts(d):
    d.psql(d.dump("--rows-per-insert=50"))


def plain_where_extensions_exist(d):
    d.extensions_exist()
    d.psql(d.dump())


def custom(d):
    d.restore(d.dump("-Fc"))


def custom_without_owner(d):
    d.restore("--no-owner", "--no-privileges", d.dump("-Fc"))


def tar_in_one_transaction(d):
    d.restore("--single-transaction", d.dump("-Ft"))


def directory_in_parallel(d):
    d.restore("-j", "3", d.dump("-Fd", "-j", "2"))


def schema_then_data(d):
    d.psql(d.dump("--schema-only"))
    d.psql(d.dump("--data-only", file="data"))


def schema_then_data_in_parallel(d):
    path = d.dump("-Fd", "-j", "2")
    d.restore("--schema-only", path)
    d.restore("--data-only", "--disable-triggers", "-j", "3", path)
    with psycopg.connect(d.target, autocommit=True) as session:  # as docs/schema.md says
        session.execute("SELECT mrl.log_changes(name) FROM mrl.collection")


def in_sections(d):
    path = d.dump("-Fc")
    for section in ("pre-data", "data", "post-data"):
        d.restore(f"--section={section}", path)


def owner_without_superuser(d):
    d.extensions_exist()
    path = d.dump("-Fc", "--no-comments")
    d.restore("--no-owner", path, dsn=d.as_owner)


def owner_without_superuser_in_plain(d):
    d.extensions_exist()
    d.psql(d.dump("--no-owner", "--no-comments"), dsn=d.as_owner)


WAYS = (
    plain,
    plain_as_inserts,
    plain_where_extensions_exist,
    custom,
    custom_without_owner,
    tar_in_one_transaction,
    directory_in_parallel,
    schema_then_data,
    schema_then_data_in_parallel,
    in_sections,
    owner_without_superuser,
    owner_without_superuser_in_plain,
)
CASES = (
    list(product(WAYS, KEYS))
    if os.environ.get("MRL_DB_RESTORES") == "all"
    else [
        (custom, "bigint"),
        (owner_without_superuser, "uuid"),
        (schema_then_data, "text"),
    ]
)


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(4).standard_normal((N, DIMS)).astype(np.float32)


@pytest.fixture
def new_database(server):
    """Makes an empty database, owned by a role that is no superuser; returns its name's DSN."""
    made = []
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute(f"DROP ROLE IF EXISTS {OWNER}; CREATE ROLE {OWNER} LOGIN")

    def make(name):
        name = f"{name}_{os.getpid()}"
        with psycopg.connect(server.dsn, autocommit=True) as session:
            session.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {OWNER}")
        made.append(name)
        return conninfo.make_conninfo(server.dsn, dbname=name)

    yield make
    with psycopg.connect(server.dsn, autocommit=True) as session:
        for name in made:
            session.execute(f"DROP DATABASE {name} WITH (FORCE)")


PARTITIONS = "".join(
    f"CREATE TABLE news.articles_{i} PARTITION OF news.articles FOR VALUES WITH (MODULUS 3, REMAINDER {i});"
    for i in range(3)
)


def fill(dsn, vectors, key_type, partitions=""):
    """A table of a user's, whose columns' numbers a restore changes, with all that hangs on it."""
    key = KEYS[key_type]
    by = "PARTITION BY HASH (id)" if partitions else ""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(
            f"CREATE SCHEMA news; CREATE TABLE news.articles (old text, id {key_type} PRIMARY KEY,"
            f" older text, embedding vector({DIMS}) NOT NULL, title text) {by}; {partitions}"
            "ALTER TABLE news.articles DROP COLUMN old, DROP COLUMN older"
        )
    with mrl_db.connect(dsn) as db:
        docs = db.attach("news.articles", nesting_dims=(8, DIMS))
        docs.add([key(i) for i in range(N)], vectors, title=[f"title {i}" for i in range(N)])
        docs.create_index()
        promise = docs.tune(recall=0.9, k=5, queries=vectors[:120] + 0.01, budget_seconds=2)
        docs.load()
        hits = docs.search(vectors[:10], k=5)
        return {"ids": hits.ids.tolist(), "promise": promise, "key": key, "kind": docs.index_kind}


def check(dsn, vectors, expected):
    """All that the first database could do."""
    key = expected["key"]
    with mrl_db.connect(dsn) as db, psycopg.connect(dsn, autocommit=True) as client:
        docs = db.open("articles")
        assert docs.index_kind == expected["kind"] == "mrl"
        for _ in range(2):  # the first look takes the rows for those that it was measured on
            assert docs.promise.recall == expected["promise"].recall
            assert docs.promise.stale is None
        for engine in ("sql", "native"):
            if engine == "native":
                docs.load()
            assert docs.search(vectors[:10], k=5, engine=engine).ids.tolist() == expected["ids"]
        text = str(vectors[7].tolist())
        by_function = client.execute(
            "SELECT id FROM mrl.search_articles(%s::vector, 5)", (text,)
        ).fetchall()
        assert [row[0] for row in by_function] == expected["ids"][7]
        client.execute("SET enable_seqscan = off")
        plan = client.execute(
            f"EXPLAIN SELECT id FROM news.articles ORDER BY embedding <=> '{text}' LIMIT 5"
        ).fetchall()
        assert "Index Scan using" in str(plan)

        # What another client writes now, the loaded rows follow.
        probe = vectors[11] + vectors[12]
        client.execute(
            "INSERT INTO news.articles VALUES (%s, %s::vector, 'new')",
            (key(5000), str(probe.tolist())),
        )
        client.execute("DELETE FROM news.articles WHERE id = %s", (key(20),))
        client.execute(
            "UPDATE news.articles SET embedding = %s::vector WHERE id = %s",
            (str((-vectors[30]).tolist()), key(31)),
        )
        for engine in ("native", "sql"):
            assert docs.search(probe, k=1, engine=engine).ids.tolist() == [key(5000)]
            assert key(20) not in docs.search(vectors[20], k=3, engine=engine).ids.tolist()
            assert docs.search(-vectors[30], k=1, engine=engine).ids.tolist() == [key(31)]
        docs.upsert([key(5001)], [vectors[3]], title=["mine"])
        assert key(5001) in docs.search(vectors[3], k=2).ids.tolist()
        assert docs.count() == N + 1
        client.execute("UPDATE news.articles SET title = 'again' WHERE title < 'title 2'")
        docs.unload()
        assert "written since" in docs.promise.stale


@pytest.mark.parametrize(("way", "key_type"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_restored_database_is_whole(server, new_database, tmp_path, vectors, way, key_type):
    source, target = new_database("dumped"), new_database("restored")
    with psycopg.connect(source, autocommit=True) as session:
        session.execute("CREATE EXTENSION vector; CREATE EXTENSION mrl_db")
    as_owner = way in (owner_without_superuser, owner_without_superuser_in_plain)
    expected = fill(conninfo.make_conninfo(source, user=OWNER), vectors, key_type)

    way(Dump(server, source, target, tmp_path))

    check(conninfo.make_conninfo(target, user=OWNER) if as_owner else target, vectors, expected)


@pytest.mark.parametrize(
    ("way", "key_type"),
    CASES if os.environ.get("MRL_DB_RESTORES") == "all" else [(owner_without_superuser, "uuid")],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_restored_partitioned_collection_is_whole(
    server, new_database, tmp_path, vectors, way, key_type
):
    """As any other; what is written straight into a partition is logged there, too."""
    source, target = new_database("dumped"), new_database("restored")
    with psycopg.connect(source, autocommit=True) as session:
        session.execute("CREATE EXTENSION vector; CREATE EXTENSION mrl_db")
    as_owner = way in (owner_without_superuser, owner_without_superuser_in_plain)
    owner = conninfo.make_conninfo(source, user=OWNER)
    expected = fill(owner, vectors, key_type, PARTITIONS)

    way(Dump(server, source, target, tmp_path))

    restored = conninfo.make_conninfo(target, user=OWNER) if as_owner else target
    check(restored, vectors, expected)
    with mrl_db.connect(restored) as db, psycopg.connect(restored, autocommit=True) as client:
        docs = db.open("articles")
        docs.load()
        for i in range(3):
            client.execute(f"DELETE FROM news.articles_{i}")
            assert len(docs.search(vectors[0], k=N, engine="native").ids) == docs.count()


def test_where_the_extension_is_not_the_log_is_made_without_it(
    server, new_database, tmp_path, vectors
):
    """Its triggers and indexes cannot be restored; whoever loads next makes triggers in SQL."""
    source, target = new_database("dumped"), new_database("restored")
    for dsn, extension in (
        (source, "CREATE EXTENSION mrl_db CASCADE"),
        (target, "CREATE EXTENSION vector"),
    ):
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute(extension)
    expected = fill(conninfo.make_conninfo(source, user=OWNER), vectors, "bigint")
    dump = Dump(server, source, target, tmp_path)
    path, contents = dump.dump("-Fc", "--no-comments"), tmp_path / "contents"
    dump.run("pg_restore", "-l", "-f", contents, path)
    kept = [line for line in contents.read_text().splitlines() if " EXTENSION " not in line]
    contents.write_text("\n".join(kept))

    said = dump.run(
        "pg_restore", "--no-owner", "-L", contents, "-d", dump.as_owner, path, passes=False
    )

    assert "mrl_log_change() does not exist" in said
    with mrl_db.connect(dump.as_owner) as db, psycopg.connect(target, autocommit=True) as client:
        docs = db.open("articles")
        docs.load()
        called = "SELECT DISTINCT tgfoid::regproc::text FROM pg_trigger WHERE tgname ^@ 'mrl_log_'"
        assert client.execute(called).fetchall() == [("mrl.log_of_articles",)]
        assert docs.search(vectors[:10], k=5, engine="native").ids.tolist() == expected["ids"]
        client.execute("DELETE FROM news.articles WHERE id = 20")
        assert 20 not in docs.search(vectors[20], k=3, engine="native").ids.tolist()


@pytest.fixture
def archiving(tmp_path, postgres_version):
    """A server whose WAL goes into an archive."""
    archive = tmp_path / "archive"
    programs.owned_by_server(archive)
    server = EmbeddedServer(
        tmp_path / "first",
        version=postgres_version,
        settings={
            "archive_mode": "on",
            "archive_command": f'cp "%p" "{archive}/%f"',
            "fsync": "off",
            "shared_buffers": "64MB",
        },
    )
    yield server
    server.release()


@pytest.mark.carried
def test_a_database_brought_back_to_a_moment_is_that_moments(
    archiving, tmp_path, vectors, postgres_version
):
    """By a base backup and the WAL since: rows that were loaded later than the moment are not taken."""
    second = tmp_path / "second"
    with psycopg.connect(archiving.dsn, autocommit=True) as session:
        session.execute("CREATE EXTENSION vector; CREATE EXTENSION mrl_db")
        expected = fill(archiving.dsn, vectors, "bigint")
        base_backup(session, archiving.home / "data", second)
        add = "INSERT INTO news.articles VALUES (%s, %s::vector, 'late')"
        session.execute(add, (3000, str((vectors[1] + vectors[2]).tolist())))
        session.execute("SELECT pg_create_restore_point('moment')")
        session.execute(add, (3001, str((vectors[3] + vectors[4]).tolist())))
        with mrl_db.connect(archiving.dsn) as db:
            docs = db.open("articles")
            docs.load()
            assert docs.search(vectors[3] + vectors[4], k=1).ids.tolist() == [3001]
        session.execute("SELECT pg_switch_wal()")
    archiving.release()
    recovered = EmbeddedServer(
        second,
        settings={
            "restore_command": f'cp "{tmp_path}/archive/%f" "%p"',
            "recovery_target_name": "moment",
            "recovery_target_action": "promote",
            "shared_buffers": "64MB",
        },
    )
    try:
        wait_for_the_end_of_recovery(recovered.dsn)
        with mrl_db.connect(recovered.dsn) as db:
            docs = db.open("articles")
            docs.load()
            for engine in ("native", "sql"):
                before, after = vectors[1] + vectors[2], vectors[3] + vectors[4]
                assert docs.search(before, k=1, engine=engine).ids.tolist() == [3000]
                assert docs.search(after, k=1, engine=engine).ids.tolist() != [3001]
            docs.delete([3000])
        check(recovered.dsn, vectors, expected)
    finally:
        recovered.release()


def base_backup(session, data, home):
    """Copies a cluster while it runs."""
    session.execute("SELECT pg_backup_start('base', fast => true)")
    home.mkdir(mode=0o700)
    try:
        shutil.copytree(
            data, home / "data", ignore=lambda _, names: {"postmaster.pid"} & set(names)
        )
    except shutil.Error as error:  # a file that goes meanwhile is dropped by the log, too
        if any(os.path.exists(source) for source, _, _ in error.args[0]):
            raise
    label = session.execute("SELECT labelfile FROM pg_backup_stop()").fetchone()[0]
    (home / "data" / "backup_label").write_text(label)
    (home / "data" / "recovery.signal").touch()
    owner = data.stat()
    for path in [home / "data", *(home / "data").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def wait_for_the_end_of_recovery(dsn):
    with psycopg.connect(dsn, autocommit=True) as session:
        for _ in range(200):
            if session.execute("SELECT NOT pg_is_in_recovery()").fetchone()[0]:
                return
            time.sleep(0.05)
    raise AssertionError("the server stayed in recovery")
