"""Gives the tests a server that runs already (MRL_DB_TEST_DSN): see foreign.py."""

from __future__ import annotations

import os
from typing import Any

import mrl_db

_connect = mrl_db.connect


def connect(*arguments: Any, home: object = None, **options: Any) -> mrl_db.Database:
    if home is None:
        return _connect(*arguments, **options)
    return _connect(os.environ["MRL_DB_TEST_DSN"])


mrl_db.connect = connect
