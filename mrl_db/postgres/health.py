"""What a server has of the extensions that searches go by, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

from mrl_db.postgres import statements
from mrl_db.postgres.session import Session

_FIXED_PGVECTOR = (0, 8, 2)


@dataclass(frozen=True, slots=True)
class ExtensionHealth:
    """The extension mrl_db as a server has it.

    Attributes:
        created: Its version in this database; None where it is not.
        available: The version that the server could create; None where it is not installed.
        library: What the library says of itself, once it is created.
    """

    created: str | None
    available: str | None
    library: str | None

    @property
    def advice(self) -> str | None:
        """What is to be done; None when nothing is."""
        if self.available is None and self.created is None:
            return (
                "not installed: searches in PostgreSQL go by pgvector's HNSW; mrl-db extension "
                "install adds it to a server of yours"
            )
        if self.created is None:
            return "installed, not created here: CREATE EXTENSION mrl_db CASCADE as a superuser"
        if self.available is None:
            return "created, but its files are gone from the server: mrl-db extension install"
        if self.created != self.available:
            return f"ALTER EXTENSION mrl_db UPDATE brings it to {self.available}"
        return None


def extension_health(session: Session) -> ExtensionHealth:
    """Asks a server for its extension, and loads the library.

    Raises:
        DatabaseError: The server cannot load the library; with what it says.
    """
    with session.connection() as connection:
        created = connection.execute(statements.query("extension_version")).fetchone()
        available = connection.execute(statements.query("extension_available")).fetchone()
        library = None
        if created is not None:
            for (schema,) in connection.execute(statements.query("extension_schema")).fetchall():
                ask = statements.query("extension_library").format(statements.identifier(schema))
                library = connection.execute(ask, ()).fetchone()
        return ExtensionHealth(
            *(None if row is None else str(row[0]) for row in (created, available, library))
        )


def pgvector_advice(version: str) -> str | None:
    """Returns what is to be said of a version of pgvector; None for one without known holes."""
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if numbers < _FIXED_PGVECTOR:
        return (
            "before 0.8.2 a parallel build of an HNSW index may write beyond its memory "
            "(CVE-2026-3172): update pgvector, or SET max_parallel_maintenance_workers = 0 before "
            "building one; indexes of kind mrl are not concerned"
        )
    return None
