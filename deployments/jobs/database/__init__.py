"""The database: its tables, its schema, and what differs between SQLite and PostgreSQL."""
