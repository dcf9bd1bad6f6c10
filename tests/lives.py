"""Lives of a process, each run in one of its own: `python lives.py NAME DSN NUMBER`.

Each ends by itself, with code 0 where all answers were right (`test_processes.py`).
"""

import atexit
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref

import numpy as np

import mrl_db

DIMS, ROWS = 32, 1000
_POOL = {}


def vectors_of(keys, dims=DIMS):
    """The vector of a key is that of its place in a fixed sequence."""
    return np.stack([np.random.default_rng(int(key)).standard_normal(dims) for key in keys]).astype(
        np.float32
    )


def opened(dsn, **loading):
    db = mrl_db.connect(dsn, pool_size=2)
    docs = db.open("docs")
    docs.load(cache=False, **loading)
    return db, docs


def nearest_is_itself(docs, key, **options):
    return docs.search(vectors_of([key])[0], k=1, **options).ids.tolist() == [key]


# Ends


def end_while_linking(dsn, number):
    """The script is over while new rows are brought into the graph."""
    db = mrl_db.connect(dsn)
    docs = db.create_collection(f"ending_{number}", dims=128)
    docs.load(cache=False)
    rows = np.random.default_rng(number).standard_normal((6000, 128)).astype(np.float32)
    docs.add(np.arange(6000), rows)
    assert docs.search(rows[5], k=1).ids.tolist() == [5]
    if number % 3 == 1:
        docs.unload()
    elif number % 3 == 2:
        db.close()


def end_while_threads_search(dsn, _):
    """It is over while threads of the user's search one by one, search batches, write and load."""
    db, docs = opened(dsn, max_staleness=0.02)
    queries = vectors_of(range(400))
    other = db.open("docs")

    def forever(work):
        def run():
            while True:
                work()

        threading.Thread(target=run, daemon=True).start()

    forever(lambda: docs.search(queries[0], engine="native"))
    forever(lambda: docs.search(queries, engine="native", k=100))
    forever(lambda: docs.upsert([1], queries[1:2]))
    forever(lambda: other.load(cache=False))
    time.sleep(0.3)


def end_within_a_call(dsn, _):
    """It is over while a thread is in the middle of a call: that comes to its end, no other does."""
    _, docs = opened(dsn)
    inside, slept, outside = threading.Event(), threading.Event(), threading.Event()
    begun = []

    def slow(_done, _all):
        inside.set()
        time.sleep(0 if slept.is_set() else 0.5)
        slept.set()

    def work():
        docs.load(cache=False, progress=slow)
        outside.set()
        begun.append(docs.count())

    def judged():
        if not slept.is_set() or not outside.wait(5) or begun:
            os._exit(3)

    weakref.finalize(work, judged)
    threading.Thread(target=work, daemon=True).start()
    inside.wait()


def end_by_a_handler_that_joins(dsn, _):
    """Whoever registered a handler may stop his threads in it, and wait for them."""
    _, docs = opened(dsn)
    stop = threading.Event()
    threads = []

    def work():
        while not stop.is_set():
            docs.search(vectors_of([1])[0])

    def ended():
        stop.set()
        for thread in threads:
            thread.join()

    atexit.register(ended)
    threads += [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)


def end_while_building_anew(dsn, number):
    """It is over while the index of a collection that has grown is built anew."""
    db = mrl_db.connect(dsn)
    docs = db.create_collection(f"grown_{number}", dims=64)
    docs.load(cache=False)
    rows = np.random.default_rng(number).standard_normal((11_000, 64)).astype(np.float32)
    docs.add(np.arange(11_000), rows)
    docs.search(rows[5], k=1)
    time.sleep(0.5)
    if number % 2:
        db.close()


# Signals


def busy_until_terminated(dsn, number):
    """Loads, writes, links, saves its file and builds anew, over and over; an odd one has a handler.

    Hit between sending a statement and waiting for it, psycopg gives the connection up and logs so.
    """
    vectors_of(range(1))  # an exit out of NumPy's first import of its generators would be lost
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    if number % 2:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    db = mrl_db.connect(dsn, pool_size=2)
    docs = db.open("docs")
    print("begun", flush=True)
    for turn in itertools.count():
        docs.load(cache=turn % 3 != 2)
        keys = np.arange(ROWS) + ROWS * (turn % 2)
        docs.upsert(keys, vectors_of(keys))
        assert nearest_is_itself(docs, 5)
        docs.delete(np.arange(ROWS, 2 * ROWS))
        docs.search(vectors_of(range(50)), k=20)
        docs.unload()


# Forks


def forks_under_load(dsn, number):
    """Children are forked while the parent follows, writes, links and searches batches."""
    db, docs = opened(dsn, max_staleness=0.05)
    watched = mrl_db.connect(dsn, statement_timeout=5.0, pool_size=1)
    of_watched = watched.open("docs")
    docs.search(vectors_of([0])[0])
    stop, problems = threading.Event(), []

    def busily(work):
        def run():
            key = 0
            while not stop.is_set():
                try:
                    work(key)
                except Exception as error:
                    problems.append(repr(error))
                    return
                key += 1
                time.sleep(0.002)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    queries = vectors_of(range(64))

    def write(step):
        keys = 10_000 + (np.arange(300) + 300 * step) % 3000
        docs.upsert(keys, np.random.default_rng(step).standard_normal((300, DIMS)))

    def read(step):
        assert nearest_is_itself(docs, step % ROWS, max_staleness=0.0)

    threads = [
        busily(write),
        busily(read),
        busily(lambda _: docs.search(queries, k=50)),
        busily(lambda _: of_watched.count()),
    ]
    codes = []
    for turn in range(number):
        child = os.fork()
        if child == 0:
            _in_child(turn, db, docs, of_watched)
        codes.append(_code_of(child))
        if codes[-1] != 0:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * number, (codes[-1], len(codes))
    assert problems == [], problems
    assert nearest_is_itself(docs, 7, max_staleness=0.0)
    assert of_watched.count() >= ROWS
    db.close()


