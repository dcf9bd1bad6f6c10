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
from mrl_db.model.errors import MissingDependencyError, MrlDbError, PrivilegeError
from mrl_db.postgres import health, required
from mrl_db.postgres.server import building, programs

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
        what: str,
        probe: Callable[[], _Value],
        show: Callable[[_Value], str] = str,
        advise: Callable[[_Value], str | None] = lambda _: None,
    ) -> _Value | None:
        nonlocal well
        try:
            value = probe()
            shown, advice = show(value), advise(value)
        except MrlDbError as error:
            well = False
            table.add_row(what, f"[red]{escape(str(error))}[/]", "[red]✗[/]")
            return None
        if advice is None:
            table.add_row(what, escape(shown), "[green]✓[/]")
        else:
            text = f"{shown}; {advice}" if shown else advice
            table.add_row(what, escape(text), "[yellow]![/]")
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
    check("pg_config", _pg_config)
    db = check("connection", connect, repr)
    if db is not None:
        with db:
            oldest = required.MIN_POSTGRES
            check("PostgreSQL", lambda: f"{db.server_version} ({oldest} or later will do)")
            check("pgvector", lambda: db.pgvector_version, str, health.pgvector_advice)
            check("extension mrl_db", db.extension_health, _extension, lambda found: found.advice)
            check("schema mrl", lambda: "up to date")
            names = check("collections", db.list, lambda names: ", ".join(names) or "none")
            for name in names or ():
                check(f"  {escape(name)}", partial(_health, db, name))
    out.print(table)
    return well


def _pg_config() -> str:
    """What `mrl-db extension install` would build for."""
    try:
        server = building.find_installation()
    except MissingDependencyError:
        return "none on the PATH (mrl-db extension install --pg-config names one)"
    parts = [f"{server.pg_config}: {server.version}"]
    parts.append(f"headers {'there' if server.has_headers else 'missing'}")
    parts.append(f"mrl_db {'installed' if server.has_extension else 'not installed'}")
    return ", ".join(parts)


def _extension(found: health.ExtensionHealth) -> str:
    return ", ".join(part for part in (found.created, found.library) if part is not None)


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
            else "writes are not logged: nobody has read it in a process for a week"
        )
    promise = docs.promise
    if promise is not None:
        parts.append(f"promise: {promise}")
    return "; ".join(parts)
