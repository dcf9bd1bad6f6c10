"""Parts in the memory of a Ray cluster: each is an actor that has one part of a table loaded.

Where an actor runs, that it is started again when it or its machine dies, and that a call that was
cut is made again: all of that is Ray's. What is ours is small: an actor opens the collection and
loads its part when it is first asked, out of the file that an actor before it left on this machine
where there is one. docs/decisions/ray.md says why Ray.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mrl_db import door
from mrl_db.collection import Collection
from mrl_db.database import connect
from mrl_db.hits import Hits, Trace
from mrl_db.model.errors import (
    ConnectError,
    MissingDependencyError,
    MrlDbError,
    ValueRangeError,
)
from mrl_db.model.plan import Plan
from mrl_db.parts.crew import Crew, deadline, left
from mrl_db.parts.direct import Address, Caller, Listener
from mrl_db.parts.opened import Holding
from mrl_db.parts.part import Ask, OpenedPart, PartStatus
from mrl_db.parts.parted import PartedCollection
from mrl_db.recall.query_log import QueryLog

_AT_ONCE = 4  # calls that an actor answers at the same time, each by a thread of its own
_LARGE_BYTES = 1_000_000  # what is larger is put into Ray's object store, once for all actors
_LEAST_SECONDS = 0.001  # Ray takes 0 for a look whether it is there already


def open_actors(
    dsn: str,
    name: str,
    *,
    parts: int,
    address: str | None = None,
    timeout: float | None = 60.0,
    query_log: bool = True,
    actor_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> PartedCollection:
    """Loads one table into actors of a Ray cluster, each with one part of it.

    Needs the extra `ray`. A cluster's machines need mrl_db, and reach the server by the same
    connection string; a password in it is seen by whoever may look into the cluster, a service file
    or `PGPASSFILE` on its machines is not.

    Args:
        dsn: Of the server.
        name: Of the collection.
        parts: How many; more than machines is well, so that Ray can spread them.
        address: Of the cluster; None: the one that this process is in, or that RAY_ADDRESS names,
            else one on this machine is started, without dashboard, and with no telemetry unless
            RAY_USAGE_STATS_ENABLED says otherwise.
        timeout: Seconds that a search may take, starting a dead actor again included; None: any.
        query_log: As for `mrl_db.connect`.
        actor_options: Of Ray (`num_cpus`, `memory`, `resources`, …). By default an actor reserves
            nothing, is started again however often it dies, and reads are tried twice more.
        **options: Of `Collection.load`; `threads` are those of one actor, 1 by default.

    Raises:
        MissingDependencyError: Ray is not installed.
        ValueRangeError: There is an address, and this process is in a cluster already.
        PartUnavailableError: An actor did not load its part.
    """
    ray = _ray()
    if address is not None and ray.is_initialized():
        raise ValueRangeError(
            f"address is {address!r}, and this process is in a Ray cluster already; leave address= "
            "out, or call ray.shutdown() before"
        )
    parts = door.checked_count(parts, "parts", door.MOST_PARTS)
    timeout = None if timeout is None else door.checked_seconds(timeout, "timeout")
    options.setdefault("threads", 1)
    database = connect(dsn, query_log=query_log)
    crew: Crew | None = None
    calls = _Calls()
    try:
        head = database.open(name)
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            start = {} if address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
            ray.init(address=address, log_to_driver=False, **start)
        how = {
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": 2,
            "max_concurrency": _AT_ONCE,
            **(actor_options or {}),
        }
        kind = ray.remote(_Actor).options(**how)
        secret = secrets.token_bytes(32)
        crew = Crew(
            [
                ActorPart(
                    f"part {number} of {parts}",
                    kind.remote(dsn, name, (number, parts), secret, how["max_concurrency"]),
                    calls,
                    Caller(secret),
                )
                for number in range(parts)
            ],
            retries=0,  # Ray's own come before
        )
        holding = Holding([head._opened], crew, timeout=timeout, load_at_once=True)
        holding.load(options)
        log = QueryLog() if query_log else QueryLog(keep=0)
        return PartedCollection(holding, log, database.close)
    except BaseException:
        if crew is not None:
            crew.close()
        database.close()
        raise


class _Actor:
    """One part, in a process of Ray's."""

    def __init__(
        self, dsn: str, name: str, part: tuple[int, int], secret: bytes, at_once: int
    ) -> None:
        """Does nothing that could fail: an actor that cannot be made is not made again."""
        self._dsn, self._name, self._number = dsn, name, part
        self._secret, self._at_once = secret, at_once
        self._lock = threading.Lock()
        self._part: OpenedPart | None = None
        self._listener: Listener | None = None

    def search(self, sent: Any) -> tuple[Address | None, bytes]:
        """Returns where it listens, and what hits are made of; takes what `_Call` sends."""
        options, ask = pickle.loads(sent) if isinstance(sent, bytes) else sent
        return self.address(), self._found(options, ask)

    def address(self) -> Address | None:
        """Returns where searches can be sent to past Ray; None: nowhere."""
        with self._lock:
            if self._listener is None and os.environ.get("RAY_USE_TLS", "0") == "0":
                with contextlib.suppress(OSError):  # of a machine that has no port left
                    host = _ray().util.get_node_ip_address()
                    self._listener = Listener(host, self._secret, self._answer, self._at_once)
            return None if self._listener is None else self._listener.address

    def _answer(self, sent: bytearray) -> bytes:
        options, ask = pickle.loads(sent)
        return self._found(options, ask)

    def _found(self, options: dict[str, Any], ask: Ask) -> bytes:
        hits = self._loaded(options).search(ask, None)
        found = hits.ids, hits.distances, dict(hits.columns), hits.certified, hits.trace
        return pickle.dumps(found, 5)

    def explain(self, options: dict[str, Any], ask: Ask) -> Trace:
        """See `Part.explain`."""
        return self._loaded(options).explain(ask, None)

    def status(self, options: dict[str, Any]) -> PartStatus:
        """See `Part.status`."""
        return self._loaded(options).status(None)

    def load(self, options: dict[str, Any]) -> tuple[Address | None, Plan]:
        """Returns where it listens, too; see `Part.load`."""
        with self._lock:
            if self._part is not None:
                self._part.close()
                self._part = None
        plan = self._loaded(options).opened.native().followed_plan
        assert isinstance(plan, Plan)
        return self.address(), plan

    def process(self) -> int:
        """Returns the process's id."""
        return os.getpid()

    def end(self) -> None:
        """Brings the file up to date, and follows no more."""
        with self._lock:
            if self._part is not None:
                self._part.close()
                self._part = None

    def _loaded(self, options: dict[str, Any]) -> OpenedPart:
        """The part, loaded when it is first asked for: an actor that was started again knows it."""
        with self._lock:
            if self._part is None:
                database = connect(self._dsn, query_log=False)
                try:
                    collection: Collection = database.open(self._name)
                    collection.load(part=self._number, **options)
                except BaseException:
                    database.close()
                    raise

                def close() -> None:
                    collection.unload()
                    database.close()

                name = f"part {self._number[0]} of {self._number[1]}"
                self._part = OpenedPart(name, collection._opened, close)
            return self._part


