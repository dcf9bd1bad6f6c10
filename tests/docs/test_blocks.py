"""Every block of Python and SQL in the README and docs/ runs as it is written, twice in a row.

The blocks of a page run in their order, with the names that those before have made, on one
database. `GIVEN` makes what a page takes for granted.
"""

import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psycopg
import pytest

import mrl_db
from mrl_db.learn import Adaptor

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|sql)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"docs/frameworks.md": ("langchain_core", "llama_index", "haystack")}
"""Packages without which a page is left out."""
PAGES = [
    page
    for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
    if BLOCK.search(path.read_text())
    if all(map(find_spec, NEEDS.get(page := path.relative_to(ROOT).as_posix(), ())))
]


def collection(db, rows, dims, **columns):
    """A collection `docs` of random rows, and a query or some."""
    vectors = np.random.default_rng(0).standard_normal((rows, dims), dtype=np.float32)
    types = dict.fromkeys(columns, "integer")
    docs = db.create_collection("docs", dims=dims, nesting_dims=(dims // 4, dims), columns=types)
    docs.add(np.arange(rows), vectors, **columns)
    return {"docs": docs, "vectors": vectors, "query": vectors[3], "queries": vectors[:20]}


def for_freshness(db):
    given = collection(db, 300, 32)
    return {
        **given,
        "ids": np.arange(1000, 1010),
        "vectors": given["vectors"][:10],
        "replica": given["docs"],
    }


def for_learning(db):
    given = collection(db, 200, 384, year=2020 + np.arange(200) % 5)
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((3, 384))
    labels = rng.integers(0, 3, 900)
    X = (centres[labels] + 2 * rng.standard_normal((900, 384))).astype(np.float32)  # noqa: N806
    parts = (
        np.eye(384),
        np.ones((384, 8)) / 50,
        np.zeros(8),
        np.ones((8, 384)) / 50,
        np.zeros(384),
    )
    return {
        **given,
        "db": db,
        "vectors": rng.standard_normal((200, 768), dtype=np.float32),
        "adaptor": Adaptor((24, 48, 96, 384), *(part.astype(np.float32) for part in parts)),
        "X": X[:300],
        "y": labels[:300],
        "X_held": X[300:800],
        "y_held": labels[300:800],
        "X_new": X[800:],
    }


def for_recall(db):
    given = collection(db, 400, 32)
    return {**given, "my_queries": given["queries"], "parameters": {"$1": given["query"]}}


GIVEN = {
    "docs/freshness.md": for_freshness,
    "docs/learning.md": for_learning,
    "docs/native.md": lambda db: {**collection(db, 400, 32), "mrl_db": mrl_db},
    "docs/recall.md": for_recall,
    "docs/scale.md": lambda db: {
        **collection(db, 400, 32, year=2020 + np.arange(400) % 5),
        "db": db,
    },
}


def test_there_are_pages_with_blocks():
    assert {"README.md", *GIVEN} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_twice_in_a_row(page, dsn, db, monkeypatch, tmp_path):
    given = GIVEN.get(page, lambda _: {})(db)
    connect = mrl_db.connect  # db is in place of the user's own database
    monkeypatch.setattr(mrl_db, "connect", lambda **given: connect(**given) if given else db)
    monkeypatch.setattr(mrl_db, "connect_async", partial(mrl_db.connect_async, dsn))
    monkeypatch.chdir(tmp_path)

    for _ in range(2):
        names = dict(given)
        for language, line, block in blocks(page):
            if language == "python":
                code = compile("\n" * line + block, str(ROOT / page), "exec")
                exec(code, names)
            else:
                run_sql(dsn, block, names.get("parameters", {}))


def blocks(page):
    """The (language, line, text) of each block."""
    text = (ROOT / page).read_text()
    for match in BLOCK.finditer(text):
        yield match[1], text.count("\n", 0, match.start(2)), match[2]


def run_sql(dsn, block, parameters):
    """Runs statements as psql would, with the parameters that they name as `$1`."""
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        for statement in filter(str.strip, re.split(r";\s*(?:--.*)?$", block, flags=re.MULTILINE)):
            values = [str(v.tolist()) for name, v in parameters.items() if name in statement]
            connection.execute(statement, values or None)
