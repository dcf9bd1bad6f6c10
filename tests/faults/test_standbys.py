"""Law 4 on a standby: whatever its primary's transactions do, searches there find its own rows.

Schedules of a few transactions are drawn at random: writes, savepoints and how they end, more
subtransactions than a standby keeps apart, prepared ones, rollbacks. After every step all is
replayed, and compared; at times it is searched meanwhile, or the log is cut before anybody does. Schedules run side by side, each on a table of its
own, so that one wait does for all of them.
"""

import contextlib
import itertools
import os

import numpy as np
import psycopg
import pytest
import standbys

import mrl_db

pytestmark = pytest.mark.carried

SCHEDULES = int(os.environ.get("MRL_DB_STANDBY_SCHEDULES", "40"))
PROMOTED_AFTER = 400  # schedules; and at the end
SIDE_BY_SIDE = 8
DIMS, KEYS, SUBTRANSACTIONS = 4, 5, 70
QUERY = np.full(DIMS, 0.25, np.float32)
NEAREST = "SELECT id, embedding <-> '[0.25,0.25,0.25,0.25]' FROM {}"


def vector(rng):
    return "[" + ",".join(f"{x:.4f}" for x in rng.standard_normal(DIMS)) + "]"


class Transaction:
    """One of a schedule's, step by step; its keys are its own, so that none waits for another."""

    def __init__(self, session, table, number, rng):
        self.session, self.table, self.number, self.rng = session, table, number, rng
        self.steps = self._drawn()

    def _drawn(self):
        """Yields what was done, once it is."""
        self.session.execute("BEGIN")
        savepoints = 0
        for _ in range(self.rng.integers(1, 5)):
            kind = self.rng.choice(
                ["upsert", "delete", "update", "savepoint", "many", "few"],
                p=[0.4, 0.2, 0.15, 0.15, 0.05, 0.05],
            )
            if kind == "savepoint" and savepoints and self.rng.random() < 0.6:
                how = self.rng.choice(["ROLLBACK TO", "RELEASE"])
                self.session.execute(f"{how} SAVEPOINT s{savepoints}")
                savepoints -= how == "RELEASE"
            elif kind == "savepoint":
                savepoints += 1
                self.session.execute(f"SAVEPOINT s{savepoints}")
            else:
                self.write(kind)
            yield kind
        yield from self._end()

    def write(self, kind):
        rng, table = self.rng, self.table
        key = self.number + 6 * int(rng.integers(KEYS))
        first = 1000 * (self.number + 1)
        if kind == "upsert":
            self.session.execute(
                f"INSERT INTO {table} (id, embedding) VALUES (%s, %s) "
                "ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding",
                (key, vector(rng)),
            )
        elif kind == "delete":
            self.session.execute(f"DELETE FROM {table} WHERE id = %s", (key,))
        elif kind == "update":
            self.session.execute(
                f"UPDATE {table} SET embedding = %s WHERE id %% 6 = %s AND id < 1000",
                (vector(rng), self.number),
            )
        elif kind == "few":
            self.session.execute(
                f"DELETE FROM {table} WHERE id BETWEEN {first} AND {first + SUBTRANSACTIONS}"
            )
        else:
            self.session.execute(
                f"DO $$ BEGIN FOR i IN 1..{SUBTRANSACTIONS} LOOP BEGIN "
                f"INSERT INTO {table} (id, embedding) VALUES ({first} + i, '{vector(rng)}') "
                "ON CONFLICT DO NOTHING; IF i % 7 = 0 THEN RAISE division_by_zero; END IF; "
                "EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
            )

    def _end(self):
        end = self.rng.choice(["COMMIT", "ROLLBACK", "PREPARED"], p=[0.6, 0.2, 0.2])
        if end == "PREPARED":
            name = f"{self.table} {self.number}"
            self.session.execute(f"PREPARE TRANSACTION '{name}'")
            yield "prepare"
            end = f"{self.rng.choice(['COMMIT', 'ROLLBACK'])} PREPARED '{name}'"
        self.session.execute(end)
        yield end


