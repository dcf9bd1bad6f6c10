"""The native engine: rows, codes and a graph in this process, following their table."""
