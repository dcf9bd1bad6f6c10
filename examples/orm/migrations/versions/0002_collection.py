"""The table becomes a collection: one statement, in the migration's transaction."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    """Adds the low-dim column and the function mrl.search_packages, and an index."""
    op.execute("SELECT mrl.attach('packages', nesting_dims => '{64,128,384}')")
    op.execute("SELECT mrl.create_index('packages')")


def downgrade():
    """Takes away what attach() added; the table stays."""
    op.execute("SELECT mrl.drop_collection('packages')")