class Schedules:
    """A pair of servers, tables side by side, and their collections on the standby, loaded."""

    def __init__(self, primary, standby, db):
        self.primary, self.standby = primary, standby
        self.tables = [f"docs_{number}" for number in range(SIDE_BY_SIDE)]
        self.collections = [db.open(table) for table in self.tables]
        for docs in self.collections:
            docs.load(route="flat")
        self.sessions = [
            [psycopg.connect(primary.dsn, autocommit=True) for _ in range(6)] for _ in self.tables
        ]
        self.writing = psycopg.connect(primary.dsn, autocommit=True)
        self.writing.execute("SET lock_timeout = '20ms'")
        self.reading = psycopg.connect(standby.dsn, autocommit=True)
        self.steps = 0

    def replay(self, *, searching=False):
        """Waits until the standby has all that was done, committed or not; searches meanwhile."""
        self.writing.execute("SELECT pg_logical_emit_message(true, '', '')")  # flushes all before
        for docs in self.collections if searching else ():
            docs.search(QUERY, k=1, engine="native")
        (sent,) = self.writing.execute("SELECT pg_current_wal_lsn()").fetchone()
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        while not self.reading.execute(replayed, [sent]).fetchone()[0]:
            pass

    def cut(self):
        """Removes what was written up to now from the log, but for what still runs."""
        with contextlib.suppress(psycopg.errors.LockNotAvailable):  # a writer trims, by chance
            for _ in range(2):
                self.writing.execute("UPDATE mrl.moment SET at = at - interval '1 hour'")
                self.writing.execute("SELECT mrl.trim_changes()")

    def check(self, about):
        """Every search finds the standby's own rows, as they are."""
        for table, docs in zip(self.tables, self.collections, strict=True):
            hits = docs.search(QUERY, k=10_000, engine="native")
            found = dict(zip(hits.ids.tolist(), hits.distances.tolist(), strict=True))
            own = dict(self.reading.execute(NEAREST.format(table)).fetchall())
            assert found.keys() == own.keys(), (table, about)
            assert all(abs(found[key] - own[key]) < 1e-5 for key in own), (table, about)

    def run(self, seed, stop_after=None):
        """Runs one schedule on each table; gives up after so many steps."""
        rng = np.random.default_rng(seed)
        running = [
            [
                Transaction(session, table, number, rng)
                for number, session in enumerate(sessions[: rng.integers(2, 7)])
            ]
            for table, sessions in zip(self.tables, self.sessions, strict=True)
        ]
        for step in range(10_000 if stop_after is None else stop_after):
            for transactions in running:
                if transactions:
                    one = transactions[rng.integers(len(transactions))]
                    if next(one.steps, None) is None:
                        transactions.remove(one)
            cut = rng.random() < 0.1
            if cut:
                self.cut()
            self.replay(searching=rng.random() < 0.4)
            if not cut or rng.random() < 0.5:
                self.check((seed, step))
            self.steps += 1
            if not any(running):
                return

    def promote(self, seed):
        """Promotes the standby, goes on with it, then makes a new one of the old primary."""
        rng = np.random.default_rng(seed)
        standbys.promote(self.reading)
        self.check((seed, "promoted"))
        left = self.reading.execute("SELECT gid FROM pg_prepared_xacts").fetchall()
        for (gid,) in left:
            self.reading.execute(f"{rng.choice(['COMMIT', 'ROLLBACK'])} PREPARED '{gid}'")
            self.check((seed, gid))
        for number, table in enumerate(self.tables):
            for kind in ("upsert", "many", "delete", "update"):
                Transaction(self.reading, table, number % 6, rng).write(kind)
            self.check((seed, "written to"))
        self.reading.close()
        self.standby.stop()
        for sessions in self.sessions:
            for session in sessions:
                session.execute("ROLLBACK")
        for (gid,) in self.writing.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
            self.writing.execute(f"ROLLBACK PREPARED '{gid}'")
        self.standby.make()
        self.standby.start()
        self.reading = psycopg.connect(self.standby.dsn, autocommit=True)
        self.replay()
        self.check((seed, "made anew"))

    def close(self):
        for session in (self.writing, self.reading, *itertools.chain(*self.sessions)):
            session.close()


@pytest.fixture
def schedules(tmp_path, postgres_version):
    primary = standbys.new_primary(
        tmp_path, postgres_version, max_prepared_transactions="60", max_connections="120"
    )
    with mrl_db.connect(primary.dsn) as db:
        for number in range(SIDE_BY_SIDE):
            db.create_collection(f"docs_{number}", dims=DIMS, metric="l2")
    with psycopg.connect(primary.dsn, autocommit=True) as session:
        session.execute("SELECT mrl.log_for_standbys(name) FROM mrl.collection")
    with standbys.standby_of(primary) as standby, mrl_db.connect(standby.dsn) as db:
        running = Schedules(primary, standby, db)
        yield running
        running.close()
    primary.embedded.release()


def test_schedules_of_the_primary_as_a_standby_finds_them(schedules):
    for seed in range(0, SCHEDULES, SIDE_BY_SIDE):
        schedules.run(seed)
        if seed % PROMOTED_AFTER == PROMOTED_AFTER - SIDE_BY_SIDE:
            schedules.run(SCHEDULES + seed, stop_after=6)
            schedules.promote(seed)
            print(f"{seed + SIDE_BY_SIDE} schedules, {schedules.steps} steps", flush=True)
    schedules.run(SCHEDULES, stop_after=6)
    schedules.promote(SCHEDULES)
