"""A collection against a model of it, a dictionary and brute force, through whatever comes."""

import itertools
import os
import signal
import subprocess
import traceback

import hypothesis.strategies as st
import numpy as np
import psycopg
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from psycopg import conninfo, sql

import mrl_db
from mrl_db.postgres import statements
from mrl_db.postgres.server import programs

RUNS = int(os.environ.get("MRL_DB_MODEL_RUNS", "7"))
STEPS = 50
DIMS = 12
VECTORS = np.random.default_rng(3).standard_normal((40, DIMS)).astype(np.float32)
METRICS = {
    "cosine": lambda q, v: 1 - v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q),
    "inner_product": lambda q, v: -(v @ q),
    "l2": lambda q, v: np.linalg.norm(v - q, axis=1),
}
_names = itertools.count()
TABLES = {  # of the user's, by what is uncommon about them
    "plain": "id bigint PRIMARY KEY, embedding vector(12) NOT NULL, year integer",
    "identity": "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "embedding vector(12) NOT NULL, year integer",
    "any width": "id bigint PRIMARY KEY, embedding vector, year integer",
}
POLICY = "year IS NULL OR year < 3"
CHILD_SECONDS = 60

keys = st.lists(st.integers(-20, 60), unique=True, min_size=1, max_size=8)
which = st.integers(0, len(VECTORS) - 1)
years = st.none() | st.integers(0, 4)
ways = st.sampled_from(
    [{}, {"route": "flat"}, {"rows": "postgres"}, {"build": "fast", "cache": False}]
)


def text(vector):
    return "[" + ",".join(repr(float(x)) for x in vector) + "]"


