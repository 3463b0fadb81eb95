"""How alembic runs our migrations: on a connection that `service.store.migrate` hands over.

Logging is the application's business and is not configured here.
"""

from alembic import context
from sqlalchemy import Connection

from service.store.tables import metadata

# A migration that cannot have its lock at once gives up rather than queue every request behind
# it; it can be run again. Both hold for each migration, which is a transaction of its own.
GUARD_RAILS = ("SET lock_timeout = '5s'", "SET statement_timeout = '60s'")


def run_offline() -> None:
    """Write the SQL instead of running it."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    for guard_rail in GUARD_RAILS:
        context.execute(guard_rail)
    with context.begin_transaction():
        context.run_migrations()


def run_online(connection: Connection) -> None:
    """Run them, one transaction each."""
    for guard_rail in GUARD_RAILS:
        connection.exec_driver_sql(guard_rail)
    connection.commit()
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online(context.config.attributes["connection"])
