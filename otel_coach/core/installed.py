"""Whether a module is installed."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Returns whether `module` can be imported, without importing it.

    Its parent packages are imported, if they are installed.
    """
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a parent is not installed, or is no package
        return False
