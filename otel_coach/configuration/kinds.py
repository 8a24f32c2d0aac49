"""Kinds of settings: each parses the text of a variable and checks a value that was set in code.

Both methods of a kind return the value that takes effect. They raise ValueError with a message that
completes a sentence after the setting's name and value, such as "is not a port from 0 to 65535".
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from otel_coach.configuration.environment_variables import FALSE, TRUE, is_true
from otel_coach.core.entry_points import entry_points
from otel_coach.core.record import record

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_DAY: Final = 86_400
CURE: Final = ". Cure: "
"""What separates an error from its remedy, if the message has one."""


class Kind(Protocol[_T_co]):
    """Defines which values a setting may have."""

    def parse(self, text: str) -> _T_co:
        """Returns the value that `text`, a variable's non-empty text, stands for."""
        ...

    def check(self, value: object) -> _T_co:
        """Returns `value`, which was set in code, in the form in which it is used."""
        ...


class ListKind(ABC):
    """A kind whose text is a list, separated by commas, of entries that are each valid or not."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Does what `Kind.parse` does."""

    def parse_each(self, text: str) -> tuple[Any, list[str]]:
        """Returns the value of the valid entries, and what is wrong with each of the others.

        The value is None if no entry is valid.
        """
        valid: list[str] = []
        wrong: list[str] = []
        for word in words(text):
            try:
                self.parse(word)
            except ValueError as error:
                wrong.append(str(error))
            else:
                valid.append(word)
        return (self.parse(",".join(valid)) if valid or not wrong else None), wrong


class Flag:
    """True or false."""

    def parse(self, text: str) -> bool:
        """Accepts true, yes, on, 1, false, no, off and 0, in upper or lower case."""
        if text.lower() not in TRUE | FALSE:
            message = "is neither true nor false"
            raise ValueError(message)
        return is_true(text)

    def check(self, value: object) -> bool:
        """Accepts a bool."""
        if not isinstance(value, bool):
            message = "is neither True nor False"
            raise ValueError(message)  # noqa: TRY004 - one kind of error for all settings
        return value


@record
class WholeNumber:
    """A whole number from `lowest` to `highest`."""

    what: str
    lowest: int
    highest: int

    def parse(self, text: str) -> int:
        """Accepts decimal digits."""
        return self.check(int(text) if text.isdecimal() else None)

    def check(self, value: object) -> int:
        """Accepts an int."""
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if is_number and self.lowest <= cast("int", value) <= self.highest:
            return cast("int", value)
        message = f"is not {self.what} from {self.lowest} to {self.highest}"
        raise ValueError(message)


@record
class Seconds:
    """A time span in seconds, of at most a day."""

    may_be_zero: bool = False

    def parse(self, text: str) -> float:
        """Accepts a decimal number."""
        try:
            return self.check(float(text))
        except ValueError:
            return self.check(None)

    def check(self, value: object) -> float:
        """Accepts an int or a float."""
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and 0 <= cast("float", value) <= _DAY:  # false for nan too
            seconds = float(cast("float", value))
            if seconds > 0 or self.may_be_zero:
                return seconds
        bounds = f"from 0 to {_DAY}" if self.may_be_zero else f"more than 0 and at most {_DAY}"
        message = f"is not a number of seconds {bounds}"
        raise ValueError(message)


@record
class Text:
    """A text that matches `pattern`."""

    what: str
    pattern: str = r".+"

    def parse(self, text: str) -> str:
        """Accepts any matching text."""
        return self.check(text)

    def check(self, value: object) -> str:
        """Accepts a matching str."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value, re.DOTALL):
            message = f"is not {self.what}"
            raise ValueError(message)
        return value


@record
class PagePath(Text):
    """The path of a page, which is also served with a slash at its end."""

    def check(self, value: object) -> str:
        """Accepts a matching str; returns it without a slash at its end."""
        return super().check(value).rstrip("/") or "/"


class AbsolutePath:
    """An absolute path, so that it does not depend on the process's working directory."""

    def parse(self, text: str) -> str:
        """Accepts an absolute path."""
        return self.check(text)

    def check(self, value: object) -> str:
        """Accepts an absolute path as a str or a Path."""
        if not isinstance(value, (str, Path)) or not Path(value).is_absolute():
            message = "is not an absolute path"
            raise ValueError(message)
        return str(value)


