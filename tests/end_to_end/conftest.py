"""End-to-end tests get real databases: SQLite files and a PostgreSQL server of this run."""

from tests.api import conftest as desks
from tests.storage import conftest as databases

postgres = databases.postgres
postgres_template = databases.postgres_template
sqlite_template = databases.sqlite_template
backend = databases.backend
empty_url = databases.empty_url
database_url = databases.database_url
sqlite_desk = desks.sqlite_desk
postgres_desk = desks.postgres_desk
desk_url = desks.desk_url
