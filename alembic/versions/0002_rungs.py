"""candidates are scored on rungs of rising fidelity

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was scored before was scored in full, on the one rung there was.
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rung", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("rungs", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.drop_index("ix_candidates_score")
    one_rung = "'[' || score || ']'"
    if op.get_bind().dialect.name == "postgresql":
        one_rung = f"CAST({one_rung} AS JSON)"
    op.execute(f"UPDATE candidates SET rung = 1, rungs = {one_rung} WHERE score IS NOT NULL")
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.alter_column("rung", server_default=None)
        batch_op.alter_column("rungs", server_default=None)
        batch_op.create_index("ix_candidates_score", ["job_id", "rung", "score"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.drop_index("ix_candidates_score")
        batch_op.drop_column("rungs")
        batch_op.drop_column("rung")
        batch_op.create_index("ix_candidates_score", ["job_id", "score"], unique=False)
