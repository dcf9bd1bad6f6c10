"""Adaptive classification: heads over prefixes, and a cascade that stops where it is sure."""

from mrl_db.classify.answers import Answer
from mrl_db.classify.cascade import Cascade

__all__ = ["Answer", "Cascade"]
