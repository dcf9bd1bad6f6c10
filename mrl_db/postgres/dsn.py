"""Connection strings: checked before libpq sees them, as its messages would quote a bad one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import conninfo

from mrl_db.model.errors import ConnectError

_KEEPALIVES = {
    "keepalives_idle": 30,  # seconds
    "keepalives_interval": 10,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
_URIS = ("postgresql://", "postgres://")


def checked_dsn(dsn: str, statement_timeout: float | None) -> str:
    """Returns the connection string with keepalives and the timeout, unless it says its own.

    The encoding is always UTF-8, in which keys are sent. libpq's own message would quote a
    malformed one, password included.
    """
    if not isinstance(dsn, str):
        raise ConnectError(f"dsn is a {type(dsn).__name__}, wanted a connection string")
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except (psycopg.Error, UnicodeEncodeError):
        given = None
    if given is None or _is_malformed(dsn, given):
        raise ConnectError(
            "the connection string is malformed; wanted postgresql://user@host:port/database, with "
            "special characters percent-encoded, or host=… dbname=… user=…"
        ) from None
    further: dict[str, Any] = {
        name: value for name, value in _KEEPALIVES.items() if name not in given
    }
    further["client_encoding"] = "UTF8"
    if statement_timeout is not None:
        timeout_ms = max(1, round(statement_timeout * 1000))
        options = f"{given.get('options') or ''} -c statement_timeout={timeout_ms}"
        further["options"] = options.strip()
    return conninfo.make_conninfo(dsn, **further)


def _is_malformed(dsn: str, given: Mapping[str, Any]) -> bool:
    """Whether libpq may have taken a part of the password for something that messages show.

    After a bare "@" in it the rest is a part of the host, after a bare "/" of the port and the
    database.
    """
    hosts, ports = (str(given.get(name) or "").split(",") for name in ("host", "port"))
    path = dsn.partition("://")[2].partition("?")[0].partition("/")[2]
    return (
        any("@" in host[1:] or host == "@" for host in hosts)
        or not all(port == "" or port.isdecimal() for port in ports)
        or (dsn.startswith(_URIS) and "@" in path)
        or str(given.get("dbname") or "").startswith(_URIS)
    )


def reason(error: psycopg.OperationalError) -> str:
    """libpq's reason for a refused connection; it names host and user, not the password."""
    return str(error).strip().splitlines()[-1].strip()


def host_and_database(dsn: str) -> str:
    """Returns where a connection string leads to, without user or password."""
    parts = conninfo.conninfo_to_dict(dsn)
    return f"{parts.get('host', 'the default host')}, database {parts.get('dbname', 'default')}"
