"""Builds `db.query.summary` of the semantic conventions: a SQL statement's operation and tables.

A statement is read once, from left to right, as tokens; it is not parsed. So the time grows with
its length only, however it is nested. The length and the number of tokens are bounded, because
this runs in the thread that ends the span. Literals, parameters, comments and columns are not part
of a summary. Where databases disagree about the end of a literal, and it is not known which of them
the statement is for, there is no summary.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_coach.sdk.sql_quotes import DIALECTS, UNKNOWN, CannotTell, Quotes

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.sdk.sql_quotes import Dialect

_MAX_STATEMENT: Final = 10_000
"""Characters; a longer statement has no summary."""
_MAX_TOKENS: Final = 600
"""Where no table is expected, names with a dot, an underscore, a digit or quotes are skipped, and
are no tokens; so of a list of columns, only plain words and each AS count."""
_MAX_CACHED: Final = 2000
"""Characters; the summary of a longer statement is not cached."""
_MAX_SUMMARY: Final = 255
_MAX_WORDS: Final = 200
"""Words of a summary before it is cut to `_MAX_SUMMARY` characters."""
_NAME: Final = re.compile(r"[\w.$-]{1,64}")


_VERBS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
_WITH: Final = "WITH"
_AFTER_TABLES: Final = frozenset(
    {
        *("CONNECT", "EXCEPT", "FETCH", "FOR", "GROUP", "HAVING", "INTERSECT", "LIMIT", "MINUS"),
        *("OFFSET", "OPTION", "ORDER", "OUTPUT", "QUALIFY", "RETURNING", "SET", "UNION", "VALUES"),
        *("WHERE", "WINDOW"),
    }
)
"""Keywords that end the list of tables of a FROM."""
_BEFORE_A_TABLE: Final = frozenset(
    {
        *("ABORT", "DELAYED", "FAIL", "HIGH_PRIORITY", "IGNORE", "LATERAL", "LOW_PRIORITY", "ONLY"),
        *("OR", "OVERWRITE", "REPLACE", "ROLLBACK", "TABLE", "TEMP", "TEMPORARY", "UNLOGGED"),
    }
)
"""Keywords that may precede the name of a table after INSERT, UPDATE, INTO or FROM."""
_FILE_TARGETS: Final = frozenset({"DUMPFILE", "OUTFILE"})
_JOINS: Final = frozenset({"APPLY", "JOIN", "STRAIGHT_JOIN"})
_KEYWORDS: Final = (
    _VERBS | _AFTER_TABLES | _FILE_TARGETS | _JOINS | {"FROM", "INTO", "ON", "USING", _WITH}
)
_MAX_KEYWORD: Final = max(map(len, _KEYWORDS))

_SKIPPED: Final = r"""[\s\d=<>!+*^&|~?\\.\]{}]++ | [:@]++\w*+ | -(?!-) | /(?!\*) | \$(?=\d)
    | %(?:\([^()'"`\s]*+\)\w|s)?+"""
"""What is skipped everywhere: space, operators, numbers, parameters."""
_SKIPPED_COLUMNS: Final = r"""
    | (?![Ss][Tt][Rr][Aa][Ii][Gg][Hh][Tt]_) [^\W\d_]++ (?:[_\d][\w$]*+)?+ (?:\.[\w$]++)++
    | (?![Ss][Tt][Rr][Aa][Ii][Gg][Hh][Tt]_) [^\W\d_]++ [_\d] [\w$]*+
    | "[^"\\]*+" | `[^`\\]*+` | (?<![qQ])'[^'\\]*+'(?!')"""
"""What is also skipped where no name is expected: columns, and what is between quotes."""


def _tokenizer(skipped: str) -> Callable[[str, int], re.Match[str] | None]:
    """Returns a function that finds the next token after what is `skipped`.

    The outer repetition is an ordinary `*`: it gives nothing back, because what follows always
    matches. A possessive one around the alternatives matches wrongly on Python before 3.11.5
    (https://github.com/python/cpython/issues/106052).
    """
    return re.compile(
        rf"""(?:{skipped})*
        (?: ( [^\W\d][\w$]*+ (?:\.[\w$]++)*+ )  # 1: a word, with its schema and its columns
          | ( [(),;] )                          # 2
          | ( '[^']*+(?:''[^']*+)*+' )          # 3: a literal
          | ( "[^"]*+(?:""[^"]*+)*+" | `[^`]*+(?:``[^`]*+)*+` )  # 4: a quoted name
          | ( -- | /\* | \# )                   # 5: a comment, perhaps
          | ( \$\w*+\$ )                        # 6: around a dollar-quoted literal
          | ( \[ )                              # 7
          | ( ['"`] )                           # 8: a quote that nothing closes
          | . )?+
        """,
        re.VERBOSE | re.DOTALL,
    ).match


_ANY: Final = _tokenizer(_SKIPPED)
_BETWEEN_NAMES: Final = _tokenizer(_SKIPPED + _SKIPPED_COLUMNS)
_FAR_FROM_NAMES: Final = _tokenizer(_SKIPPED + _SKIPPED_COLUMNS + "| ,")
_WORD, _PUNCTUATION, _LITERAL, _QUOTED, _COMMENT, _DOLLARS, _BRACKET, _OPEN = range(1, 9)
_OPENS: Final = re.compile(r"\s*+\(").match
_NOTHING, _TABLE, _CTE = range(3)
"""What the next name stands for."""


def summary(statement: str, system: str) -> str | None:
    """Returns a summary such as `SELECT activities`; None if it cannot be determined."""
    if len(statement) > _MAX_STATEMENT:
        return None
    if len(statement) > _MAX_CACHED:
        return _read(statement, system)
    return _cached(statement, system)


def _read(statement: str, system: str) -> str | None:
    dialect = DIALECTS.get(system, UNKNOWN)
    if dialect is UNKNOWN and '"""' in statement:
        return None  # BigQuery has literals in such quotes; elsewhere they are parts of names
    try:
        return _Reader(statement, dialect).summary()
    except CannotTell:
        return None


_cached = lru_cache(maxsize=500)(_read)


class _Reader:
    """Reads one statement, or several that are separated by semicolons."""

    __slots__ = (
        *("_defined", "_expected", "_is_ignored", "_is_target", "_listed", "_main", "_outer"),
        *("_previous", "_previous_end", "_quotes", "_tables", "_text", "_verb", "_words"),
    )

    def __init__(self, statement: str, dialect: Dialect) -> None:
        self._text = statement
        self._quotes = Quotes(statement, dialect)
        self._words: list[str] = []
        """The words of the summary, for the statements that were read to their end."""
        self._previous = ""
        """The last word, in capitals; "" if it is longer than any keyword."""
        self._previous_end = 0
        # State of the current statement:
        self._main = ""
        self._is_ignored = False
        """Whether the statement is of a kind that is left out of the summary."""
        self._tables: list[tuple[int, str]] = []
        self._defined: set[str] = set()
        """Names of common table expressions."""
        # State inside the current brackets; `_outer` is the stack of the states around them:
        self._outer: list[tuple[str, int]] = []
        self._verb = ""
        self._expected = _NOTHING
        """What the next name stands for."""
        self._listed = _NOTHING
        """What the next name after a comma stands for."""
        self._is_target = False
        """Whether brackets after the next name contain columns, not a function's arguments."""

    def summary(self) -> str | None:
        """Reads the text and returns its summary; None if that is empty.

        Raises:
            CannotTell: the summary cannot be determined.
        """
        text, at = self._text, 0
        for _ in range(_MAX_TOKENS):
            if self._expected:
                token = _ANY(text, at)
            elif self._listed:
                token = _BETWEEN_NAMES(text, at)
            else:
                token = _FAR_FROM_NAMES(text, at)
            if token is None or token.end() == at:
                break
            at = token.end()
            kind = token.lastindex
            if kind == _WORD:
                self._handle_word(token[_WORD], at)
            elif kind == _PUNCTUATION:
                self._handle_punctuation(token[_PUNCTUATION])
            elif kind is not None:
                at = self._handle_other(kind, token[kind], at)
        if at < len(text) or self._outer:
            raise CannotTell
        self._end_statement()
        return self._joined()

    def _joined(self) -> str | None:
        length, kept = -1, list[str]()
        for word in self._words:
            length += 1 + len(word)
            if length > _MAX_SUMMARY:
                break
            kept.append(word)
        return " ".join(kept) or None

    def _handle_word(self, word: str, end: int) -> None:
        upper = word.upper() if len(word) <= _MAX_KEYWORD else ""
        if upper in _KEYWORDS:
            self._handle_keyword(upper, end)
        elif self._expected == _TABLE:
            if upper not in _BEFORE_A_TABLE:
                is_function = not self._is_target and _OPENS(self._text, end) is not None
                self._handle_name("" if is_function else word, end)
        elif self._expected == _CTE:
            if upper != "RECURSIVE":
                self._handle_name(word, end)
        elif not self._main:
            self._ignore_unless_begun()
        self._previous, self._previous_end = upper, end

    def _handle_keyword(self, word: str, end: int) -> None:  # noqa: C901, PLR0912 - a branch for each keyword
        verb = self._verb
        if word in _VERBS:
            self._begin(word)
        elif word == "FROM":
            if verb and not self._follows("DISTINCT", end - len(word)):
                self._expect(_TABLE, _TABLE)
        elif word in _JOINS:
            if self._listed == _TABLE:
                self._expect(_TABLE, _TABLE)
        elif word == "INTO":
            if verb:
                self._expect(_TABLE, _NOTHING, is_target=True)
        elif word == "USING":
            if verb in {"DELETE", "MERGE"}:
                self._expect(_TABLE, _TABLE, is_target=True)
        elif word == _WITH:
            if not verb or verb == "INSERT":
                self._expect(_CTE, _CTE)
        elif word == "ON":
            self._expected = _NOTHING
        else:
            self._ignore_unless_begun()
            self._expect(_NOTHING, _NOTHING)

    def _follows(self, word: str, position: int) -> bool:
        """Returns whether `word` is the last word, and only space is between it and `position`."""
        return self._previous == word and not self._text[self._previous_end : position].strip()

    def _begin(self, verb: str) -> None:
        """Begins a statement or a subquery, unless one has begun: further verbs are parts of it."""
        if not self._verb:
            self._verb = verb
            self._expect(
                _NOTHING if verb in {"SELECT", "DELETE"} else _TABLE,
                _TABLE if verb == "UPDATE" else _NOTHING,
                is_target=verb in {"INSERT", "MERGE"},
            )
            if not self._outer or not self._main:
                self._main = verb
        else:
            self._expect(_NOTHING, _NOTHING)

    def _expect(self, expected: int, listed: int, *, is_target: bool = False) -> None:
        self._expected, self._listed, self._is_target = expected, listed, is_target

    def _ignore_unless_begun(self) -> None:
        """Leaves a statement out of the summary if it does not begin with a verb."""
        if not self._main and not self._outer and self._listed != _CTE:
            self._is_ignored = True

    def _handle_name(self, name: str, end: int) -> None:
        """Handles a name where one was expected."""
        if self._text.startswith(".", end):
            return  # the name of a schema; the table's name comes next
        if self._expected == _CTE:
            self._defined.add(name.casefold())
        elif (name := name.rpartition(".")[2]) and _NAME.fullmatch(name):
            self._tables.append((len(self._outer), name))
        self._expected, self._is_target = _NOTHING, False

    def _handle_punctuation(self, mark: str) -> None:
        if mark == "(":
            joins = self._expected == _TABLE and not self._is_target
            self._outer.append((self._verb, self._listed))
            self._verb = ""
            self._expected = self._listed = _TABLE if joins else _NOTHING
        elif mark == ")":
            if not self._outer:
                raise CannotTell
            self._verb, self._listed = self._outer.pop()
            self._expected = _NOTHING
        elif mark == ",":
            self._expected = self._listed
        elif self._outer:
            raise CannotTell
        else:
            self._end_statement()
        self._is_target = False

    def _end_statement(self) -> None:
        if self._main and not self._is_ignored:
            self._words.append(self._main)
            if self._tables:
                by_depth = sorted(self._tables, key=lambda table: table[0])
                names = dict.fromkeys(name for _, name in by_depth)
                self._words += (name for name in names if name.casefold() not in self._defined)
            if len(self._words) > _MAX_WORDS:
                raise CannotTell
        self._expect(_NOTHING, _NOTHING)
        self._main = self._verb = ""
        self._is_ignored = False
        self._tables.clear()
        self._defined.clear()

    def _handle_other(self, kind: int, token: str, end: int) -> int:
        """Handles a token that is neither word nor punctuation, and returns where it ends."""
        if kind == _COMMENT:
            return self._quotes.end_of_comment(token, end)
        if kind == _BRACKET:
            begin, end = end, self._quotes.end_of_bracket(end)
            if end > begin:
                self._handle_quoted(self._text[begin : end - 1], end)
            return end
        if kind == _QUOTED:
            self._quotes.check_name(token)
            mark = token[0]
            self._handle_quoted(token[1:-1].replace(mark * 2, mark), end)
            return end
        self._expected = _NOTHING
        if kind == _DOLLARS:
            return self._quotes.end_of_dollars(token, end)
        begin = end - len(token)
        is_escape = self._follows("ESCAPE", begin)
        return self._quotes.end_of_literal(begin, end, is_open=kind == _OPEN, is_escape=is_escape)

    def _handle_quoted(self, name: str, end: int) -> None:
        if self._expected != _NOTHING:
            self._handle_name(name, end)
