"""The embedded PostgreSQL: its processes, its folders, its upgrade."""
