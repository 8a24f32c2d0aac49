"""Copies of dictionaries that other threads or the garbage collector may change meanwhile.

`list(dictionary)`, `list(a_set)` and `list(dictionary.values())` cannot be disturbed. `tuple(...)`
of the same, and `list(dictionary.items())`, can: until Python 3.12, the creation of a tuple may run
the garbage collector, and with it callbacks of weak references that remove what is being copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_MISSING: Final = object()


def items_of(dictionary: Mapping[_Key, _Value]) -> list[tuple[_Key, _Value]]:
    """Returns the items of `dictionary`, without those that are removed meanwhile."""
    found = [(key, dictionary.get(key, _MISSING)) for key in list(dictionary)]
    return [(key, value) for key, value in found if value is not _MISSING]  # type: ignore[misc]