class Life(RuleBasedStateMachine):
    """Each rule does the same to the collection and to `self.rows`: key -> (vector, year)."""

    dsn = None
    server = None
    as_superuser = True

    @initialize(
        metric=st.sampled_from(list(METRICS)),
        kind=st.none() | st.sampled_from(list(TABLES)),
        way=ways,
    )
    def begin(self, metric, kind, way):
        self.metric, self.kind, self.rows = metric, kind, {}
        self.name = f"life {next(_names)}"
        self.place, self.database, self.dumps = (self.name,), self.dsn, 0  # of the table
        self.connect()
        if kind is None:
            self.db.create_collection(
                self.name, dims=DIMS, metric=metric, columns={"year": "integer"}
            )
        else:
            self.sql(f"CREATE TABLE {{table}} ({TABLES[kind]})")
            self.sql(
                "INSERT INTO {table} OVERRIDING SYSTEM VALUE "
                "SELECT i, %s::vector, i %% 3 FROM generate_series(0, 9) AS i",
                [text(VECTORS[0])],
            )
            self.rows = {i: (0, i % 3) for i in range(10)}
            self.db.attach(f'"{self.name}"', metric=metric, low_dim="index", dims=DIMS)
        self.docs = self.db.open(self.name)
        self.docs.load(**way)

    @property
    def table(self):
        return sql.Identifier(*self.place)

    def connect(self):
        self.db = mrl_db.connect(self.database, pool_size=2)
        self.other = psycopg.connect(self.database, autocommit=True)

    def teardown(self):
        if hasattr(self, "docs"):
            self.docs.unload()
            self.db.drop(self.name)
            self.sql("DROP TABLE IF EXISTS {table}")
            self.other.close()
            self.db.close()
            if self.database != self.dsn:
                self.drop_database(self.database)

    def sql(self, statement, parameters=(), **names):
        return self.other.execute(sql.SQL(statement).format(table=self.table, **names), parameters)

    # Writes through mrl_db

    @rule(chosen=keys, first=which, year=years)
    def add(self, chosen, first, year):
        numbers = [(first + i) % len(VECTORS) for i in range(len(chosen))]
        if set(chosen) & set(self.rows):
            with pytest.raises(mrl_db.DuplicateKeyError):
                self.docs.add(chosen, VECTORS[numbers], year=[year] * len(chosen))
            return
        self.docs.add(chosen, VECTORS[numbers], year=[year] * len(chosen))
        self.rows.update({key: (number, year) for key, number in zip(chosen, numbers, strict=True)})

    @rule(chosen=keys, first=which)
    def upsert(self, chosen, first):
        numbers = [(first + i) % len(VECTORS) for i in range(len(chosen))]
        self.docs.upsert(chosen, VECTORS[numbers])
        for key, number in zip(chosen, numbers, strict=True):
            self.rows[key] = (number, self.rows.get(key, (0, None))[1])

    @rule(chosen=keys)
    def delete(self, chosen):
        assert self.docs.delete(chosen) == len(set(chosen) & set(self.rows))
        self.forget(lambda key, _: key in chosen)

    @rule(year=st.integers(0, 4))
    def delete_where(self, year):
        assert self.docs.delete(where={"year": year}) == sum(
            row[1] == year for row in self.rows.values()
        )
        self.forget(lambda _, row: row[1] == year)

    def forget(self, gone):
        self.rows = {key: row for key, row in self.rows.items() if not gone(key, row)}

    # Writes by another client

    @rule(key=st.integers(-20, 60), number=which, year=years)
    def others_upsert(self, key, number, year):
        self.sql(
            "INSERT INTO {table} (id, embedding, year) OVERRIDING SYSTEM VALUE "
            "VALUES (%s, %s::vector, %s) ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding, year = excluded.year",
            (key, text(VECTORS[number]), year),
        )
        self.rows[key] = (number, year)

    @rule(low=st.integers(-20, 60), year=years)
    def others_update_years(self, low, year):
        self.sql("UPDATE {table} SET year = %s WHERE id >= %s", (year, low))
        self.rows = {
            key: (row[0], year if key >= low else row[1]) for key, row in self.rows.items()
        }

    @rule(by=st.sampled_from([100, -100]))
    def others_change_keys(self, by):
        if self.kind == "identity" or any(key + by in self.rows for key in range(4)):
            return
        self.sql("UPDATE {table} SET id = id + %s WHERE id BETWEEN 0 AND 3", (by,))
        moved = {key + by if 0 <= key <= 3 else key: row for key, row in self.rows.items()}
        self.rows = moved

    @rule(low=st.integers(-20, 60))
    def others_delete(self, low):
        self.sql("DELETE FROM {table} WHERE id BETWEEN %s AND %s", (low, low + 5))
        self.forget(lambda key, _: low <= key <= low + 5)

    @rule()
    def others_truncate(self):
        self.sql("TRUNCATE {table}")
        self.rows = {}

    @rule()
    def others_trim(self):
        self.other.execute("SELECT mrl.trim_changes()")

    @rule()
    def others_rewrite(self):
        self.sql("VACUUM FULL {table}")

    @rule(number=which)
    def abort(self, number):
        with self.other.transaction(force_rollback=True):
            self.sql("DELETE FROM {table} WHERE id %% 2 = 0")
            self.sql(
                "INSERT INTO {table} (id, embedding) OVERRIDING SYSTEM VALUE "
                "VALUES (1000, %s::vector)",
                [text(VECTORS[number])],
            )
            self.compare(number, None)

    @rule(width=st.sampled_from([1, DIMS - 1, DIMS + 1]))
    def others_insert_another_width(self, width):
        wrong = (psycopg.errors.CheckViolation, psycopg.errors.DataException)
        with pytest.raises(wrong):
            self.sql(
                "INSERT INTO {table} (id, embedding) OVERRIDING SYSTEM VALUE VALUES (2000, %s::vector)",
                [text(np.ones(width))],
            )

    # What happens to the table

    @rule()
    def others_rename(self):
        name = f"renamed {next(_names)}"
        self.sql("ALTER TABLE {table} RENAME TO {name}", name=sql.Identifier(name))
        self.place = (*self.place[:-1], name)

    @rule()
    def others_move(self):
        schema = f"schema {next(_names)}"
        self.sql("CREATE SCHEMA {schema}", schema=sql.Identifier(schema))
        self.sql("ALTER TABLE {table} SET SCHEMA {schema}", schema=sql.Identifier(schema))
        self.place = (schema, self.place[-1])

    @rule(number=which)
    def others_see_what_a_policy_lets_them(self, number):
        """A role under row-level security, by SQL; what is loaded would not be, and is refused."""
        if not self.as_superuser:
            return
        self.sql("DROP POLICY IF EXISTS own ON {table}")
        self.sql(f"CREATE POLICY own ON {{table}} USING ({POLICY})")
        self.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        self.sql("GRANT SELECT ON {table} TO life_reader")
        for schema in self.place[:-1]:
            self.sql("GRANT USAGE ON SCHEMA {schema} TO life_reader", schema=sql.Identifier(schema))
        role = conninfo.make_conninfo(self.database, user="life_reader")
        with mrl_db.connect(role, pool_size=1) as db:
            docs = db.open(self.name)
            hits = docs.search(VECTORS[number], k=len(self.rows) + 1)
            with pytest.raises(mrl_db.RowSecurityError):
                docs.load(cache=False)
        let = (key for key, row in self.rows.items() if row[1] is None or row[1] < 3)
        assert sorted(hits.ids.tolist()) == sorted(let)
        with pytest.raises(mrl_db.RowSecurityError):
            self.docs.search(VECTORS[number], engine="native")
        self.sql("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        self.compare(number, None)

    @rule(number=which, way=ways)
    def dump_and_restore(self, number, way):
        """The life goes on in the other database."""
        if not self.as_superuser or self.dumps == 2:
            return
        self.dumps += 1
        before = self.database
        self.database = conninfo.make_conninfo(self.dsn, dbname=f"restored_{next(_names)}")
        self.administrate("CREATE DATABASE {}", self.database)
        dump = self.run("pg_dump", "-d", before, input=None)
        self.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.database, input=dump)
        self.docs.unload()
        self.db.close()
        self.other.close()
        self.connect()
        self.docs = self.db.open(self.name)
        self.compare(number, None, ("sql",))
        self.docs.load(**way)
        self.compare(number, None)
        if before != self.dsn:
            self.drop_database(before)

    def run(self, name, *arguments, input):
        done = subprocess.run(
            [self.server.binaries.program(name), *arguments],
            input=input,
            capture_output=True,
            env=programs.environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def drop_database(self, dsn):
        self.administrate("DROP DATABASE {} WITH (FORCE)", dsn)

    def administrate(self, statement, dsn):
        name = sql.Identifier(conninfo.conninfo_to_dict(dsn)["dbname"])
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(name))

    # What happens to this process

    @rule(number=which)
    def fork(self, number):
        """The child answers as its parent does, while both write."""
        child = os.fork()
        if child == 0:
            status = 1
            signal.alarm(CHILD_SECONDS)
            try:
                self.compare(number, None)
                self.docs.upsert([500], VECTORS[number : number + 1])
                self.rows[500] = (number, None)
                self.compare(number, None)
                assert self.docs.delete([500]) == 1
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        self.compare(number, None)

    @rule(way=ways)
    def restart(self, way):
        self.docs.unload()
        self.docs = self.db.open(self.name)
        self.docs.load(**way)

    @rule()
    def cut(self):
        self.other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        count = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        while self.other.execute(count).fetchone()[0]:
            continue

    # Answers

    @rule(number=which, year=st.none() | st.integers(0, 4))
    def search(self, number, year):
        self.compare(number, year)

    def compare(self, number, year, engines=("native", "sql")):
        query = VECTORS[number]
        wanted = sorted(key for key, row in self.rows.items() if year is None or row[1] == year)
        where = None if year is None else {"year": year}
        distances = METRICS[self.metric](
            query, VECTORS[[self.rows[key][0] for key in wanted]].reshape(-1, DIMS)
        )
        for engine in engines:
            hits = self.docs.search(query, k=len(self.rows) + 1, where=where, engine=engine)
            assert sorted(hits.ids.tolist()) == wanted, engine
            np.testing.assert_allclose(hits.distances, np.sort(distances), atol=2e-5)
            expected = dict(zip(wanted, distances.tolist(), strict=True))
            np.testing.assert_allclose(
                hits.distances, [expected[key] for key in hits.ids.tolist()], atol=2e-5
            )
        assert self.docs.count(where) == len(wanted)
        few = self.docs.search(query, k=3, where=where, engine=engines[0])
        assert len(few.ids) == min(3, len(wanted))
        assert set(few.ids.tolist()) <= set(wanted)


@pytest.fixture
def life(dsn, server, tmp_path, monkeypatch):
    """The machine, and a role that policies bind where the tests may make one."""
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        as_superuser = connection.execute("SHOW is_superuser").fetchone() == ("on",)
        if as_superuser:
            connection.execute("DROP ROLE IF EXISTS life_reader; CREATE ROLE life_reader LOGIN")
            grants = (statements.sql_folder() / "grants.sql").read_text()
            connection.execute(grants.replace(':"role"', "life_reader"))
    return type(
        "Life", (Life,), {"dsn": dsn, "server": server.server, "as_superuser": as_superuser}
    )


def test_a_collection_lives_as_its_model_does(life):
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        ),
    )
