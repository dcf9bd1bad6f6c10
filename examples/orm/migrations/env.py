"""Alembic's environment: connects by MRL_DB_DSN, or to the embedded server."""

import os
import sys
from pathlib import Path

import psycopg
from alembic import context
from sqlalchemy import create_engine, pool

import mrl_db
from mrl_db.integrations.alembic import include_name, include_object

sys.path.insert(0, str(Path(__file__).parents[1]))
from models import Base

# Connecting installs the schema mrl, or brings it up to date. An embedded server runs until the
# end of this block.
with mrl_db.connect(os.environ.get("MRL_DB_DSN")) as db:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(db.dsn),
        poolclass=pool.NullPool,
    )
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            # Without these two, autogenerate would drop what attaching adds to the table.
            include_object=include_object,
            include_name=include_name,
        )
        with context.begin_transaction():
            context.run_migrations()
