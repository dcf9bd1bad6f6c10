"""The name of before for `mrl_db.classify.stored.classify_loaded`, until no module imports it."""

from mrl_db.classify.stored import classify_loaded as classify

__all__ = ["classify"]
