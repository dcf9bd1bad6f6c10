"""`mrl-db extension …`: the extension for servers of yours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mrl_db.postgres.server import building

app = typer.Typer(
    help="The extension mrl_db for a server of yours; embedded servers have it.",
    no_args_is_help=True,
)
out = Console()


@app.callback()
def extension() -> None:
    """The extension mrl_db for a server of yours; embedded servers have it."""


@app.command()
def install(
    pg_config: Annotated[
        Path | None,
        typer.Option(help="The server's pg_config; by default the one on the PATH."),
    ] = None,
) -> None:
    """Compiles the extension for a server on this machine, and installs it there."""

    def tell(line: str) -> None:
        out.print(escape(line), highlight=False, soft_wrap=True)

    server = building.find_installation(pg_config)
    for file in building.install(server, tell):
        tell(f"installed {file}")
    if not server.has_pgvector:
        tell(f"pgvector is not there yet: install postgresql-{server.major}-pgvector")
    tell("in each database: CREATE EXTENSION mrl_db CASCADE; or connect() as a superuser")
