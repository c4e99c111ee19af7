"""jobs say what they wait for

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("waiting", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "waiting")
