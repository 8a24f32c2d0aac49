"""Another function in the place of somebody else's, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


def replaced(owner: type | ModuleType, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Put `make(original)` in the place of `owner`'s method or function `name`.

    A method that a class inherits is replaced for that class alone. What is returned undoes it,
    unless somebody has replaced ours in turn.

    Raises:
        AttributeError: there is no such thing.
    """
    is_own = name in owner.__dict__
    original = owner.__dict__[name] if is_own else getattr(owner, name)
    ours = make(original)

    def restore() -> None:
        if owner.__dict__.get(name) is not ours:
            return
        if is_own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)

    setattr(owner, name, ours)
    return restore


def undone(undo: Iterable[Callable[[], None]]) -> None:
    """Undo all of it."""
    for one in undo:
        one()
