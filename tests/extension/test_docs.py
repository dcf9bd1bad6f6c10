"""The page about the extension: what it shows runs where the extension is."""

import re
from pathlib import Path

from extension.tables import clustered, fill, text

PAGE = Path(__file__).parents[2] / "docs" / "extension.md"


def test_the_page_begins_with_what_runs(connection):
    rows = clustered(300, 24)
    connection.execute("DROP EXTENSION mrl_db; DROP EXTENSION vector")
    block = re.search(r"^```postgresql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    statements = re.split(r";\s*\n", re.sub(r"--.*", "", block[1]).strip())
    connection.execute(statements[0])
    fill(connection, rows, table="articles", column="vector(24)")
    connection.execute("ALTER TABLE articles ADD title text")

    connection.execute(statements[1])
    found = connection.execute(statements[2].rstrip(";").replace("$1", f"'{text(rows[7])}'"))

    assert found.fetchone()[0] == 7
