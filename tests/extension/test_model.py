"""The life of an index: whatever comes, it answers as a sequential scan of its table does.

Two sessions. One writes, rolls back and maintains; the other keeps a snapshot, and both read by
cursors that stay open while rows, graphs and pages change. All searches here look at every code, so
distances are to be equal to the last bit; those of few candidates are to be true ones, and to be as
many as there are.
"""

from __future__ import annotations

import contextlib
import os

import hypothesis.strategies as st
import numpy as np
import psycopg
import pytest
from extension.conftest import check_indexes
from extension.tables import OPERATORS, clustered, plan, text
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

RUNS = int(os.environ.get("MRL_DB_INDEX_RUNS", "2"))
STEPS = 50
DIMS = 16
POOL = clustered(4000, DIMS, seed=9)
NO_DIRECTION = [np.zeros(DIMS, np.float32), None]
EXHAUSTIVE = 100_000

# What is indexed, its type, which rows, and storage parameters. {0}: vector or halfvec, {1}: metric.
INDEXES = {
    "plain": ("embedding", "{0}({2})", "true", ""),
    "prefix": ("embedding", "{0}({2})", "true", "WITH (dims = 8)"),
    "any width": ("embedding", "{0}", "true", "WITH (width = 16)"),
    "partial": ("embedding", "{0}({2})", "kind < 700", ""),
    "expression": ("(embedding::{0}({2}))", "vector({2})", "true", ""),
}
filters = st.sampled_from(["true", "kind < 200", "kind % 7 = 0", "id % 3 <> 0", "kind < 0"])
numbers = st.integers(0, len(POOL) - 1)
ids = st.integers(0, 6000)
limits = st.sampled_from([1, 10, 40, 100_000])


