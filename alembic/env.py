"""How alembic reaches the database: a connection handed in by archsearch, or one of its own at a shell."""

from alembic import context
from archsearch.settings import Settings
from archsearch.store.database import connect
from archsearch.store.migrate import VERSION_TABLE, whole_transaction
from archsearch.store.models import Row


def run(connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        version_table=VERSION_TABLE,
        render_as_batch=connection.dialect.name == "sqlite",
        # The engine keeps its own tables in the same database; they are not ours to compare.
        include_name=lambda name, kind, parents: kind != "table" or name in Row.metadata.tables,
    )
    with context.begin_transaction():
        context.run_migrations()


if (handed_in := context.config.attributes.get("connection")) is not None:
    run(handed_in)
else:
    settings = Settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with whole_transaction(connect(settings.url)) as own:
        run(own)
