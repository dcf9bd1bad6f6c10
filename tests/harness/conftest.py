"""Modules for public harnesses; what needs a harness that is not installed is left out."""

from needs import lacking

collect_ignore = lacking({"test_vectordbbench.py": ("vectordb_bench",)})
