"""Alembic's environment: runs the revisions on the connection that `deployments.jobs.database.schema` passes in.

A new revision is a new file in `versions/`; a unit test compares what the revisions build with `tables.py`.
"""

from alembic import context

from deployments.jobs.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