class _Call:
    """One ask of several actors: what they are sent, and what they answer."""

    def __init__(self, ask: Ask, options: dict[str, Any]) -> None:
        """Puts the ask into its form, once for all of them.

        Most are bytes, which Ray, too, sends as they are: to have it take an object apart, and put
        it together, takes a tenth of a millisecond each time.
        """
        self.ask = ask
        large = ask.queries.nbytes >= _LARGE_BYTES
        self.sent = _ray().put((options, ask)) if large else pickle.dumps((options, ask), 5)
        self.references: list[Any] = []
        self._answers: dict[Any, Any] | None = None
        self._until: float | None = None

    def answer(self, reference: Any, seconds: float | None) -> Any:
        """Returns what one actor answers; the first who asks waits for all of them at once."""
        ray = _ray()
        if self._answers is None:
            self._until = deadline(seconds)
            try:
                least = None if seconds is None else max(_LEAST_SECONDS, seconds)
                found = ray.get(self.references, timeout=least)
                self._answers = dict(zip(self.references, found, strict=True))
            except ray.exceptions.RayError:  # of one of them; each is asked by itself
                self._answers = {}
        if reference in self._answers:
            return self._answers[reference]
        return _answer(reference, left(self._until))


class _Calls:
    """The call of an ask, which all actors share."""

    def __init__(self) -> None:
        self._last: _Call | None = None

    def of(self, ask: Ask, options: dict[str, Any]) -> _Call:
        """Returns it, made by whoever asks first."""
        last = self._last
        if last is None or last.ask is not ask:
            last = self._last = _Call(ask, options)
        return last


