"""Every effect on a database: connections, migrations, the catalogue, statements, writing."""
