"""Recall as a promise: measure plans, choose the cheapest that reaches it, keep the evidence."""
