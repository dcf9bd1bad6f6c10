"""The statements in sql/queries: named once, commented, sent, and read without their comments.

And the rights on what sql/tables makes.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import mrl_db
from mrl_db.postgres import statements


def texts():
    files = sorted((statements.sql_folder() / "queries").iterdir())
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def test_no_two_statements_share_a_name():
    names = [
        name for text in texts().values() for name in re.findall(r"^-- name: (\S+)$", text, re.M)
    ]

    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert all(statements.query(name).as_string() for name in names)


def test_every_file_says_first_what_it_is_for():
    assert all(re.match(r"-- (?!name: )\S", text) for text in texts().values())


def test_no_comment_travels_to_the_server():
    for module in texts():
        for statement in statements.fragments(module).values():
            assert "--" not in statement.as_string()


def test_every_statement_is_sent_and_every_name_has_one():
    """Fragments of the filter language are asked for by their operators."""
    named = {name for module in texts() for name in statements.fragments(module)}
    strings, asked = set(), set()
    for path in Path(mrl_db.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "statements.query":
                asked |= {each.value for each in node.args if isinstance(each, ast.Constant)}

    assert {name for name in named - strings if "$" not in name} == set()
    assert asked - named == set()
    assert len(asked) > 50


def test_every_table_is_granted():
    folder = statements.sql_folder()
    tables = [path.read_text(encoding="utf-8") for path in (folder / "tables").glob("*.sql")]
    made = {name for text in tables for name in re.findall(r"^CREATE TABLE (mrl\.\w+)", text, re.M)}
    granted = set(re.findall(r"mrl\.\w+", (folder / "grants.sql").read_text(encoding="utf-8")))

    assert len(made) > 10
    assert made - granted == set()