class ActorPart:
    """Keeps `mrl_db.parts.part.Part` by calls to an actor."""

    def __init__(self, name: str, actor: Any, calls: _Calls, caller: Caller) -> None:
        """Calls nobody yet; `calls` is what all parts share, `caller` this one's way past Ray."""
        self.name = name
        self.actor = actor
        self._calls = calls
        self._caller = caller
        self._options: dict[str, Any] = {}

    def load(self, options: Mapping[str, Any], seconds: float | None) -> Plan:
        """See `Part.load`."""
        self._options = dict(options)
        address, plan = _answer(self.actor.load.remote(self._options), seconds)
        self._caller.found(address)
        assert isinstance(plan, Plan)
        return plan

    def search(self, ask: Ask, seconds: float | None) -> Hits:
        """See `Part.search`."""
        return self.begin(ask)(seconds)

    def begin(self, ask: Ask) -> Callable[[float | None], Hits]:
        """See `Part.begin`."""
        call = self._calls.of(ask, self._options)
        direct = self._caller.begin(call.sent) if isinstance(call.sent, bytes) else None
        if direct is None:
            return self._by_ray(call)

        def wait(seconds: float | None) -> Hits:
            until = deadline(seconds)
            answer = direct(seconds)
            return self._by_ray(call)(left(until)) if answer is None else _hits(answer)

        return wait

    def _by_ray(self, call: _Call) -> Callable[[float | None], Hits]:
        reference = self.actor.search.remote(call.sent)
        call.references.append(reference)

        def wait(seconds: float | None) -> Hits:
            address, answer = call.answer(reference, seconds)
            self._caller.found(address)
            return _hits(answer)

        return wait

    def explain(self, ask: Ask, seconds: float | None) -> Trace:
        """See `Part.explain`."""
        trace: Trace = _answer(self.actor.explain.remote(self._options, ask), seconds)
        return trace

    def status(self, seconds: float | None) -> PartStatus:
        """See `Part.status`."""
        status: PartStatus = _answer(self.actor.status.remote(self._options), seconds)
        return replace(status, name=self.name)

    def close(self) -> None:
        """See `Part.close`."""
        self._caller.found(None)
        ray = _ray()
        if not ray.is_initialized():
            return
        with contextlib.suppress(ray.exceptions.RayError, MrlDbError):
            ray.get(self.actor.end.remote(), timeout=10)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self.actor, no_restart=True)


def _hits(answer: bytes | memoryview) -> Hits:
    ids, distances, columns, certified, trace = pickle.loads(answer)  # an actor's of our own
    return Hits(ids, distances, trace, columns, certified=certified)


def _answer(reference: Any, seconds: float | None) -> Any:
    ray = _ray()
    try:
        return ray.get(reference, timeout=None if seconds is None else max(_LEAST_SECONDS, seconds))
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference)
        raise ConnectError("it has not answered within timeout=") from None
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, MrlDbError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        said = str(error).partition("\n")[0]
        raise ConnectError(f"its actor is gone ({type(error).__name__}): {said}") from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingDependencyError(
            "actors need the package ray: pip install 'mrl_db[ray]'"
        ) from None
    return ray
