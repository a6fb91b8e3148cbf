"""Database servers behind one interface: SQLite files and PostgreSQL."""
