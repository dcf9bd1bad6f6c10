"""What a server must have, and what it is asked once: its version, pgvector, our extension."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from mrl_db.model.errors import DatabaseError, ServerError, is_connection_lost
from mrl_db.postgres import statements
from mrl_db.postgres.watch import Connection

_log = logging.getLogger("mrl_db")

MIN_POSTGRES = 14  # functions whose bodies are SQL, CREATE OR REPLACE TRIGGER
MIN_PGVECTOR = (0, 8)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What one database is.

    Attributes:
        version: PostgreSQL's major version.
        pgvector: The version of the extension vector.
        extension: The version of the extension mrl_db; None: it is not there.
        database: The oid of the database.
        vector_oids: Those of the types vector and halfvec, which differ among databases.
    """

    version: int
    pgvector: str
    extension: str | None
    database: int
    vector_oids: Mapping[str, int]


def look(connection: Connection) -> ServerFacts:
    """Returns what a database is; makes the extensions where they are missing and this role may.

    Raises:
        ServerError: It lacks pgvector, or is too old.
    """
    version = connection.info.server_version // 10000
    if version < MIN_POSTGRES:
        raise ServerError(f"PostgreSQL here is {version}, wanted {MIN_POSTGRES} or later")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", "SQL_ASCII", None):
        raise ServerError(
            f"the database's encoding is {encoding}, wanted UTF8; make another one: "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    pgvector, extension = _ensure_pgvector(connection), _ensure_extension(connection)
    return ServerFacts(version, pgvector, extension, *identity(connection))


def identity(connection: Connection) -> tuple[int, Mapping[str, int]]:
    """Returns the oids of a database and of pgvector's types in it."""
    row = connection.execute(statements.query("database_oid")).fetchone()
    types = connection.execute(statements.query("vector_types")).fetchall()
    return 0 if row is None else int(row[0]), dict(types)


def _ensure_pgvector(connection: Connection) -> str:
    """Returns pgvector's version; creates the extension where it is missing and allowed."""
    row = connection.execute(statements.query("pgvector_version")).fetchone()
    if row is None:
        if connection.execute(statements.query("pgvector_available")).fetchone() is None:
            raise ServerError(
                "this server has no pgvector; install it (package postgresql-<version>-pgvector, "
                "or a service that offers it)"
            )
        try:
            # IF NOT EXISTS alone lets two clients that come at once both try, and one fail.
            with connection.transaction():
                connection.execute(statements.query("migrations_lock"))
                connection.execute(statements.query("create_pgvector"))
        except psycopg.errors.InsufficientPrivilege:
            raise ServerError(
                "this database lacks the extension vector, and this role may not create it; have "
                "an owner run CREATE EXTENSION vector"
            ) from None
        row = connection.execute(statements.query("pgvector_version")).fetchone()
        if row is None:
            raise DatabaseError("CREATE EXTENSION vector left no extension")
    version = str(row[0])
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_PGVECTOR:
        wanted = ".".join(str(part) for part in MIN_PGVECTOR)
        raise ServerError(
            f"pgvector here is {version}, wanted {wanted} or later; install it and run ALTER "
            "EXTENSION vector UPDATE"
        )
    return version


def _ensure_extension(connection: Connection) -> str | None:
    """Returns the version of the extension mrl_db in this database, or None.

    Creates it where the server offers it and this role may. All works without it, so nothing that
    goes wrong here is an error.
    """
    row = connection.execute(statements.query("extension_version")).fetchone()
    if row is not None:
        return str(row[0])
    if connection.execute(statements.query("extension_offered")).fetchone() is None:
        return None
    try:
        with connection.transaction():
            connection.execute(statements.query("migrations_lock"))
            connection.execute(statements.query("create_extension"))
    except psycopg.Error as error:
        if is_connection_lost(error):
            raise
        _log.info("the extension mrl_db is offered, but cannot be made: %s", error)
    row = connection.execute(statements.query("extension_version")).fetchone()
    return None if row is None else str(row[0])
