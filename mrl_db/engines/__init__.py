"""Who runs a plan and returns hits: `sql` inside PostgreSQL, `exact` by brute force in this process."""