def _in_child(turn, db, docs, of_watched):
    """A child uses all that it inherited, and leaves as scripts do, closing or not."""
    code = 1
    try:
        assert nearest_is_itself(docs, 5 + turn)
        assert nearest_is_itself(docs, 6 + turn, max_staleness=0.0)
        assert docs.search(vectors_of(range(20)), k=1).ids.ravel().tolist() == list(range(20))
        assert docs.get([3]).ids.tolist() == [3]
        assert of_watched.count() >= ROWS
        docs.upsert([20_000], vectors_of([20_000 + turn]))
        assert nearest_is_itself_at(docs, 20_000, 20_000 + turn)
        if turn % 3 == 0:
            docs.unload()
        if turn % 2 == 0:
            db.close()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def nearest_is_itself_at(docs, key, of):
    return docs.search(vectors_of([of])[0], k=1, max_staleness=0.0).ids.tolist() == [key]


def _code_of(child, seconds=60):
    """The exit code of a child; one that hangs is killed, and shown where."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGABRT)
    os.waitpid(child, 0)
    return "hangs"


def a_child_that_closes(dsn, _):
    """What a child closes are its own connections; the parent's go on, in mid-transaction too."""
    db, docs = opened(dsn)
    with db._session.connection() as lent:
        lent.execute("SELECT 1")
        child = os.fork()
        if child == 0:
            docs.unload()
            db.close()
            os._exit(0)
        assert _code_of(child) == 0
        assert lent.execute("SELECT 2").fetchone() == (2,)
    assert nearest_is_itself(docs, 5)
    assert docs.count() == ROWS
    child = os.fork()  # now all of the parent's connections are idle, in the pool
    if child == 0:
        db.close()
        os._exit(0)
    assert _code_of(child) == 0
    with db._session.connection() as lent:
        assert lent.execute("SELECT 3").fetchone() == (3,)


def a_child_that_refreshes_first(dsn, _):
    """A child that reads all rows again before its first search leaves its parent registered."""
    db, docs = opened(dsn)
    nearest_is_itself(docs, 5)
    live = docs.loaded._live
    child = os.fork()
    if child == 0:
        code = 1
        try:
            docs.refresh()
            assert nearest_is_itself(docs, 6)
            assert live._log.holds(live._reader)
            docs.unload()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert _code_of(child) == 0
    assert live._log.holds(live._reader)
    with db._session.connection() as connection:
        readers = connection.execute("SELECT count(*) FROM mrl.reader").fetchone()
    assert readers == (1,), readers  # the child's own went with it
    assert nearest_is_itself(docs, 7)


def a_child_of_a_sleeping_parent(dsn, _):
    """A child that ends as a script does runs what is registered for an exit, once and quietly."""
    _, docs = opened(dsn, max_staleness=0.02)
    nearest_is_itself(docs, 5)
    child = os.fork()
    if child == 0:
        assert nearest_is_itself(docs, 6)
        sys.exit(0)
    assert _code_of(child) == 0
    assert nearest_is_itself(docs, 7)


def a_child_that_outlives_its_parent(home, _):
    """The embedded server is there as long as any process uses it, forked ones included."""
    db = mrl_db.connect(home=home)
    docs = db.create_collection("docs", dims=DIMS)
    docs.add([1], vectors_of([1]))
    parent = os.getpid()
    if os.fork() != 0:
        sys.exit(0)
    assert docs.count() == 1
    while os.getppid() == parent:
        time.sleep(0.01)
    time.sleep(0.5)
    assert docs.count() == 1


def _searched_by_worker(key):
    docs = _POOL["docs"]
    return docs.search(vectors_of([key])[0], k=1).ids.tolist()


def _open_in_worker(dsn):
    _POOL["db"], _POOL["docs"] = opened(dsn)


def multiprocessing_fork(dsn, _):
    """Workers made by fork search what their parent loaded, while it searches too."""
    _, _POOL["docs"] = opened(dsn, max_staleness=0.05)
    _search_with(multiprocessing.get_context("fork").Pool(3))


def multiprocessing_spawn(dsn, _):
    """Workers that begin anew open the collection for themselves."""
    _search_with(multiprocessing.get_context("spawn").Pool(2, _open_in_worker, (dsn,)))


def _search_with(pool):
    with pool:
        answers = pool.map_async(_searched_by_worker, range(60), chunksize=5)
        while not answers.ready():
            if "docs" in _POOL:
                assert nearest_is_itself(_POOL["docs"], 9)
            answers.wait(0.01)
        assert answers.get() == [[key] for key in range(60)]


if __name__ == "__main__":
    life = globals()[sys.argv[1]]
    life(sys.argv[2], int(sys.argv[3]))
    print("the end", flush=True)
