"""Where literals, quoted names and comments of SQL end, by database.

A wrong answer would show a literal as if it were SQL. So where databases disagree, and it is not
known which of them reads the statement, the answer is that nobody can tell.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class CannotTell(Exception):  # noqa: N818 - it is no error
    """Where a literal ends is not known, or the statement has no end or too much of it."""


class Dialect(NamedTuple):
    """How a database reads what others read in another way; None where that is not known."""

    has_backslashes: bool | None = None
    """Whether a backslash may keep a quote from ending a literal."""
    has_backslashes_in_names: bool | None = None
    has_brackets: bool | None = None
    """Whether `[a name]` is a name."""
    has_hash_comments: bool | None = None
    nests_comments: bool | None = None
    has_dollar_quotes: bool | None = None


# A server's settings decide about the backslashes of PostgreSQL and MySQL.
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
_MOST_COMMENT_MARKS: Final = 100
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")
_INDEX: Final = re.compile(r"[\w.:$-]*+\]")
"""The rest of a bracket that means the same, be it a name's or an array's."""
_QUOTES_SOMETHING: Final = re.compile(r"""['"`]|--|/\*""")


class Quotes:
    """Of one statement. Positions are those of the characters behind what is meant."""

    __slots__ = ("_dialect", "_text")

    def __init__(self, statement: str, dialect: Dialect) -> None:
        self._text = statement
        self._dialect = dialect

    def check_name(self, quoted: str) -> None:
        """Raises `CannotTell` where the quote behind `quoted` may be no end of it."""
        if "\\" in quoted and self._dialect.has_backslashes_in_names is None:
            raise CannotTell

    def end_of_literal(self, begin: int, end: int, *, is_open: bool, is_escape: bool) -> int:
        """The end of the literal from `begin`, which by standard SQL is at `end`.

        `is_open` says that by standard SQL nothing closes it, `is_escape` that it stands behind
        ESCAPE: it is one character then, for every database.
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
            raise CannotTell  # BigQuery's, and Spark's
        if prefix == "q" and dialect in {_ORACLE, UNKNOWN}:
            raise CannotTell  # q'[it's]'
        return end

    def end_of_dollars(self, mark: str, end: int) -> int:
        """The end of what is between two `mark`s, of which the first ends at `end`."""
        if self._dialect.has_dollar_quotes is False:
            return end
        close = self._text.find(mark, end) if self._dialect.has_dollar_quotes else -1
        if close < 0:
            raise CannotTell
        return close + len(mark)

    def end_of_bracket(self, end: int) -> int:
        """The end of the name in the bracket that opens before `end`; `end` if it is no name."""
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
        """The end of the comment that `mark` opens before `end`; `end` if it is none."""
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
        # For some a carriage return alone ends a line, too.
        if text.find("\r", end, close - 1) >= 0 or (
            is_minus and dialect is UNKNOWN and _QUOTES_SOMETHING.search(text, end, close)
        ):
            raise CannotTell
        return close

    def _end_of_block(self, end: int) -> int:
        text, dialect = self._text, self._dialect
        if text.startswith(("!", "M!"), end) and dialect in {_MYSQL, UNKNOWN}:
            raise CannotTell  # MySQL runs what is in it
        depth = 1
        for _ in range(_MOST_COMMENT_MARKS):
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


def _is_in_word(text: str, at: int) -> bool:
    return at >= 0 and (text[at].isalnum() or text[at] in "_$.")
