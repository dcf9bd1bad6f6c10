"""The options that several commands of `mrl-db` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dsn = Annotated[
    str | None,
    typer.Option(
        help="Connection string; by default the embedded server.",
        envvar="MRL_DB_DSN",
        show_envvar=True,
    ),
]
Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the embedded server; by default MRL_DB_HOME or the user's data folder."
    ),
]
Name = Annotated[str, typer.Argument(help="Name of the collection.")]
K = Annotated[int, typer.Option("-k", help="Rows that a search returns.")]
Where = Annotated[
    str | None, typer.Option(help="""A filter as JSON: '{"year": {"$gte": 2020}}'.""")
]
Like = Annotated[str | None, typer.Option(help="Search by example: the id of a row.")]
Vector = Annotated[Path | None, typer.Option(help="Search by vector: a .npy file (dims,).")]
Engine = Annotated[
    str, typer.Option(help="sql, or native: loads the rows into this process first.")
]
Queries = Annotated[
    Path | None,
    typer.Option(
        help="A .npy file (n, dims) with queries of your users; by default rows stand for them."
    ),
]
