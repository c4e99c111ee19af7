"""what is known of a teacher as JSON: what there is to know depends on the task

Revision: 0009
Revises: 0008
"""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True)
_COLUMNS = {
    "num_classes": sa.BigInteger(),
    "in_chans": sa.BigInteger(),
    "class_names": _JSON,
    "params": sa.BigInteger(),
    "macs": sa.BigInteger(),
    "measured_on": _JSON,
    "selection_acc": sa.Double(),
}


def _teachers(*columns: sa.Column) -> sa.Table:
    return sa.Table("teachers", sa.MetaData(), sa.Column("id", sa.String(), primary_key=True), *columns)


def upgrade() -> None:
    op.add_column("teachers", sa.Column("facts", _JSON, nullable=True))
    table = _teachers(sa.Column("facts", _JSON), *(sa.Column(name, kind) for name, kind in _COLUMNS.items()))
    connection = op.get_bind()
    for row in connection.execute(sa.select(table)).mappings().all():
        facts = {name: row[name] for name in _COLUMNS if row[name] is not None}
        if facts:
            connection.execute(sa.update(table).where(table.c.id == row["id"]).values(facts=facts))
    with op.batch_alter_table("teachers", schema=None) as batch_op:
        for name in _COLUMNS:
            batch_op.drop_column(name)


def downgrade() -> None:
    with op.batch_alter_table("teachers", schema=None) as batch_op:
        for name, kind in _COLUMNS.items():
            batch_op.add_column(sa.Column(name, kind, nullable=True))
    table = _teachers(sa.Column("facts", _JSON), *(sa.Column(name, kind) for name, kind in _COLUMNS.items()))
    connection = op.get_bind()
    for row in connection.execute(sa.select(table.c.id, table.c.facts)).mappings().all():
        known = {name: value for name, value in (row["facts"] or {}).items() if name in _COLUMNS}
        if known:
            connection.execute(sa.update(table).where(table.c.id == row["id"]).values(**known))
    with op.batch_alter_table("teachers", schema=None) as batch_op:
        batch_op.drop_column("facts")
