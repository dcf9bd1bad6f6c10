"""Tables for notebooks: every text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_MOST_CHARACTERS = 200  # of a cell


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table; long cells are cut, floats shown with six digits.

    >>> table("a < b", ["x"], [["<b>"]])
    '<table><caption>a &lt; b</caption><tr><th>x</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    lines = [[_cell("th", heading) for heading in headings]] if headings else []
    lines += [[_cell("td", value) for value in row] for row in rows]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"


def _cell(tag: str, value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) > _MOST_CHARACTERS:
        text = text[: _MOST_CHARACTERS - 1] + "…"
    return f"<{tag}>{escape(text)}</{tag}>"
