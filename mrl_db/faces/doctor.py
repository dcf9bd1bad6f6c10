"""`mrl-db doctor`: each part of an installation looked at, with what is wrong and the way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mrl_db
from mrl_db.database import Database
from mrl_db.model.errors import MrlDbError, PrivilegeError
from mrl_db.postgres.server import programs

_ROWS_TO_INDEX = 10_000  # from so many rows on, a missing index is worth a word
_Value = TypeVar("_Value")


def examine(connect: Callable[[], Database], home: Path | None, out: Console) -> bool:
    """Prints a table of what is here; returns whether all of it is well.

    Args:
        connect: opens the database.
        home: folder of the embedded server; None where the database is elsewhere.
        out: where the table goes.
    """
    table = Table("what", "found", "", box=None)
    well = True

    def check(
        what: str, probe: Callable[[], _Value], show: Callable[[_Value], str] = str
    ) -> _Value | None:
        nonlocal well
        try:
            value = probe()
            shown = show(value)
        except MrlDbError as error:
            well = False
            table.add_row(what, f"[red]{escape(str(error))}[/]", "[red]✗[/]")
            return None
        table.add_row(what, escape(shown), "[green]✓[/]")
        return value

    python = sys.version.split()[0]
    check("mrl_db", lambda: f"{mrl_db.__version__}, Python {python}, NumPy {np.__version__}")
    runs = ", ".join(mrl_db.available_simd())
    check("instruction set", mrl_db.simd, lambda name: f"{name} (this CPU runs {runs})")
    if home is not None:
        check(
            "embedded PostgreSQL",
            lambda: programs.find_binaries(18).folder,
            lambda folder: f"{folder}; data in {home}",
        )
    db = check("connection", connect, repr)
    if db is not None:
        with db:
            check("PostgreSQL", lambda: db.server_version)
            check("pgvector", lambda: db.pgvector_version)
            check("schema mrl", lambda: "up to date")
            names = check("collections", db.list, lambda names: ", ".join(names) or "none")
            for name in names or ():
                check(f"  {escape(name)}", partial(_health, db, name))
    out.print(table)
    return well


def _health(db: Database, name: str) -> str:
    docs = db.open(name)
    rows = docs.count()
    parts = [f"{rows:,} rows, {docs.low_dims} of {docs.dims} dims"]
    if not docs.indexed and rows >= _ROWS_TO_INDEX:
        parts.append("no index: create_index() makes searches faster")
    try:
        changes, readers, logged = docs.log_health()
    except PrivilegeError:
        pass  # a role that may not read the log is told nothing of it
    else:
        parts.append(
            f"log: {changes:,} changes for {readers} readers"
            if logged
            else "writes are not logged: call mrl.log_changes()"
        )
    promise = docs.promise
    if promise is not None:
        parts.append(f"promise: {promise}")
    return "; ".join(parts)
