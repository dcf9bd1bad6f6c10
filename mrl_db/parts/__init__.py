"""Collections in parts: more rows than one process, one machine or one server holds.

Every part searches its own rows, by the same plan, and answers are merged by distance and key:

- `open_threads`: one table, in several parts in the memory of this process.
- `open_actors`: one table, in parts in the memory of a Ray cluster (the extra `ray`).
- `open_servers`: one collection on several servers, each with the rows of some keys.

docs/scale.md says what is promised of them, and what is not.
"""

from mrl_db.parts.homes import home_of
from mrl_db.parts.part import PartStatus
from mrl_db.parts.parted import PartedCollection
from mrl_db.parts.ray import open_actors
from mrl_db.parts.threads import open_servers, open_threads

__all__ = [
    "PartStatus",
    "PartedCollection",
    "home_of",
    "open_actors",
    "open_servers",
    "open_threads",
]
