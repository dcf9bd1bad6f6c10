"""Connection strings: checked before libpq sees them, as its messages would quote a bad one."""

from __future__ import annotations

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


def checked_dsn(dsn: str, statement_timeout: float | None) -> str:
    """Returns the connection string with keepalives and the timeout, unless it says its own.

    libpq's own message would quote a malformed one, password included.
    """
    if not isinstance(dsn, str):
        raise ConnectError(f"dsn is a {type(dsn).__name__}, wanted a connection string")
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        given = {"host": "@"}
    # After a password with a bare "@" libpq takes the rest of it for a part of the host.
    if any("@" in host[1:] or host == "@" for host in str(given.get("host") or "").split(",")):
        raise ConnectError(
            "the connection string is malformed; wanted postgresql://user@host:port/database, with "
            "special characters percent-encoded, or host=… dbname=… user=…"
        ) from None
    further: dict[str, Any] = {
        name: value for name, value in _KEEPALIVES.items() if name not in given
    }
    if statement_timeout is not None:
        timeout_ms = max(1, round(statement_timeout * 1000))
        options = f"{given.get('options') or ''} -c statement_timeout={timeout_ms}"
        further["options"] = options.strip()
    return conninfo.make_conninfo(dsn, **further)


def reason(error: psycopg.OperationalError) -> str:
    """libpq's reason for a refused connection; it names host and user, not the password."""
    return str(error).strip().splitlines()[-1].strip()


def host_and_database(dsn: str) -> str:
    """Returns where a connection string leads to, without user or password."""
    parts = conninfo.conninfo_to_dict(dsn)
    return f"{parts.get('host', 'the default host')}, database {parts.get('dbname', 'default')}"
