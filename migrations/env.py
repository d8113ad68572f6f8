"""How Alembic reaches the schema: the connection comes from whoever upgrades."""

import importlib
import importlib.util

from alembic import context

from tickover.ground.database import Base

# A finished migration has no shadow and no reports any more; their tables are then no part of the schema.
for package in ("async_tick", "shadow", "reports"):
    if importlib.util.find_spec(package) is not None and importlib.util.find_spec(f"{package}.models") is not None:
        importlib.import_module(f"{package}.models")

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
