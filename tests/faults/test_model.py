"""A collection against a model of it, a dictionary and brute force, through whatever comes."""

import itertools
import os

import hypothesis.strategies as st
import numpy as np
import psycopg
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from psycopg import sql

import mrl_db

RUNS = int(os.environ.get("MRL_DB_MODEL_RUNS", "12"))
STEPS = 50
DIMS = 12
VECTORS = np.random.default_rng(3).standard_normal((40, DIMS)).astype(np.float32)
METRICS = {
    "cosine": lambda q, v: 1 - v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q),
    "inner_product": lambda q, v: -(v @ q),
    "l2": lambda q, v: np.linalg.norm(v - q, axis=1),
}
_names = itertools.count()

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

    @initialize(metric=st.sampled_from(list(METRICS)), attached=st.booleans(), way=ways)
    def begin(self, metric, attached, way):
        self.metric, self.name, self.rows = metric, f"life {next(_names)}", {}
        self.db = mrl_db.connect(self.dsn, pool_size=2)
        self.other = psycopg.connect(self.dsn, autocommit=True)
        self.table = sql.Identifier(self.name)
        if attached:
            self.sql(
                "CREATE TABLE {table} "
                "(id bigint PRIMARY KEY, embedding vector(12) NOT NULL, year integer)"
            )
            self.sql(
                "INSERT INTO {table} SELECT i, %s::vector, i %% 3 FROM generate_series(0, 9) AS i",
                [text(VECTORS[0])],
            )
            self.rows = {i: (0, i % 3) for i in range(10)}
            self.db.attach(f'"{self.name}"', metric=metric, low_dim="index")
        else:
            self.db.create_collection(
                self.name, dims=DIMS, metric=metric, columns={"year": "integer"}
            )
        self.docs = self.db.open(self.name)
        self.docs.load(**way)

    def teardown(self):
        if hasattr(self, "docs"):
            self.docs.unload()
            self.db.drop(self.name)
            self.sql("DROP TABLE IF EXISTS {table}")
            self.other.close()
            self.db.close()

    def sql(self, statement, parameters=()):
        return self.other.execute(sql.SQL(statement).format(table=self.table), parameters)

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
            "INSERT INTO {table} (id, embedding, year) VALUES (%s, %s::vector, %s) "
            "ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding, year = excluded.year",
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
        if any(key + by in self.rows for key in range(4)):
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
                "INSERT INTO {table} (id, embedding) VALUES (1000, %s::vector)",
                [text(VECTORS[number])],
            )
            self.compare(number, None)

    # What happens to this process

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

    def compare(self, number, year):
        query = VECTORS[number]
        wanted = sorted(key for key, row in self.rows.items() if year is None or row[1] == year)
        where = None if year is None else {"year": year}
        distances = METRICS[self.metric](
            query, VECTORS[[self.rows[key][0] for key in wanted]].reshape(-1, DIMS)
        )
        for engine in ("native", "sql"):
            hits = self.docs.search(query, k=len(self.rows) + 1, where=where, engine=engine)
            assert sorted(hits.ids.tolist()) == wanted, engine
            np.testing.assert_allclose(hits.distances, np.sort(distances), atol=2e-5)
            expected = dict(zip(wanted, distances.tolist(), strict=True))
            np.testing.assert_allclose(
                hits.distances, [expected[key] for key in hits.ids.tolist()], atol=2e-5
            )
        assert self.docs.count(where) == len(wanted)
        few = self.docs.search(query, k=3, where=where, engine="native")
        assert len(few.ids) == min(3, len(wanted))
        assert set(few.ids.tolist()) <= set(wanted)


def test_a_collection_lives_as_its_model_does(dsn, tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    machine = type("Life", (Life,), {"dsn": dsn})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        ),
    )
