"""jobs say what they wait for

Revision: 0004
Revises: 0011, which was there first
"""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("waiting", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "waiting")
