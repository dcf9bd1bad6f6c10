"""Clients that work beside each other, on a server that may end meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time

import psycopg


@contextlib.contextmanager
def session_on(dsn):
    """A session whose planner takes an index when it can."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        yield session


def reconnected(dsn):
    """A session on the server that is back; it may still be recovering."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def wait_for(condition):
    """Waits until a condition holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Client(threading.Thread):
    """Does one thing again and again until `done`, or until its server is gone.

    Attributes:
        answers: What each turn returned: what the server has acknowledged.
        gone: The error by which it noticed that its server is gone.
        error: Any other; `done` is set then.
    """

    def __init__(self, dsn, work, done):
        super().__init__(daemon=True)
        self.dsn, self.work, self.done = dsn, work, done
        self.answers, self.gone, self.error = [], None, None

    def run(self):
        try:
            with session_on(self.dsn) as session:
                for step in itertools.count():
                    if self.done.is_set():
                        return
                    with contextlib.suppress(psycopg.errors.DeadlockDetected):
                        self.answers.append(self.work(session, step))
        except psycopg.OperationalError as error:
            self.gone = error
        except BaseException as error:
            self.error = error
            self.done.set()


@contextlib.contextmanager
def working(dsn, *works):
    """Clients of a server, one for each thing to do; in the end they are done, without errors."""
    done = threading.Event()
    clients = [Client(dsn, work, done) for work in works]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        done.set()
        for client in clients:
            client.join(60)
    for client in clients:
        if client.error is not None:
            raise client.error
