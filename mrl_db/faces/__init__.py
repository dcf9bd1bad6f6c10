"""What people meet besides the Python calls: the command line, the demo, progress, sources of rows."""
