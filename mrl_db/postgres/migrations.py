"""The migrations: applied in order, each in the one transaction of an installation, and never edited afterwards.

The ledger `mrl.migration` keeps the SHA-256 of every file that was applied. A file that no longer equals its checksum, or a ledger with
migrations that this version does not know, is an error: the database was made by another version, or the files were changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql

from mrl_db.model.errors import MigrationError
from mrl_db.postgres import statements
from mrl_db.postgres.session import Connection, Session


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/migrations."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Returns all migrations, in order."""
    files = [
        f for f in (statements.sql_folder() / "migrations").iterdir() if f.name.endswith(".sql")
    ]
    found = (
        Migration(int(f.name[:4]), f.name[: -len(".sql")], f.read_text(encoding="utf-8"))
        for f in files
    )
    return tuple(sorted(found, key=lambda migration: migration.version))


def install(session: Session) -> tuple[str, ...]:
    """Brings the schema mrl up to date under one lock; returns the names of the migrations applied, none when it was."""
    with session.connection() as connection:
        if not pending(connection):
            return ()
    with session.transaction() as connection:
        connection.execute(statements.query("migrations_lock"))
        applied = []
        for migration in pending(connection):
            connection.execute(sql.SQL(migration.text))
            connection.execute(
                statements.query("migrations_record"),
                (migration.version, migration.name, migration.checksum),
            )
            applied.append(migration.name)
        return tuple(applied)


def pending(connection: Connection) -> tuple[Migration, ...]:
    """Returns the migrations that this database still lacks; raises MigrationError when its ledger contradicts the files."""
    known = {migration.version: migration for migration in migrations()}
    if connection.execute(statements.query("migrations_present")).fetchone() == (False,):
        return tuple(known.values())
    ledger = connection.execute(statements.query("migrations_applied")).fetchall()
    for version, name, checksum in ledger:
        if version not in known:
            raise MigrationError(
                f"the database has migration {name}, this version of mrl_db ends at {max(known)}; install a newer one"
            )
        if checksum != known[version].checksum:
            raise MigrationError(
                f"migration {name} in the database has checksum {checksum[:12]}…, the file has {known[version].checksum[:12]}…; "
                "an applied migration is never edited: install the version of mrl_db that wrote it"
            )
    return tuple(
        migration
        for version, migration in known.items()
        if version not in {row[0] for row in ledger}
    )
