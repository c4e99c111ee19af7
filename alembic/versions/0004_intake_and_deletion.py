"""data sets and profiles are checked by a worker, idempotency keys everywhere, and files whose row was deleted

Revision: 0004
Revises: 0003
"""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    with op.batch_alter_table("uploads", schema=None) as batch_op:
        batch_op.add_column(sa.Column("used_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index("ix_uploads_sha256", ["sha256"], unique=False)
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        # Those that are there were checked inside their request.
        batch_op.add_column(sa.Column("status", sa.String(), nullable=False, server_default="ready"))
        batch_op.add_column(sa.Column("progress", sa.Double(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("attempt", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("upload", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("options", _JSON, nullable=True))
        batch_op.add_column(sa.Column("error", _JSON, nullable=True))
        batch_op.add_column(sa.Column("question", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("idempotency_key", sa.String(), nullable=True))
        batch_op.alter_column("sha256", existing_type=sa.String(), nullable=True)
        batch_op.alter_column("task", existing_type=_JSON, nullable=True)
        batch_op.alter_column("splits", existing_type=_JSON, nullable=True)
        batch_op.create_unique_constraint("uq_datasets_question", ["question"])
        batch_op.create_unique_constraint("uq_datasets_idempotency_key", ["idempotency_key"])
    with op.batch_alter_table("teachers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("measured_on", _JSON, nullable=True))
        batch_op.add_column(sa.Column("idempotency_key", sa.String(), nullable=True))
        batch_op.create_unique_constraint("uq_teachers_idempotency_key", ["idempotency_key"])
    with op.batch_alter_table("profiles", schema=None) as batch_op:
        # Ready, and without predictors: those of the profiles that are there are fitted by each job, as before.
        batch_op.add_column(sa.Column("status", sa.String(), nullable=False, server_default="ready"))
        batch_op.add_column(sa.Column("attempt", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("predictors", _JSON, nullable=True))
        batch_op.add_column(sa.Column("error", _JSON, nullable=True))
        batch_op.add_column(sa.Column("idempotency_key", sa.String(), nullable=True))
        batch_op.create_unique_constraint("uq_profiles_idempotency_key", ["idempotency_key"])
    for table, columns in (("datasets", ("status", "progress", "attempt")), ("profiles", ("status", "attempt"))):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in columns:
                batch_op.alter_column(column, server_default=None)
    op.create_table(
        "leftovers",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_leftovers"),
    )


def downgrade() -> None:
    op.drop_table("leftovers")
    with op.batch_alter_table("profiles", schema=None) as batch_op:
        batch_op.drop_constraint("uq_profiles_idempotency_key", type_="unique")
        for column in ("idempotency_key", "error", "predictors", "attempt", "status"):
            batch_op.drop_column(column)
    with op.batch_alter_table("teachers", schema=None) as batch_op:
        batch_op.drop_constraint("uq_teachers_idempotency_key", type_="unique")
        for column in ("idempotency_key", "measured_on"):
            batch_op.drop_column(column)
    op.execute("DELETE FROM datasets WHERE status <> 'ready'")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_constraint("uq_datasets_idempotency_key", type_="unique")
        batch_op.drop_constraint("uq_datasets_question", type_="unique")
        for column in ("idempotency_key", "question", "error", "options", "upload", "attempt", "progress", "status"):
            batch_op.drop_column(column)
        for column, type_ in (("sha256", sa.String()), ("task", _JSON), ("splits", _JSON)):
            batch_op.alter_column(column, existing_type=type_, nullable=False)
    with op.batch_alter_table("uploads", schema=None) as batch_op:
        batch_op.drop_index("ix_uploads_sha256")
        batch_op.drop_column("used_at")
