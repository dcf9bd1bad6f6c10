"""The schema mrl: installed, and brought up to date, in one transaction under one lock.

Two kinds of files make it. `sql/tables/NNNN_*.sql` are applied once, in order, and never edited
after a release. `sql/functions/*.sql` hold the current text of every function, and are applied
again whenever it has changed. The ledger `mrl.migration` keeps the SHA-256 of every file, and the
version of mrl_db that applied it: so an edited table file, and a database of a later version, are
noticed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from psycopg import sql

from mrl_db.model.errors import MigrationError, ReadOnlyError
from mrl_db.postgres import statements
from mrl_db.postgres.session import Connection, Session


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `tables/0001_collections`, `functions/search`, …"""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def repeated(self) -> bool:
        """Whether it is applied again when it has changed."""
        return self.name.startswith("functions/")


@cache
def migrations() -> tuple[Migration, ...]:
    """Returns all files in the order in which they are applied: tables, then functions."""
    return tuple(
        Migration(f"{folder}/{file.name.removesuffix('.sql')}", file.read_text(encoding="utf-8"))
        for folder in ("tables", "functions")
        for file in sorted((statements.sql_folder() / folder).iterdir())
        if file.name.endswith(".sql")
    )


def install(session: Session) -> tuple[str, ...]:
    """Brings the schema mrl up to date.

    Returns:
        The names of the files applied: none when it was up to date.

    Raises:
        MigrationError: The schema is of another version, or an applied table file was edited.
        ReadOnlyError: It is not up to date, and nothing can be written here.
    """
    with session.connection() as connection:
        if not pending(connection):
            return ()
    try:
        return _apply(session)
    except ReadOnlyError as error:
        raise ReadOnlyError(
            f"the schema mrl is not there, or not of mrl_db {version('mrl_db')}: {error}; connect "
            "to the primary once with this version, which makes it"
        ) from None


def _apply(session: Session) -> tuple[str, ...]:
    with session.transaction() as connection:
        connection.execute(sql.SQL((statements.sql_folder() / "prepare.sql").read_text()))
        applied = pending(connection)
        for migration in applied:
            connection.execute(sql.SQL(migration.text))
            connection.execute(
                statements.query("migrations_record"),
                (migration.name, migration.checksum, version("mrl_db")),
            )
        if any(migration.repeated for migration in applied):
            connection.execute(statements.query("define_searches"))
        return tuple(migration.name for migration in applied)


def pending(connection: Connection) -> tuple[Migration, ...]:
    """Returns the files that this database lacks, or has in another form.

    Raises:
        MigrationError: A later version made it, or an applied table file was edited.
    """
    if connection.execute(statements.query("migrations_present")).fetchone() == (False,):
        return migrations()
    rows = connection.execute(statements.query("migrations_applied")).fetchall()
    ledger = {name: (checksum, applied_by) for name, checksum, applied_by in rows}
    if any(
        "/" not in name for name in ledger
    ):  # older than these files; sql/prepare.sql refuses it
        return migrations()
    names = [migration.name for migration in migrations()]
    for name in ledger:
        if name.startswith("tables/") and name not in names:
            raise _newer(f"has {name}", ledger[name][1])
    changed = tuple(m for m in migrations() if ledger.get(m.name, ("",))[0] != m.checksum)
    for migration in changed:
        if migration.name not in ledger:
            continue
        checksum, applied_by = ledger[migration.name]
        if _numbers(applied_by) > _numbers(version("mrl_db")):
            raise _newer(f"has another {migration.name}", applied_by)
        if not migration.repeated:
            raise MigrationError(
                f"{migration.name} in the database has checksum {checksum[:12]}…, the file has "
                f"{migration.checksum[:12]}…; an applied file of tables is never edited: install "
                "the version of mrl_db that wrote it"
            )
    return changed


def _newer(what: str, applied_by: str) -> MigrationError:
    return MigrationError(
        f"the database {what}, of mrl_db {applied_by}; this is {version('mrl_db')}: install that "
        "one, or a newer one"
    )


def _numbers(version_text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version_text)[:3]]
