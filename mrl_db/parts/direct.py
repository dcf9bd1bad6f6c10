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
_KEPT = 8  # connections that nobody uses; as many threads wait for a part at the same time
_ALIVE = {  # a machine that is gone is noticed within half a minute, where the system can
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 30_000,
}
_FAILURES = (OSError, EOFError, AuthenticationError)


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
        """Sends as much as goes without waiting; `receive` sends the rest."""
        self._rest = memoryview(_LENGTH.pack(len(message)) + message)
        self._line.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._rest:
                self._rest = self._rest[self._line.send(self._rest) :]

    def receive(self, seconds: float | None, most: int | None = None) -> bytearray:
        """Returns the next message, of `most` bytes at most; raises LateError without one."""
        until = deadline(seconds)
        while self._rest:
            self._rest = self._rest[self._waited(until, self._line.send, self._rest) :]
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

    def close(self) -> None:
        """Ends it; the other side finds out."""
        self._line.close()

    __del__ = close

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
        self._line.settimeout(left(until))  # 0: what is there is taken
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

    def __init__(self, host: str, secret: bytes, answer: Callable[[bytearray], bytes]) -> None:
        """Begins to listen on a port that is free.

        Args:
            host: The address of this machine that the others use.
            secret: What both sides know.
            answer: Returns the answer to a message; what it raises is sent in its place.
        """
        listener = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                listener._serve(self.request)

        self._secret, self._answer = secret, answer
        self._server = _Server((host, 0), Handler)
        self.address = Address(host, self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, accepted: socket.socket) -> None:
        line = Line(accepted)
        with contextlib.suppress(*_FAILURES, LateError):
            connection.deliver_challenge(cast(Any, line), self._secret)
            connection.answer_challenge(cast(Any, line), self._secret)
            while True:
                asked = line.receive(None)
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
        self._usable = False
        self._lines: deque[Line] = deque(maxlen=_KEPT)
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The connections are the parent's."""
        self._lines = deque(maxlen=_KEPT)

    def found(self, address: Address | None) -> None:
        """Notes where the actor is, or that it listens nowhere; tries whether it can be reached."""
        if address == self._address:
            return
        self._lines.clear()
        self._address, self._usable = address, False
        line = self._connected()
        if line is not None:
            self._lines.append(line)
            self._usable = True

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
            self._lost(line)
            return None

        def wait(seconds: float | None) -> memoryview | None:
            try:
                answer = memoryview(line.receive(seconds))
            except LateError:
                line.close()
                raise ConnectError("it has not answered within timeout=") from None
            except _FAILURES:
                self._lost(line)
                return None
            if address == self._address:
                self._lines.append(line)
            if answer[0]:
                raise pickle.loads(answer[1:])  # of one who knew the secret
            return answer[1:]

        return wait

    def _line(self) -> Line | None:
        with contextlib.suppress(IndexError):
            return self._lines.pop()
        return self._connected() if self._usable else None

    def _connected(self) -> Line | None:
        address = self._address
        if address is None:
            return None
        try:
            line = Line(socket.create_connection(address, _CONNECT_SECONDS))
            connection.answer_challenge(cast(Any, line), self._secret)
            connection.deliver_challenge(cast(Any, line), self._secret)
        except (*_FAILURES, LateError):
            return None
        return line

    def _lost(self, line: Line) -> None:
        line.close()
        self._lines.clear()
