"""the front of score against any cost, from one index alone

Revision: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COSTS = ["params", "macs", "size_bytes", "peak_activation_bytes", "latency_ms", "number"]


def upgrade() -> None:
    op.drop_index("ix_candidates_score", table_name="candidates")
    op.create_index("ix_candidates_score", "candidates", ["job_id", "rung", "score", *_COSTS], unique=False)


def downgrade() -> None:
    op.drop_index("ix_candidates_score", table_name="candidates")
    op.create_index("ix_candidates_score", "candidates", ["job_id", "rung", "score"], unique=False)
