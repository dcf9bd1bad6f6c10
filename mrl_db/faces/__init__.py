"""What people meet besides Python calls: the command line, the demo, progress, sources of rows."""
