"""Imports the operator's modules as a server's command would: from the current folder first."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def as_the_command_does(folder: Path | None = None) -> Generator[None]:
    """Inside, modules are also found in `folder`, by default the current one.

    What they print goes to the standard error, because the report goes to the standard output.
    """
    path = str((folder or Path.cwd()).resolve())
    sys.path.insert(0, path)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if path in sys.path:
            sys.path.remove(path)
