"""what a teacher's outputs are called, and what was noted of teachers and data sets

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    with op.batch_alter_table("teachers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("class_names", _JSON, nullable=True))
        batch_op.add_column(sa.Column("notes", _JSON, nullable=True))
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("notes", _JSON, nullable=True))


def downgrade() -> None:
    for table, columns in (("datasets", ("notes",)), ("teachers", ("notes", "class_names"))):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in columns:
                batch_op.drop_column(column)