class Index(RuleBasedStateMachine):
    """Each rule is a statement, or a search of both kinds."""

    dsn = None

    # Its beginning and its end

    @initialize(
        shape=st.sampled_from(list(INDEXES)),
        type_name=st.sampled_from(["vector", "halfvec"]),
        metric=st.sampled_from(list(OPERATORS)),
        logged=st.sampled_from(["", "", "UNLOGGED"]),
        rows=st.sampled_from([0, 30, 1500, 3000]),
    )
    def begin(self, shape, type_name, metric, logged, rows):
        self.next_id, self.open_blocks, self.snapshot, self.cursors = 0, 0, False, {}
        self.session, self.other = (psycopg.connect(self.dsn, autocommit=True) for _ in range(2))
        self.warnings = []
        for session in (self.session, self.other):
            session.execute(f"SET mrl.effort = {EXHAUSTIVE}")
            session.add_notice_handler(
                lambda notice: (
                    self.warnings.append(notice.message_primary)
                    if notice.severity_nonlocalized == "WARNING"
                    else None
                )
            )
        column, column_type, self.where, options = (
            part.format(type_name, metric, DIMS) for part in INDEXES[shape]
        )
        self.run("DROP TABLE IF EXISTS docs; DROP SEQUENCE IF EXISTS asked")
        self.run(
            f"CREATE {logged} TABLE docs (id integer PRIMARY KEY, kind integer, "
            f"embedding {column_type})"
        )
        self.insert(0, rows)
        self.run(
            f"CREATE INDEX docs_mrl ON docs USING mrl ({column} {type_name}_{metric}_ops) "
            f"{options} WHERE {self.where}"
        )
        self.distance = f"{column} {OPERATORS[metric]} '{{}}'::{type_name}"

    def teardown(self):
        if hasattr(self, "session"):
            with contextlib.closing(self.session), contextlib.closing(self.other):
                self.end_blocks()
                check_indexes(self.session)
                assert self.warnings == []

    def run(self, statement):
        self.session.execute(statement)

    # Writes

    def insert(self, first, n):
        vectors = [POOL[(first + i) % len(POOL)] for i in range(n)]
        self.copy(vectors)

    def copy(self, vectors):
        with self.session.cursor().copy("COPY docs FROM STDIN") as copy:
            for vector in vectors:
                kind = self.next_id * 7919 % 1000
                copy.write_row((self.next_id, kind, None if vector is None else text(vector)))
                self.next_id += 1

    @rule(first=numbers, n=st.sampled_from([1, 1, 3, 40, 700]))
    def insert_rows(self, first, n):
        self.insert(first, n)

    @rule()
    def insert_what_has_no_direction(self):
        self.copy(NO_DIRECTION)

    @rule(number=numbers, n=st.sampled_from([2, 150]))
    def insert_copies(self, number, n):
        self.copy([POOL[number]] * n)

    @rule(low=ids, n=st.sampled_from([1, 50, 1500]), number=numbers)
    def update_vectors(self, low, n, number):
        self.run(
            f"UPDATE docs SET embedding = '{text(POOL[number])}' "
            f"WHERE id BETWEEN {low} AND {low + n - 1}"
        )

    @rule(low=ids, n=st.sampled_from([1, 200]))
    def update_kinds(self, low, n):
        """Where no index has the column, entries stay and lead to the new version."""
        self.run(
            f"UPDATE docs SET kind = (kind + 300) % 1000 WHERE id BETWEEN {low} AND {low + n - 1}"
        )

    @rule(low=ids, n=st.sampled_from([1, 300, 2500]))
    def delete(self, low, n):
        self.run(f"DELETE FROM docs WHERE id BETWEEN {low} AND {low + n - 1}")

    # Transactions

    @rule()
    def begin_block(self):
        self.run("BEGIN" if self.open_blocks == 0 else f"SAVEPOINT s{self.open_blocks}")
        self.open_blocks += 1

    @precondition(lambda self: self.open_blocks > 0)
    @rule(back=st.booleans())
    def end_block(self, back):
        self.open_blocks -= 1
        if self.open_blocks > 0:
            self.run(f"{'ROLLBACK TO' if back else 'RELEASE'} s{self.open_blocks}")
            if back:  # cursors that came since are gone
                self.run("CLOSE ALL")
                self.forget_cursors(self.session)
        else:
            self.run("ROLLBACK" if back else "COMMIT")
            self.forget_cursors(self.session)

    def end_blocks(self):
        """For what waits for all others to be over, or is refused in a transaction."""
        if self.open_blocks > 0:
            self.run("COMMIT")
        self.open_blocks = 0
        self.forget_cursors(self.session)
        self.close_snapshot()

    # Maintenance

    @precondition(lambda self: self.open_blocks == 0)
    @rule(how=st.sampled_from(["", "(INDEX_CLEANUP on)", "(INDEX_CLEANUP on)", "(FREEZE)"]))
    def vacuum(self, how):
        self.run(f"VACUUM {how} docs")

    @rule()
    def vacuum_full(self):
        self.end_blocks()
        self.run("VACUUM FULL docs")

    @rule(concurrently=st.sampled_from(["", "CONCURRENTLY"]))
    def reindex(self, concurrently):
        self.end_blocks()
        self.run(f"REINDEX INDEX {concurrently} docs_mrl")

    @rule()
    def truncate(self):
        self.close_snapshot()
        self.run("CLOSE ALL")
        self.forget_cursors(self.session)
        self.run("TRUNCATE docs")

    @rule(effort=st.sampled_from([EXHAUSTIVE, 0]))
    def alter(self, effort):
        self.end_blocks()
        self.run(f"ALTER INDEX docs_mrl SET (effort = {effort})")

    @precondition(lambda self: self.open_blocks == 0)
    @rule()
    def check(self):
        self.close_snapshot()
        check_indexes(self.session)

    # Searches

    def ask(self, session, statement):
        """The distances by the index, as they come."""
        session.execute(
            "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off"
        )
        return [row[-1] for row in session.execute(statement)]

    def expect(self, session, statement):
        """The same by a sequential scan: what has no distance is in no index."""
        session.execute("RESET enable_seqscan; RESET enable_sort; SET enable_indexscan = off")
        rows = [row[-1] for row in session.execute(statement)]
        session.execute("RESET enable_indexscan")
        return [row for row in rows if row is not None and row == row]

    def statement(self, number, where, limit=100_000, offset=0):
        distance = self.distance.format(text(POOL[number] + np.float32(0.01)))
        return (
            f"SELECT id, {distance} AS d FROM docs WHERE {self.where} AND {where} "
            f"ORDER BY {distance} LIMIT {limit} OFFSET {offset}"
        )

    def sessions(self):
        return [self.session, self.other] if self.snapshot else [self.session]

    @rule(number=numbers, where=filters, limit=limits, offset=st.sampled_from([0, 0, 25]))
    def search(self, number, where, limit, offset):
        statement = self.statement(number, where, limit, offset)
        for session in self.sessions():
            assert self.ask(session, statement) == self.expect(session, statement)
            self.ask(session, "SELECT 1")
            assert "docs_mrl" in plan(session, statement)

    @rule(number=numbers, where=filters, limit=limits, strict=st.booleans())
    def search_by_few_candidates(self, number, where, limit, strict):
        statement = self.statement(number, where, limit)
        everything = self.statement(number, where)
        for session in self.sessions():
            session.execute(f"SET mrl.effort = 4; SET mrl.strict_order = {strict}")
            got = self.ask(session, statement)
            session.execute(f"SET mrl.effort = {EXHAUSTIVE}; SET mrl.strict_order = off")
            there = self.expect(session, everything)
            assert len(got) == min(limit, len(there)) or (strict and len(got) <= len(there))
            assert not strict or got == sorted(got)
            assert all(np.isin(got, there))

    @rule(number=numbers, name=st.sampled_from("ab"), in_other=st.booleans())
    def declare(self, number, name, in_other):
        session = self.other if in_other else self.session
        if (in_other and not self.snapshot) or (not in_other and self.open_blocks == 0):
            return
        if (session, name) in self.cursors:
            session.execute(f"CLOSE {name}")
        statement = self.statement(number, "true")
        expected = self.expect(session, statement)
        self.ask(session, "SELECT 1")
        session.execute(f"DECLARE {name} CURSOR FOR {statement}")
        self.cursors[session, name] = expected

    @rule(n=st.sampled_from([1, 20, 900]))
    def fetch(self, n):
        for (session, name), expected in self.cursors.items():
            got = [row[-1] for row in session.execute(f"FETCH {n} FROM {name}")]
            assert got == expected[:n]
            del expected[:n]

    def forget_cursors(self, session):
        self.cursors = {key: rows for key, rows in self.cursors.items() if key[0] is not session}

    # The other session's snapshot

    @rule()
    def take_snapshot(self):
        self.close_snapshot()
        if self.open_blocks > 0:  # which may hold a lock of the table
            return
        self.other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        self.other.execute("SELECT count(*) FROM docs")
        self.snapshot = True

    def close_snapshot(self):
        self.other.execute("ROLLBACK") if self.snapshot else None
        self.snapshot = False
        self.forget_cursors(self.other)


@pytest.fixture
def life(new_database):
    """The machine, in a database of its own."""
    return type("Index", (Index,), {"dsn": new_database})


def test_an_index_answers_as_a_sequential_scan_whatever_comes(life):
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        ),
    )
