"""Adaptive classification: nested heads over prefixes, and a cascade that stops at the first dims at which it is sure."""

from mrl_db.classify.cascade import Answer, Cascade

__all__ = ["Answer", "Cascade"]
