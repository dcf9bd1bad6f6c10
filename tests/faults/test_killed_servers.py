"""Two servers of a collection in parts, killed under searches and writes; MRL_DB_SERVER_KILLS=100 for longer.

An answer is right and complete, or says what it lacks, or is an error that names the server; a row
that was acknowledged is in every later answer that does not say so.
"""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import psycopg
import pytest

import mrl_db
from mrl_db import parts
from mrl_db.parts import home_of

KILLS = int(os.environ.get("MRL_DB_SERVER_KILLS", "2"))
DIMS, BATCH, K = 16, 10, 5
FLAT = mrl_db.Plan("flat", 1, (mrl_db.Stage(DIMS, mrl_db.Precision.float32, K),))
SECONDS = 60.0  # after which a server that does not come back is an error


def vectors_of(batch):
    """Whole numbers, whose sums of squares are the same in float32 and float64."""
    return np.random.default_rng(batch).integers(-9, 10, (BATCH, DIMS)).astype(np.float32)


class Written:
    """The batches that were acknowledged, and what must be found of them."""

    def __init__(self):
        self.batches = []

    def now(self):
        """Returns keys, vectors and homes of all rows that were acknowledged by now."""
        batches = list(self.batches)
        keys = np.concatenate([np.arange(BATCH) + BATCH * batch for batch in batches])
        homes = np.array([home_of(int(key), 2) for key in keys])
        return keys, np.concatenate([vectors_of(batch) for batch in batches]), homes


def write(docs, written, stop):
    """Adds batches, each again under its batch_id until it is acknowledged."""
    batch = 0
    while not stop.is_set():
        try:
            docs.add(np.arange(BATCH) + BATCH * batch, vectors_of(batch), batch_id=f"batch {batch}")
        except (mrl_db.PartlyWrittenError, mrl_db.CommitUncertain, mrl_db.ConnectError):
            continue
        written.batches.append(batch)
        batch += 1
        time.sleep(0.005)


