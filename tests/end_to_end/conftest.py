"""End-to-end tests get real databases: SQLite files and a PostgreSQL server of this run."""

from tests.storage import conftest as databases

postgres = databases.postgres
postgres_template = databases.postgres_template
sqlite_template = databases.sqlite_template
backend = databases.backend
empty_url = databases.empty_url
database_url = databases.database_url