class File:
    """The path of an existing file."""

    def parse(self, text: str) -> str:
        """Accepts the path of a file."""
        return self.check(text)

    def check(self, value: object) -> str:
        """Accepts a str or a Path."""
        # `Path.is_file` raises an error if the name is too long or its folder may not be read.
        if not isinstance(value, (str, Path)) or not os.path.isfile(value):  # noqa: PTH113
            message = "is not a file"
            raise ValueError(message)
        return str(value)


@record
class Choice:
    """One of `values`."""

    values: tuple[str, ...]

    def parse(self, text: str) -> str:
        """Accepts one of the values, in upper or lower case."""
        folded = {value.lower(): value for value in self.values}
        return self.check(folded.get(text.lower()))

    def check(self, value: object) -> str:
        """Accepts one of the values exactly as it is written in `values`."""
        if not isinstance(value, str) or value not in self.values:
            message = f"is none of {', '.join(self.values)}"
            raise ValueError(message)
        return value


class Patterns:
    """Regular expressions, separated by commas."""

    def parse(self, text: str) -> str:
        """Accepts a list whose expressions compile."""
        return self.check(text)

    def check(self, value: object) -> str:
        """Accepts a str whose expressions compile; the empty str has none.

        An empty expression, which would match every URL, is left out.
        """
        try:
            patterns = [part for part in map(str.strip, cast("str", value).split(",")) if part]
            re.compile("|".join(patterns))
        except (re.error, OverflowError, RecursionError, AttributeError, TypeError) as error:
            message = f"is not a list of regular expressions separated by commas ({error})"
            raise ValueError(message) from None
        return ",".join(patterns)


@record
class Names(ListKind, Generic[_T]):
    """A collection of names.

    Args:
        what: What a name is, for messages: "a header's name".
        make: The type of the collection.
        pattern: What each name must match.
    """

    what: str
    make: type[_T]
    pattern: str = r"[^\s,]+"

    def parse(self, text: str) -> _T:
        """Accepts names separated by commas; `none` stands for no name."""
        return self.check(words(text))

    def check(self, value: object) -> _T:
        """Accepts a collection of str, but not a str itself."""
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
            message = f"is not a {self.make.__name__} of names"
            raise ValueError(message)  # noqa: TRY004 - one kind of error for all settings
        for name in cast("Collection[object]", value):
            if not isinstance(name, str) or not re.fullmatch(self.pattern, name):
                message = f"holds {name!r}, which is not {self.what}"
                raise ValueError(message)
        return cast("Any", self.make)(cast("Collection[str]", value))


@record
class FlagOrNames(ListKind):
    """True, false, or the names for which something is true."""

    what: str
    pattern: str

    def parse(self, text: str) -> bool | frozenset[str]:
        """Accepts what `Flag` and `Names` accept."""
        if text.lower() in TRUE | FALSE:
            return is_true(text)
        return self._names.parse(text)

    def parse_each(self, text: str) -> tuple[Any, list[str]]:
        """As `ListKind` says; true and false are no entries of a list."""
        if text.lower() in TRUE | FALSE:
            return is_true(text), []
        return self._names.parse_each(text)

    def check(self, value: object) -> bool | frozenset[str]:
        """Accepts a bool, or a collection of str."""
        return value if isinstance(value, bool) else self._names.check(value)

    @property
    def _names(self) -> Names[frozenset[str]]:
        return Names(self.what, frozenset[str], self.pattern)


