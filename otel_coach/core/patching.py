"""Replaces functions and methods of other libraries, and restores them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


def replace_method(
    owner: type | ModuleType, name: str, make: Callable[[Any], Any]
) -> Callable[[], None]:
    """Replaces `owner`'s method or function `name` by `make(original)`; returns the undo function.

    The replacement calls a method's original as `original(self, ...)`, even if another package has
    wrapped it.

    A method that a class inherits is replaced for that class only. The undo function does nothing
    if the replacement has itself been replaced since.

    Raises:
        AttributeError: `owner` has no such method or function.
    """
    is_own = name in owner.__dict__
    original = owner.__dict__[name] if is_own else getattr(owner, name)
    is_method = isinstance(owner, type)
    replacement = make(_callable_as_function(original) if is_method else original)

    def restore() -> None:
        if owner.__dict__.get(name) is not replacement:
            return
        if is_own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)

    setattr(owner, name, replacement)
    return restore


def _callable_as_function(original: Any) -> Any:
    """Returns `original`, or a function that calls it as Python calls a method.

    Only so does a wrapper of wrapt's know whose method it is.
    """
    kind = type(original)  # `isinstance` would take a wrapper for what is wrapped
    if kind in {FunctionType, classmethod, staticmethod} or not hasattr(original, "__wrapped__"):
        return original

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original.__get__(self, type(self))(*args, **kwargs)

    return method


def undo_all(undo: Iterable[Callable[[], None]]) -> None:
    """Calls the undo functions in this order.

    An exception of one is raised only when all have been called.
    """
    with ExitStack() as stack:
        for restore in reversed(tuple(undo)):
            stack.callback(restore)
