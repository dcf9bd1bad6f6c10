"""Modules for public harnesses; what needs a harness that is not installed is left out."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("vectordb_bench") else ["test_vectordbbench.py"]
