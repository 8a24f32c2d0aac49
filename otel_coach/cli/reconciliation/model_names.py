"""Finds out which models of a provider's export belong to which values of the label `model`.

A provider bills snapshots (`gpt-4o-2024-08-06`); the label has the name that was asked for, which
is often an alias of the newest one (`gpt-4o`, `claude-sonnet-4-latest`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PREFIX: Final = re.compile(r"^(?:openai|anthropic|azure|models)/")
"""What LiteLLM, OpenRouter and others put in front of a provider's own name."""
_SNAPSHOT: Final = re.compile(
    r"""
    (?: [-@] 20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])  # -2024-08-06, @20241022
      | - (?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])               # gpt-4-0613
      | - 2\d(?:0[1-9]|1[0-2])                                   # mistral-large-2411
      | - (?:0[1-9]|1[0-2])-20\d\d                               # command-r-08-2024
    )$
    """,
    re.VERBOSE,
)
_LATEST: Final = "-latest"
_RENAMED: Final = {"text-embedding-ada-002-v2": "text-embedding-ada-002"}
"""Names in OpenAI's export that are no snapshot and that no request can have."""


class Match(NamedTuple):
    """One row: names that are compared as one."""

    name: str
    theirs: tuple[str, ...]
    """The provider's names, none if the model is on our side only."""
    ours: tuple[str, ...]
    """The values of the label, none if the model is on the provider's side only."""


def matches(theirs: Iterable[str], ours: Iterable[str]) -> Iterator[Match]:
    """Yields the rows, in the order of their names.

    Equal names are one row. Where one side has an alias that the other one does not have, calls by
    the alias and by its snapshots cannot be told apart, and all of them are one row.
    """
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for side, names in enumerate((theirs, ours)):
        for name in names:
            groups.setdefault(_base(name), ([], []))[side].append(name)
    for base, (their_names, our_names) in sorted(groups.items()):
        own_aliases = {_plain(name) for name in our_names if _is_alias(name)}
        their_aliases = {_plain(name) for name in their_names if _is_alias(name)}
        if their_names and our_names and own_aliases != their_aliases:
            name = our_names[0] if len(our_names) == 1 else base
            yield Match(name, tuple(sorted(their_names)), tuple(sorted(our_names)))
            continue
        exact: dict[str, tuple[list[str], list[str]]] = {}
        for side, names in enumerate((their_names, our_names)):
            for name in names:
                exact.setdefault(_plain(name), ([], []))[side].append(name)
        for plain, (same_theirs, same_ours) in sorted(exact.items()):
            name = next(iter(same_ours or same_theirs), plain)
            yield Match(name, tuple(sorted(same_theirs)), tuple(sorted(same_ours)))


def _plain(name: str) -> str:
    """Returns `name` without what does not distinguish models: case, and a provider in front."""
    plain = _PREFIX.sub("", name.strip().lower())
    return _RENAMED.get(plain, plain)


def _base(name: str) -> str:
    return _SNAPSHOT.sub("", _plain(name)).removesuffix(_LATEST)


def _is_alias(name: str) -> bool:
    return _SNAPSHOT.search(_plain(name)) is None
