"""Run by Alembic, over the connection that `leanpacs.catalog.migrations` hands it."""

from __future__ import annotations

from alembic import context

from leanpacs.catalog.schema import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