def check(hits, query, keys, vectors, homes):
    """Compares hits with the rows that were acknowledged before the search began.

    Others may be among them: they were written meanwhile, or are half of a batch.
    """
    answering = ~np.isin(homes, hits.missing)
    distances = np.sqrt(((vectors[answering] - query).astype(np.float64) ** 2).sum(axis=1))
    of_key = dict(zip(keys[answering].tolist(), distances.tolist(), strict=True))
    assert len(hits.ids) >= min(K, len(of_key)), (hits, hits.missing)
    assert len(set(hits.ids.tolist())) == len(hits.ids)
    for key, distance in zip(hits.ids.tolist(), hits.distances.tolist(), strict=True):
        own = vectors_of(key // BATCH)[key % BATCH]
        true = float(np.sqrt(((own - query).astype(np.float64) ** 2).sum()))
        assert abs(distance - true) < 1e-5, (key, distance, true)
    last = float(hits.distances[-1])
    nearer = {key for key, distance in of_key.items() if distance < last - 1e-5}
    assert nearer <= set(hits.ids.tolist()), (nearer, hits, hits.missing)


def search(docs, written, options):
    """Makes one search for a row that was acknowledged; returns the hits, checked."""
    keys, vectors, homes = written.now()
    query = vectors[np.random.randint(len(vectors))]
    hits = docs.search(query, k=K, timeout=30.0, **options)
    check(hits, query, keys, vectors, homes)
    return hits


def search_on(docs, written, stop, options, told):
    """Searches all the time; notes how often an answer lacked a part, or there was none."""
    while not stop.is_set():
        try:
            hits = search(docs, written, options)
            told["missing" if hits.missing else "complete"] += 1
        except mrl_db.PartUnavailableError as error:
            told["refused" if error.parts in ((0,), (1,), (0, 1)) else str(error)] += 1


def kill(homes, databases, chance):
    """Kills a postmaster or a backend, or ends connections, of one of the servers."""
    number, way = int(chance.integers(2)), int(chance.integers(3))
    if way == 0:
        os.kill(int((homes[number] / "data" / "postmaster.pid").read_text().split()[0]), 9)
        return "postmaster"
    with contextlib.suppress(psycopg.Error), psycopg.connect(databases[number].dsn) as connection:
        pids = connection.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchall()
        if way == 1:
            os.kill(int(chance.permutation(pids)[0, 0]), signal.SIGKILL)
            return "backend"
        for (pid,) in pids:
            if chance.random() < 0.7:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    return "connections"


def test_servers_killed_under_searches_and_writes_give_no_wrong_and_no_short_answer(
    tmp_path, postgres_version, rng, monkeypatch
):
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    homes = [tmp_path / f"home {number}" for number in range(2)]
    with contextlib.ExitStack() as stack:
        databases = [
            stack.enter_context(
                mrl_db.connect(
                    home=home,
                    postgres_version=postgres_version,
                    settings={"shared_buffers": "32MB"},
                )
            )
            for home in homes
        ]
        for database in databases:
            database.create_collection("docs", dims=DIMS, metric="l2")
        # Who was given a database starts it again, who was given its address waits for that.
        dsns = [database.dsn for database in databases]
        asked = stack.enter_context(parts.open_servers(dsns, "docs", connect_timeout=2.0))
        loaded = stack.enter_context(
            parts.open_servers(databases, "docs", load=True, route="flat", cache=False)
        )
        written, stop, failures = Written(), threading.Event(), []
        told = [dict.fromkeys(("complete", "missing", "refused"), 0) for _ in range(4)]
        ways = [
            (docs, {**options, "partial": partial})
            for docs, options in ((asked, {"exact": True}), (loaded, {"plan": FLAT}))
            for partial in (False, True)
        ]

        def run(work, *arguments):
            try:
                work(*arguments)
            except BaseException as error:
                failures.append(error)
                raise

        writer = threading.Thread(target=run, args=(write, asked, written, stop))
        writer.start()
        wait_for(lambda: len(written.batches) >= 3, failures)
        threads = [writer]
        for (docs, options), own in zip(ways, told, strict=True):
            arguments = (search_on, docs, written, stop, options, own)
            threads.append(threading.Thread(target=run, args=arguments))
            threads[-1].start()
        back, killed = [], []
        try:
            for _ in range(KILLS):
                before = len(written.batches)
                wait_for(lambda before=before: len(written.batches) >= before + 3, failures)
                time.sleep(float(rng.uniform(0, 0.05)))
                killed.append(kill(homes, databases, rng))
                began = time.monotonic()
                for docs, options in ways[::2]:
                    while time.monotonic() < began + SECONDS:
                        with contextlib.suppress(mrl_db.PartUnavailableError):
                            assert search(docs, written, options).missing == ()
                            break
                    else:
                        pytest.fail("a server that was killed does not come back")
                back.append(time.monotonic() - began)
                if back[-1] > 5:
                    print(f"{killed[-1]}: back after {back[-1]:.1f} s", flush=True)
        finally:
            stop.set()
            for thread in threads:
                thread.join(SECONDS)
        assert failures == []
        assert all(own["complete"] for own in told)
        keys, vectors, _ = written.now()
        assert asked.count() >= len(keys)
        for docs, options in ways[::2]:
            for query in vectors[:: max(1, len(vectors) // 20)]:
                check(docs.search(query, k=K, **options), query, *written.now())
        assert sorted(asked.get(keys.tolist()).ids.tolist()) == keys.tolist()
        print(
            f"{len(killed)} kills ({', '.join(f'{killed.count(w)} {w}' for w in sorted(set(killed)))}), "
            f"{len(written.batches)} batches, searches {told}, back after {np.median(back):.2f} s "
            f"(most {max(back):.2f})"
        )


def wait_for(condition, failures):
    """Waits for what a thread does, as long as none has failed."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert failures == []
        assert time.monotonic() < deadline
        time.sleep(0.005)
