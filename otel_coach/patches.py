"""Another function in the place of somebody else's, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


def replaced(owner: type | ModuleType, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Put `make(original)` in the place of `owner`'s own method or function `name`.

    What is returned undoes it, unless somebody has replaced ours in turn.

    Raises:
        KeyError: `owner` itself defines no such thing.
    """
    original = owner.__dict__[name]
    ours = make(original)

    def restore() -> None:
        if owner.__dict__.get(name) is ours:
            setattr(owner, name, original)

    setattr(owner, name, ours)
    return restore


def undone(undo: Iterable[Callable[[], None]]) -> None:
    """Undo all of it."""
    for one in undo:
        one()
