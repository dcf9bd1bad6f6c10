"""The statements in sql/queries: named once, commented, and read without their comments."""

import re
from collections import Counter

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
