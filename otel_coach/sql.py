"""What a SQL statement does, and to which tables: `db.query.summary` of the semantic conventions.

A statement is read once, from left to right, in tokens; nothing is parsed. So the time grows with
its length alone, whatever is nested in it, and both the length and the number of tokens are
bounded: this runs in the thread that ends the span. Literals, parameters, comments and columns are
no part of a summary. Where two databases would disagree about where a literal ends, and the
database is not known to be one of them, there is no summary.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_coach.sql_quotes import DIALECTS, UNKNOWN, CannotTell, Quotes

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.sql_quotes import Dialect

_LONGEST: Final = 10_000
"""Characters of a statement that is read."""
_MOST_TOKENS: Final = 600
"""Columns are passed over and count for little: a SELECT of 240 columns has some 300."""
_LONGEST_KEPT: Final = 2000
"""Characters of a statement whose summary is remembered."""
_LONGEST_SUMMARY: Final = 255
_MOST_WORDS: Final = 200
"""Of a summary, before it is cut."""
_LONGEST_WORD: Final = 1000
_FIRST_WORD: Final = re.compile(r"\s*+([A-Za-z]++)(?!\S)")
_NAME: Final = re.compile(r"[\w.$-]{1,64}")


_VERBS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
_WITH: Final = "WITH"
_ENDS_A_LIST: Final = frozenset(
    {
        *("CONNECT", "EXCEPT", "FETCH", "FOR", "GROUP", "HAVING", "INTERSECT", "LIMIT", "MINUS"),
        *("OFFSET", "OPTION", "ORDER", "OUTPUT", "QUALIFY", "RETURNING", "SET", "UNION", "VALUES"),
        *("WHERE", "WINDOW"),
    }
)
"""What comes after the tables of a FROM."""
_BEFORE_A_TABLE: Final = frozenset(
    {
        *("ABORT", "DELAYED", "FAIL", "HIGH_PRIORITY", "IGNORE", "LATERAL", "LOW_PRIORITY", "ONLY"),
        *("OR", "OVERWRITE", "REPLACE", "ROLLBACK", "TABLE", "TEMP", "TEMPORARY", "UNLOGGED"),
    }
)
"""What may stand between INSERT, UPDATE, INTO or FROM and the name."""
_NO_TABLE: Final = frozenset({"DUMPFILE", "OUTFILE"})
_JOINS: Final = frozenset({"APPLY", "JOIN", "STRAIGHT_JOIN"})
_KEYWORDS: Final = (
    _VERBS | _ENDS_A_LIST | _NO_TABLE | _JOINS | {"FROM", "INTO", "ON", "USING", _WITH}
)
_LONGEST_KEYWORD: Final = max(map(len, _KEYWORDS))

_PASSED_OVER: Final = r"""[\s\d=<>!+*^&|~?\\.\]{}]++ | [:@]++\w*+ | -(?!-) | /(?!\*) | \$(?=\d)
    | %(?:\([^()'"`\s]*+\)\w|s)?+"""
"""What says nothing of tables: space, operators, numbers, parameters."""
_NO_NAME: Final = r"""
    | (?![Ss][Tt][Rr][Aa][Ii][Gg][Hh][Tt]_) [^\W\d_]++ (?:[_\d][\w$]*+)?+ (?:\.[\w$]++)++
    | (?![Ss][Tt][Rr][Aa][Ii][Gg][Hh][Tt]_) [^\W\d_]++ [_\d] [\w$]*+
    | "[^"\\]*+" | `[^`\\]*+` | (?<![qQ])'[^'\\]*+'(?!')"""
"""What says nothing either where no name is expected: columns, and what is between quotes."""


def _tokens(passed_over: str) -> Callable[[str, int], re.Match[str] | None]:
    """What finds the next token."""
    return re.compile(
        rf"""(?:{passed_over})*+
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


_ANY: Final = _tokens(_PASSED_OVER)
_BETWEEN_NAMES: Final = _tokens(_PASSED_OVER + _NO_NAME)
_FAR_FROM_NAMES: Final = _tokens(_PASSED_OVER + _NO_NAME + "| ,")
_WORD, _PUNCTUATION, _LITERAL, _QUOTED, _COMMENT, _DOLLARS, _BRACKET, _OPEN = range(1, 9)
_OPENS: Final = re.compile(r"\s*+\(").match
_NOTHING, _TABLE, _CTE = range(3)
"""What the next name stands for."""


def operation(text: str) -> str:
    """The first word of a statement or of a span's name, if it is one."""
    found = _FIRST_WORD.match(text, 0, _LONGEST_WORD)
    return found[1].upper() if found else ""


def summary(statement: str, system: str) -> str | None:
    """`SELECT activities`; None where it cannot be told."""
    if len(statement) > _LONGEST:
        return None
    if len(statement) > _LONGEST_KEPT:
        return _read(statement, system)
    return _remembered(statement, system)


def _read(statement: str, system: str) -> str | None:
    try:
        return _Reader(statement, DIALECTS.get(system, UNKNOWN)).summary()
    except CannotTell:
        return None


_remembered = lru_cache(maxsize=500)(_read)


class _Reader:
    """One reading of one statement, or of several with semicolons between them."""

    __slots__ = (
        *("_defined", "_expected", "_is_ignored", "_is_target", "_listed", "_main", "_outer"),
        *("_previous", "_previous_end", "_quotes", "_tables", "_text", "_verb", "_words"),
    )

    def __init__(self, statement: str, dialect: Dialect) -> None:
        self._text = statement
        self._quotes = Quotes(statement, dialect)
        self._words: list[str] = []
        """Of the statements that are read to their end."""
        self._previous = ""
        self._previous_end = 0
        """Of the short word before."""
        # Of the statement:
        self._main = ""
        self._is_ignored = False
        """Whether it is of a kind of which nothing is told."""
        self._tables: list[tuple[int, str]] = []
        self._defined: set[str] = set()
        """Names of common table expressions."""
        # Between the same two brackets:
        self._outer: list[tuple[str, int]] = []
        self._verb = ""
        self._expected = _NOTHING
        """What the next name is."""
        self._listed = _NOTHING
        """What a name is that comes after a comma."""
        self._is_target = False
        """Whether brackets behind the next name hold columns, not a function's arguments."""

    def summary(self) -> str | None:
        """Read; raises `CannotTell`."""
        text, at = self._text, 0
        for _ in range(_MOST_TOKENS):
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
                self._word(token[_WORD], at)
            elif kind == _PUNCTUATION:
                self._punctuation(token[_PUNCTUATION])
            elif kind is not None:
                at = self._other(kind, token[kind], at)
        if at < len(text) or self._outer:
            raise CannotTell
        self._end_statement()
        return self._joined()

    def _joined(self) -> str | None:
        length, kept = -1, list[str]()
        for word in self._words:
            length += 1 + len(word)
            if length > _LONGEST_SUMMARY:
                break
            kept.append(word)
        return " ".join(kept) or None

    def _word(self, word: str, end: int) -> None:
        upper = word.upper() if len(word) <= _LONGEST_KEYWORD else ""
        if upper in _KEYWORDS:
            self._keyword(upper, end)
        elif self._expected == _TABLE:
            if upper not in _BEFORE_A_TABLE:
                is_function = not self._is_target and _OPENS(self._text, end) is not None
                self._named("" if is_function else word, end)
        elif self._expected == _CTE:
            if upper != "RECURSIVE":
                self._named(word, end)
        elif not self._main:
            self._ignore_unless_begun()
        self._previous, self._previous_end = upper, end

    def _keyword(self, word: str, end: int) -> None:  # noqa: C901, PLR0912 - a branch for each
        verb = self._verb
        if word in _VERBS:
            self._begin(word)
        elif word == "FROM":
            if verb and not self._is_behind("DISTINCT", end - len(word)):
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

    def _is_behind(self, word: str, at: int) -> bool:
        """Whether nothing but space is between `word` and what begins at `at`."""
        return self._previous == word and not self._text[self._previous_end : at].strip()

    def _begin(self, verb: str) -> None:
        """Of a statement, or of one inside; a second verb is a part of the first one's."""
        if not self._verb:
            self._verb = verb
            self._expect(
                _NOTHING if verb in {"SELECT", "DELETE"} else _TABLE,
                _TABLE if verb == "UPDATE" else _NOTHING,
                is_target=verb in {"INSERT", "MERGE"},
            )
            if not self._outer or not self._main:
                self._main = verb
        elif verb == "SELECT":
            self._expect(_NOTHING, _NOTHING)

    def _expect(self, expected: int, listed: int, *, is_target: bool = False) -> None:
        self._expected, self._listed, self._is_target = expected, listed, is_target

    def _ignore_unless_begun(self) -> None:
        """A statement that begins with another word is none that is told of."""
        if not self._main and not self._outer and self._listed != _CTE:
            self._is_ignored = True

    def _named(self, name: str, end: int) -> None:
        """A name where one was expected."""
        if self._text.startswith(".", end):
            return  # a schema's; the table's comes next
        if self._expected == _CTE:
            self._defined.add(name.casefold())
        elif (name := name.rpartition(".")[2]) and _NAME.fullmatch(name):
            self._tables.append((len(self._outer), name))
        self._expected, self._is_target = _NOTHING, False

    def _punctuation(self, mark: str) -> None:
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
            if len(self._words) > _MOST_WORDS:
                raise CannotTell
        self._expect(_NOTHING, _NOTHING)
        self._main = self._verb = ""
        self._is_ignored = False
        self._tables.clear()
        self._defined.clear()

    def _other(self, kind: int, token: str, end: int) -> int:
        """Where what is neither word nor punctuation ends."""
        if kind == _COMMENT:
            return self._quotes.end_of_comment(token, end)
        if kind == _BRACKET:
            begin, end = end, self._quotes.end_of_bracket(end)
            if end > begin:
                self._quoted(self._text[begin : end - 1], end)
            return end
        if kind == _QUOTED:
            self._quotes.check_name(token)
            mark = token[0]
            self._quoted(token[1:-1].replace(mark * 2, mark), end)
            return end
        self._expected = _NOTHING
        if kind == _DOLLARS:
            return self._quotes.end_of_dollars(token, end)
        begin = end - len(token)
        is_escape = self._is_behind("ESCAPE", begin)
        return self._quotes.end_of_literal(begin, end, is_open=kind == _OPEN, is_escape=is_escape)

    def _quoted(self, name: str, end: int) -> None:
        if self._expected != _NOTHING:
            self._named(name, end)
