"""candidates of several spaces, their further costs, and profiles of clients' devices

Revision: 0003
Revises: 0002
"""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COSTS = {"size_bytes": sa.BigInteger(), "peak_activation_bytes": sa.BigInteger(), "latency_ms": sa.Double()}


def upgrade() -> None:
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.add_column(sa.Column("space", sa.String(), nullable=False, server_default=""))
        for name, type_ in _COSTS.items():
            batch_op.add_column(sa.Column(name, type_, nullable=True))
    # A job searched one space, which its request names; the default was resnet_cifar.
    jobs = sa.table("jobs", sa.column("id", sa.String()), sa.column("request", sa.JSON()))
    candidates = sa.table(
        "candidates", sa.column("job_id", sa.String()), sa.column("space", sa.String()),
        sa.column("architecture_key", sa.String()),
    )  # fmt: skip
    bind = op.get_bind()
    for id, request in bind.execute(sa.select(jobs.c.id, jobs.c.request)).all():
        space = request.get("search", {}).get("space", "resnet_cifar")
        key = sa.literal(f"{space} ") + candidates.c.architecture_key
        of_job = candidates.update().where(candidates.c.job_id == id)
        bind.execute(of_job.values(space=space, architecture_key=key))
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.alter_column("space", server_default=None)
    op.create_table(
        "profiles",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_profiles"),
    )


def downgrade() -> None:
    op.drop_table("profiles")
    candidates = sa.table("candidates", sa.column("space", sa.String()), sa.column("architecture_key", sa.String()))
    length = sa.func.length(candidates.c.space) + 2
    op.execute(candidates.update().values(architecture_key=sa.func.substr(candidates.c.architecture_key, length)))
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        for name in reversed(_COSTS):
            batch_op.drop_column(name)
        batch_op.drop_column("space")
