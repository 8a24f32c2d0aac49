"""What a SQL statement does, and to which tables: `db.query.summary` of the semantic conventions.

Parsed by sqlglot where the host has it (`pip install 'otel-coach[sql]'`). Literals, parameters and
columns are no part of it.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST: Final = 10_000
"""Characters of a statement; parsing a longer one would be felt."""
_LONGEST_SUMMARY: Final = 255
_PARSED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH"})
"""Of others sqlglot knows less, and says so in the log with the statement in it."""
_NAME: Final = re.compile(r"[\w.$-]{1,64}")
_DIALECT: Final = {"postgresql": "postgres", "mssql": "tsql", "microsoft.sql_server": "tsql"}
_INSTRUMENTATIONS: Final = frozenset(
    f"opentelemetry.instrumentation.{name}" for name in ("asyncpg", "dbapi", "sqlalchemy")
)
"""`dbapi` is what those of psycopg, MySQL and SQLite are made of."""
_sqlglot: Any = None


def is_needed() -> bool:
    """Whether something in this process makes spans of statements."""
    return not _INSTRUMENTATIONS.isdisjoint(sys.modules)


def load() -> None:
    """Import sqlglot, if the host has it; until then there are no summaries.

    It takes 0.1 s, which no statement should wait for.
    """
    global _sqlglot  # noqa: PLW0603 - a module that may be there or not
    if find_spec("sqlglot") is not None:
        _sqlglot = import_module("sqlglot")


def operation(text: str) -> str:
    """The first word of a statement or of a span's name, if it is one."""
    word = text.split(maxsplit=1)[0].upper() if text.strip() else ""
    return word if word.isalpha() and word.isascii() else ""


def summary(statement: str, system: str) -> str | None:
    """`SELECT activities`; None where it cannot be told."""
    if _sqlglot is None or len(statement) > _LONGEST or operation(statement) not in _PARSED:
        return None
    return _summary(statement, system)


@lru_cache(maxsize=500)
def _summary(statement: str, system: str) -> str | None:
    try:
        dialect = _sqlglot.Dialect.get_or_raise(_DIALECT.get(system, system))
    except ValueError:
        dialect = _sqlglot.Dialect()
    try:
        # Without its text, the parser can repeat nothing of it anywhere.
        parsed = dialect.parser().parse(dialect.tokenize(statement), "")
    except (_sqlglot.errors.SqlglotError, RecursionError):
        return None
    words = [word for one in parsed if one is not None for word in _words(one)]
    return " ".join(words)[:_LONGEST_SUMMARY] or None


def _words(parsed: Any) -> Iterator[str]:
    yield parsed.key.upper()
    defined = {cte.alias for cte in parsed.find_all(_sqlglot.exp.CTE)}
    tables = dict.fromkeys(table.name for table in parsed.find_all(_sqlglot.exp.Table))
    yield from (name for name in tables if name not in defined and _NAME.fullmatch(name))
