"""Recall and what else tells whether answers are right."""
