"""Finds where literals, quoted names and comments of SQL end, by database.

A wrong answer would show a part of a literal as if it were SQL. So where databases disagree, and it
is not known which of them the statement is for, `CannotTell` is raised.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class CannotTell(Exception):  # noqa: N818 - it is not an error
    """The end of a literal is not known, or the statement is malformed or too long."""


class Dialect(NamedTuple):
    """How a database reads syntax that databases read differently; None where it is not known."""

    has_backslashes: bool | None = None
    """Whether a backslash may escape a quote in a literal."""
    has_backslashes_in_names: bool | None = None
    has_brackets: bool | None = None
    """Whether `[a name]` is a quoted name."""
    has_hash_comments: bool | None = None
    nests_comments: bool | None = None
    has_dollar_quotes: bool | None = None


# In PostgreSQL and MySQL, the server's settings decide whether a backslash is an escape.
_POSTGRESQL: Final = Dialect(
    has_backslashes_in_names=False,
    has_brackets=False,
    has_hash_comments=False,
    nests_comments=True,
    has_dollar_quotes=True,
)
_MYSQL: Final = Dialect(
    has_brackets=False, has_hash_comments=True, nests_comments=False, has_dollar_quotes=False
)
_ORACLE: Final = Dialect(
    has_backslashes=False,
    has_backslashes_in_names=False,
    has_brackets=False,
    has_hash_comments=False,
    nests_comments=False,
    has_dollar_quotes=False,
)
_SQLITE: Final = _ORACLE._replace(has_brackets=True)
_SQL_SERVER: Final = _SQLITE._replace(nests_comments=True)
UNKNOWN: Final = Dialect()
DIALECTS: Final = {
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": _SQLITE,
    "mssql": _SQL_SERVER,
    "microsoft.sql_server": _SQL_SERVER,
    "oracle": _ORACLE,
    "oracle.db": _ORACLE,
}
"""By `db.system` and `db.system.name`."""

_ESCAPED_LITERAL: Final = re.compile(r"'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+'", re.DOTALL)
_MAX_COMMENT_MARKS: Final = 100
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")
_INDEX: Final = re.compile(r"[\w.:$-]*+\]")
"""What may follow `[` so that a quoted name and an array index would end at the same position."""
_QUOTES_SOMETHING: Final = re.compile(r"""['"`]|--|/\*""")


class Quotes:
    """Finds where quoted parts of one statement end; an end is the position just after a part."""

    __slots__ = ("_dialect", "_text")

    def __init__(self, statement: str, dialect: Dialect) -> None:
        self._text = statement
        self._dialect = dialect

    def check_name(self, quoted: str) -> None:
        """Raises `CannotTell` if the quoted name `quoted` may not end with its last quote."""
        if "\\" in quoted and self._dialect.has_backslashes_in_names is None:
            raise CannotTell

    def end_of_literal(self, begin: int, end: int, *, is_open: bool, is_escape: bool) -> int:
        """Returns the end of the literal that begins at `begin`; by standard SQL, it is `end`.

        `is_open`: by standard SQL, the literal is not closed. `is_escape`: the literal follows
        ESCAPE, so that all databases read it as one character.

        Raises:
            CannotTell: databases disagree, or the literal is not closed.
        """
        text, dialect = self._text, self._dialect
        literal = text[begin:end]
        prefix = text[begin - 1].lower() if begin else ""
        if prefix == "e" and dialect is _POSTGRESQL and not _is_in_word(text, begin - 2):
            escaped = _ESCAPED_LITERAL.match(text, begin)
            if escaped is None:
                raise CannotTell
            return escaped.end()
        has_backslash = r"\'" in literal and dialect.has_backslashes is not False
        if is_open or (has_backslash and not (is_escape and literal == r"'\'")):
            raise CannotTell
        if dialect is UNKNOWN and (literal.startswith("'''") or prefix == "r"):
            raise CannotTell  # triple-quoted or raw, as in BigQuery and Spark
        if prefix == "q" and dialect in {_ORACLE, UNKNOWN}:
            raise CannotTell  # as in q'[it's]'
        return end

    def end_of_dollars(self, mark: str, end: int) -> int:
        """Returns the end of the dollar-quoted literal whose `mark` is just before `end`.

        Returns `end` if the database has no such literals.
        """
        if self._dialect.has_dollar_quotes is False:
            return end
        close = self._text.find(mark, end) if self._dialect.has_dollar_quotes else -1
        if close < 0:
            raise CannotTell
        return close + len(mark)

    def end_of_bracket(self, end: int) -> int:
        """Returns the end of the name whose `[` is just before `end`.

        Returns `end` if the `[` does not begin a name.
        """
        text, dialect = self._text, self._dialect
        if dialect.has_brackets is False:
            return end
        if dialect.has_brackets is None:
            if _INDEX.match(text, end) is None:
                raise CannotTell
            return end
        close = text.find("]", end)
        if dialect is _SQL_SERVER:
            while close >= 0 and text.startswith("]]", close):
                close = text.find("]", close + 2)
        if close < 0:
            raise CannotTell
        return close + 1

    def end_of_comment(self, mark: str, end: int) -> int:
        """Returns the end of the comment whose `mark` is just before `end`.

        Returns `end` if the `mark` does not begin a comment.
        """
        if mark == "/*":
            return self._end_of_block(end)
        text, dialect = self._text, self._dialect
        if mark == "#" and not dialect.has_hash_comments:
            if dialect.has_hash_comments is None:
                raise CannotTell
            return end
        is_minus = mark == "--" and not text[end : end + 1].isspace()
        if is_minus and dialect is _MYSQL:
            return end
        close = text.find("\n", end)
        close = len(text) if close < 0 else close
        # In some databases, a carriage return alone ends a line, too.
        if text.find("\r", end, close - 1) >= 0 or (
            is_minus and dialect is UNKNOWN and _QUOTES_SOMETHING.search(text, end, close)
        ):
            raise CannotTell
        return close

    def _end_of_block(self, end: int) -> int:
        text, dialect = self._text, self._dialect
        if text.startswith(("!", "M!"), end) and dialect in {_MYSQL, UNKNOWN}:
            raise CannotTell  # MySQL executes the content of such a comment
        depth = 1
        for _ in range(_MAX_COMMENT_MARKS):
            mark = _COMMENT_MARK.search(text, end)
            if mark is None:
                break
            end = mark.end()
            if mark[0] == "*/":
                depth -= 1
            elif dialect.nests_comments is None:
                raise CannotTell
            elif dialect.nests_comments:
                depth += 1
            if not depth:
                return end
        raise CannotTell


def _is_in_word(text: str, position: int) -> bool:
    return position >= 0 and (text[position].isalnum() or text[position] in "_$.")
