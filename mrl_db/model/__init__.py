"""What everything speaks in: pure data and rules, without a database."""
