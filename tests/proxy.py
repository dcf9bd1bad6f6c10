"""A proxy before a server's socket that fails as lines do: cut, slow or deaf from a byte on."""

import contextlib
import os
import select
import socket
import threading
import time


class Proxy:
    """Listens in `folder` for clients of the server whose socket is in `server_folder`."""

    def __init__(self, folder, server_folder, port=5432):
        self.folder = str(folder)
        self._server = os.path.join(str(server_folder), f".s.PGSQL.{port}")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.path.join(self.folder, f".s.PGSQL.{port}"))
        self._listener.listen(50)
        self._lock = threading.Lock()
        self._fault = None
        self._left = 0
        self.passed = 0  # bytes, both ways
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, fault, after):
        """Lets `after` bytes pass, both ways together, then fails once: "cut", "deaf" or "slow".

        "commit" waits for the client's COMMIT, and cuts the line after `after` bytes of it.
        """
        with self._lock:
            self._fault, self._left = fault, after

    def disarm(self):
        """Takes the fault back where it has not happened yet; returns whether it has."""
        with self._lock:
            happened, self._fault = self._fault is None, None
            return happened

    def close(self):
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                server.close()
                continue
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client, server):
        other = {client: server, server: client}
        deaf = False
        try:
            while True:
                for line in select.select([client, server], [], [])[0]:
                    piece = line.recv(65536)
                    if not piece:
                        return
                    if deaf:
                        continue
                    fault, passing = self._passing(piece)
                    with contextlib.suppress(BlockingIOError):
                        other[line].sendall(piece[:passing])
                    if fault == "cut":
                        return
                    if fault == "slow":
                        time.sleep(0.3)
                        other[line].sendall(piece[passing:])
                    deaf = deaf or fault == "deaf"
        except OSError:
            return
        finally:
            client.close()
            server.close()

    def _passing(self, piece):
        size = len(piece)
        with self._lock:
            self.passed += size
            if self._fault == "commit":
                if b"COMMIT" not in piece:
                    return None, size
                self._fault = None
                return "cut", min(size, self._left)
            if self._fault is None:
                return None, size
            if size < self._left:
                self._left -= size
                return None, size
            fault, self._fault = self._fault, None
            return fault, self._left
