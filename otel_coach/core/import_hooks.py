"""Waits for modules to be imported."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable


def when_imported(module: str, method: Callable[[Any], object]) -> None:
    """Calls the bound `method` with the module once it is imported, if the object is still alive.

    An import hook cannot be unregistered, and must not keep the object alive.
    """
    reference = weakref.WeakMethod(method)

    def hook(imported: Any) -> None:
        if (alive := reference()) is not None:
            alive(imported)

    wrapt.register_post_import_hook(hook, module)
