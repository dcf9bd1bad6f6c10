"""Who runs a plan: `sql` inside PostgreSQL, `native` over loaded rows, `exact` by brute force."""
