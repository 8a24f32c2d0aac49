"""Parses `OTEL_COACH_DEPENDENCIES`: the dependencies to probe, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_coach.configuration.environment_variables import OTEL_COACH_DEPENDENCIES
from otel_coach.configuration.kinds import ADDRESS
from otel_coach.configuration.problem import Problem

if TYPE_CHECKING:
    from otel_coach.configuration.environment import Environment

_NAME: Final = re.compile(r"[\w.-]+")
_COMMA: Final = re.compile(r",(?=\s*[\w.-]+\s*=|\s*$)")
"""A comma that may separate two entries. One in a password, or between hosts, may look alike."""
_ADDRESS_FOLLOWS: Final = re.compile(
    r"\s*(?:[\w.-]+\s*=\s*(?:env:|[A-Za-z][A-Za-z0-9+.-]*://"
    r"|(?:host|hostaddr|port|dbname|user|service)\s*=)|$)"
)
"""The beginning of an entry: a URL, a variable, or libpq's form of an address."""
_HALF_AN_ADDRESS: Final = re.compile(r"\s*[\w.-]+\s*=\s*[\w.+-]+:/?[\w./-]*(?:,|$)")
"""An entry with a mistake in its address: `cache=redis:/host`, `cache=host:6379`."""
_WHOLE_URL: Final = re.compile(
    r"\s*(?:[\w.-]+\s*=\s*)?[A-Za-z][A-Za-z0-9+.-]*://(?:[^@/?#\s]*@)?[^@/?#\s,=:\[\]]+(?::\d+)?(/[^?#@]*)?"
)
"""An entry whose URL may end here: it has a host, and no query has begun."""


def entries(text: str) -> list[str]:
    """Returns the entries of the variable's text, none of them empty.

    A comma separates two entries if an address follows it, as `name=scheme://` or `name=env:`. It
    also does if what precedes is a whole URL, and what follows is meant for an entry but has a
    mistake in its address; the mistake then costs that entry alone.
    """
    found: list[str] = []
    begin = 0
    for comma in _COMMA.finditer(text):
        if _separates(text[begin : comma.start()], text[comma.end() :]):
            found.append(text[begin : comma.start()])
            begin = comma.end()
    found.append(text[begin:])
    return [entry.strip() for entry in found if entry.strip()]


def _separates(before: str, after: str) -> bool:
    if _ADDRESS_FOLLOWS.match(after):
        return True
    url = _WHOLE_URL.fullmatch(before)
    if url is None:
        return False
    if _HALF_AN_ADDRESS.match(after):
        return True
    # `after` has an equals sign, so it is no further host. If the URL has a path, the comma may be
    # a part of it. Else `after` is the next entry, unless an @ shows that it is the rest of a
    # password.
    return url[1] is None and "@" not in after.partition(",")[0]


def dependencies(environment: Environment) -> dict[str, str]:
    """Returns the addresses by name.

    Invalid entries are left out; each adds one to the problems. No problem repeats an address: it
    may contain a password.
    """
    problems = environment.problems
    addresses: dict[str, str] = {}
    found = entries(environment.text(OTEL_COACH_DEPENDENCIES))
    for position, entry in enumerate(found, start=1):
        name, separator, address = (part.strip() for part in entry.partition("="))
        if not separator or not _NAME.fullmatch(name) or not address:
            problems.append(_problem(f"entry {position} is not of the form name=address"))
            continue
        if address.startswith("env:"):
            other = address.removeprefix("env:").strip()
            if not other.isidentifier():
                problems.append(_problem(f"entry {position} names no variable after env:"))
                continue
            if not (address := environment.text(other)):
                problems.append(_problem(f"{name} is at env:{other}, and {other} is not set"))
                continue
        try:
            addresses[name] = ADDRESS.check(address)
        except ValueError as error:
            problems.append(_problem(f"the address of {name} {error}"))
    return addresses


def _problem(what: str) -> Problem:
    variable = OTEL_COACH_DEPENDENCIES
    return Problem(variable, f"{variable}: {what}; left out")
