"""Whether a module is installed."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Returns whether `module` can be imported, without importing it.

    The packages around it are imported, if they are there.
    """
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a package around it is not there, or is no package
        return False
