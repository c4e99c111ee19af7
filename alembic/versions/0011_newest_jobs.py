"""an index by which jobs are listed, the newest first

Revision: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_newest", "jobs", ["created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_newest", table_name="jobs")
