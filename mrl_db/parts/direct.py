"""Connections from a process to its actors, past Ray, for what is asked in every search.

A call of Ray's takes a millisecond or two of several processes' time. What has to be Ray's is that
an actor is placed and started again, and that a call which was cut is made again; so every failure
here but one ends in a call of Ray's, which is the way that always works. The one is time: whoever
does not answer in time is not asked once more.

Both ends prove that they know a secret, which they have from Ray, before anything is unpickled.
Nothing is encrypted, as little as Ray's own calls are by default.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import socketserver
import struct
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing import AuthenticationError, connection
from typing import Any, NamedTuple, cast

from mrl_db.lifetime import renew_after_fork
from mrl_db.model.errors import ConnectError, MrlDbError
from mrl_db.parts.crew import deadline, left

_LENGTH = struct.Struct("<Q")
_CONNECT_SECONDS = 1.0
_SEND_SECONDS = 0.05  # that a message may take to be sent before others are begun
_MOST_SECONDS = 1e6  # that the system waits for at once
_KEPT = 8  # connections that nobody uses; as many threads wait for a part at the same time
_GONE_MS = 30_000
_ALIVE = {  # a machine that is gone is noticed within half a minute, where the system can
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 4,
}
_FAILURES = (OSError, EOFError)
# multiprocessing asserts what it is sent before Python 3.12; without MD5, as by FIPS, hmac refuses.
_UNPROVEN = (*_FAILURES, AuthenticationError, AssertionError, ValueError)


class LateError(Exception):
    """There was no answer in time. (TimeoutError is also what the system says of a lost line.)"""


class Address(NamedTuple):
    """Where an actor is, which changes when it is started again."""

    host: str
    port: int


class Line:
    """A connection over which messages go, each as its length and its bytes."""

    def __init__(self, line: socket.socket) -> None:
        """Takes the socket over."""
        self._line = line
        self._rest = memoryview(b"")
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE.items():
            if hasattr(socket, name):
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def begin(self, message: bytes) -> None:
        """Sends what goes within moments; `receive` sends the rest."""
        self._rest = memoryview(_LENGTH.pack(len(message)) + message)
        with contextlib.suppress(LateError):
            self._send(deadline(_SEND_SECONDS))

    def receive(self, seconds: float | None, most: int | None = None) -> bytearray:
        """Returns the next message, of `most` bytes at most; raises LateError without one."""
        until = deadline(seconds)
        self._send(until)
        (length,) = _LENGTH.unpack(self._received(_LENGTH.size, until))
        if most is not None and length > most:
            raise OSError("a message is longer than it may be")
        return self._received(length, until)

    def send_bytes(self, message: bytes) -> None:
        """Sends a message, as multiprocessing's connections do."""
        self._line.settimeout(None)
        self._line.sendall(_LENGTH.pack(len(message)) + message)

    def recv_bytes(self, maxlength: int) -> bytes:
        """Receives one, likewise; what proves itself has a second for it."""
        return bytes(self.receive(_CONNECT_SECONDS, maxlength))

    def is_idle(self) -> bool:
        """Whether the other side is there, and has sent nothing."""
        self._line.setblocking(False)
        try:
            self._line.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Ends it; the other side finds out."""
        self._line.close()

    __del__ = close

    def _send(self, until: float | None) -> None:
        while self._rest:
            self._rest = self._rest[self._waited(until, self._line.send, self._rest) :]

    def _received(self, length: int, until: float | None) -> bytearray:
        message = bytearray(length)
        rest = memoryview(message)
        while rest:
            count = self._waited(until, self._line.recv_into, rest)
            if not count:
                raise EOFError("the other side has ended the connection")
            rest = rest[count:]
        return message

    def _waited(
        self, until: float | None, call: Callable[[memoryview], int], part: memoryview
    ) -> int:
        seconds = left(until)
        self._line.settimeout(  # 0: what is there is taken
            None if seconds is None else min(seconds, _MOST_SECONDS)
        )
        try:
            return call(part)
        except BlockingIOError:
            raise LateError from None
        except TimeoutError as error:
            if error.errno is None:  # Python's own, not the system's
                raise LateError from None
            raise


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128  # who connect at the same time


class Listener:
    """The side of an actor: answers whoever knows the secret, each by a thread of its own."""

    def __init__(
        self, host: str, secret: bytes, answer: Callable[[bytearray], bytes], at_once: int
    ) -> None:
        """Begins to listen on a port that is free.

        Args:
            host: The address of this machine that the others use.
            secret: What both sides know.
            answer: Returns the answer to a message; what it raises is sent in its place.
            at_once: How many answers are made at the same time.
        """
        listener = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                listener._serve(self.request)

        self._secret, self._answer = secret, answer
        self._free = threading.Semaphore(at_once)
        self._server = _Server((host, 0), Handler)
        self.address = Address(host, self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, accepted: socket.socket) -> None:
        line = Line(accepted)
        try:
            connection.deliver_challenge(cast(Any, line), self._secret)
            connection.answer_challenge(cast(Any, line), self._secret)
        except (*_UNPROVEN, LateError):
            return
        with contextlib.suppress(*_FAILURES):
            while True:
                asked = line.receive(None)
                with self._free:
                    if not line.is_idle():  # nobody waits any more
                        return
                    try:
                        answer = b"\0" + self._answer(asked)
                    except MrlDbError as error:
                        answer = b"\1" + pickle.dumps(error)
                line.send_bytes(answer)


class Caller:
    """The side of whoever asks one actor. Any number of threads may."""

    def __init__(self, secret: bytes) -> None:
        """Knows no address yet."""
        self._secret = secret
        self._address: Address | None = None
        self._usable = False  # whether connections to it can be made
        self._reached = False  # whether one could, ever
        self._lines: deque[Line] = deque(maxlen=_KEPT)
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The connections are the parent's."""
        self._lines = deque(maxlen=_KEPT)

    def found(self, address: Address | None) -> None:
        """Notes where an actor is that has just answered, or that it listens nowhere.

        A new address is tried, and one that failed, unless it did so from the first.
        """
        if address != self._address:
            self._lines.clear()
            self._address, self._usable, self._reached = address, False, False
        elif self._usable or not self._reached:
            return
        line = self._connected()
        if line is not None:
            self._lines.append(line)
            self._usable = self._reached = True

    def begin(self, message: bytes) -> Callable[[float | None], memoryview | None] | None:
        """Sends a message; what is returned waits for the answer, so many seconds.

        It raises ConnectError when there is none in time, and what the actor raised. None, of both:
        it could not be asked in this way.
        """
        line = self._line()
        if line is None:
            return None
        address = self._address
        try:
            line.begin(message)
        except OSError:
            line.close()
            return None

        def wait(seconds: float | None) -> memoryview | None:
            try:
                answer = memoryview(line.receive(seconds))
            except LateError:
                line.close()
                self._usable = False  # until it has answered Ray
                raise ConnectError("it has not answered within timeout=") from None
            except _FAILURES:
                line.close()
                return None
            if address == self._address:
                self._lines.append(line)
            if answer[0]:
                raise pickle.loads(answer[1:])  # of one who knew the secret
            return answer[1:]

        return wait

    def _line(self) -> Line | None:
        with contextlib.suppress(IndexError):
            while True:
                line = self._lines.pop()
                if line.is_idle():
                    return line
        found = self._connected() if self._usable else None
        self._usable = found is not None
        return found

    def _connected(self) -> Line | None:
        address = self._address
        if address is None:
            return None
        try:
            connected = socket.create_connection(address, _CONNECT_SECONDS)
            line = Line(connected)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # what is being sent is not held to be alive
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_MS)
            connection.answer_challenge(cast(Any, line), self._secret)
            connection.deliver_challenge(cast(Any, line), self._secret)
        except (*_UNPROVEN, LateError):
            return None
        return line
