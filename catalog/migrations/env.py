"""Alembic's entry: runs the steps on the connection that ``catalog.database`` hands over.

From a shell (``alembic -c catalog/migrations/alembic.ini …``) it opens the environment's database itself.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from catalog.tables import metadata


def run(connection: Connection) -> None:
    """Run the wanted steps inside the connection's open transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,  # SQLite cannot alter a column in place
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from catalog.database import open_database, write

    with write(open_database(), lock="migrate") as opened:
        run(opened)
