"""Every effect on a database: the embedded server, connections, migrations, the catalogue, statements and writing."""