@record
class Exporters(ListKind):
    """Names of a signal's exporters: `otlp`, `console`, those in `own`, and installed ones."""

    signal: str
    own: frozenset[str] = frozenset()

    def parse(self, text: str) -> tuple[str, ...]:
        """Accepts names separated by commas; `none` stands for no name."""
        return self.check(words(text))

    def check(self, value: object) -> tuple[str, ...]:
        """Accepts a collection of names."""
        names = Names("an exporter's name", tuple).check(value)
        for name in names:
            if name not in self.own | {"otlp", "console"} and not entry_points(
                group=f"opentelemetry_{self.signal}_exporter", name=name
            ):
                message = (
                    f"holds {name!r}, but no exporter of that name is installed{CURE}correct the "
                    "name, or install its package"
                )
                raise ValueError(message)
        return cast("tuple[str, ...]", names)


@record
class Optional(Generic[_T]):
    """A value of `kind`, or None."""

    kind: Kind[_T]

    def parse(self, text: str) -> _T | None:
        """Accepts what `kind` accepts."""
        return self.kind.parse(text)

    def check(self, value: object) -> _T | None:
        """Accepts None, and what `kind` accepts."""
        return None if value is None else self.kind.check(value)


@record
class ByName(ListKind, Generic[_T]):
    """A mapping from names to values.

    Args:
        what: What a name is, for messages: "a label".
        kind: The kind of the values.
        names: The valid names; None if any name is.
        defaults: The values of names that the mapping lacks.
        hides_values: Whether messages leave the values out, because they may contain passwords.
    """

    what: str
    kind: Kind[_T]
    names: Collection[str] | None = None
    defaults: Mapping[str, _T] | None = None
    hides_values: bool = False

    def parse(self, text: str) -> dict[str, _T]:
        """Accepts `name=value`, several separated by commas."""
        values: dict[str, _T] = {}
        for word in words(text):
            name, equals, value = map(str.strip, word.partition("="))
            if not (name and equals and value):
                message = f"has {word!r}, which is not of the form name=value"
                raise ValueError(message)
            try:
                values[name] = self.kind.parse(value)
            except ValueError as error:
                raise self._wrong(name, value, error) from None
        return self.check(values)

    def check(self, value: object) -> dict[str, _T]:
        """Accepts a mapping."""
        if not isinstance(value, Mapping):
            message = f"is not a mapping by {self.what}"
            raise ValueError(message)  # noqa: TRY004 - one kind of error for all settings
        checked = dict(self.defaults or {})
        for name, entry in cast("Mapping[object, object]", value).items():
            if not isinstance(name, str) or (self.names is not None and name not in self.names):
                exist = "" if self.names is None else f"; there are {', '.join(sorted(self.names))}"
                message = f"holds {name!r}, which is not {self.what}{exist}"
                raise ValueError(message)
            try:
                checked[name] = self.kind.check(entry)
            except ValueError as error:
                raise self._wrong(name, entry, error) from None
        return checked

    def _wrong(self, name: str, value: object, error: ValueError) -> ValueError:
        shown = "a value" if self.hides_values else repr(value)
        return ValueError(f"has for {name!r} {shown}, which {error}")


def words(text: str) -> tuple[str, ...]:
    """Returns the words that are separated by commas, each once and without `none`."""
    found = (word.strip() for word in text.split(","))
    return tuple(dict.fromkeys(word for word in found if word and word != "none"))


COUNT: Final = WholeNumber("a whole number", 1, 100_000)
PLACES: Final = WholeNumber("a whole number", 1, 10_000_000)
PORT: Final = WholeNumber("a port", 0, 65_535)
CHARACTERS: Final = WholeNumber("a number of characters", 1, 1_000_000)
PATH: Final = PagePath("a path that starts with /", r"/[!-\"$->@-~]*")
"""ASCII without space, # and ?."""
HOST: Final = Text("a host name or an IP address", r"[\w.:%-]+")
FOLDER: Final = AbsolutePath()
FILE: Final = File()
ADDRESS: Final = Text(
    "an address such as redis://host:6379", r"[A-Za-z][A-Za-z0-9+.-]*://.+|[A-Za-z]\w*\s*=.*"
)
"""A URL, or libpq's form: host=db user=coach."""
FUNCTION: Final = Text("of the form module:function", r"[\w.]+:[\w.]+")
