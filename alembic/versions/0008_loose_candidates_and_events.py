"""candidates and events of a deleted job go by and by, instead of with its row

Revision: 0008
Revises: 0007
"""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("candidates", "events"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_constraint(f"fk_{table}_job_id", type_="foreignkey")


def downgrade() -> None:
    for table in ("candidates", "events"):
        op.execute(sa.text(f"DELETE FROM {table} WHERE job_id NOT IN (SELECT id FROM jobs)"))
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.create_foreign_key(f"fk_{table}_job_id", "jobs", ["job_id"], ["id"], ondelete="CASCADE")
