"""Declared recall: measure plans on a sample, choose the cheapest that keeps what was asked, remember the promise and its evidence."""
