"""The programs that are not Python's: found by a variable or on the PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

_CURES: Final = {
    "otelcol": "`make e2e-tools` builds it",
    "jaeger": "`make e2e-tools` builds it",
    "prometheus": "Debian's package `prometheus` has it",
    "promtool": "Debian's package `prometheus` has it",
}
TOOLS: Final = tuple(_CURES)
BUILT: Final = Path(__file__).parent.parent / ".e2e-tools" / "bin"
"""Where `make e2e-tools` puts what it builds."""


class ToolError(RuntimeError):
    """A program that is needed is not here."""


def find(name: str) -> Path:
    """The program `name`: what the variable NAME says, on the PATH, or built here.

    Raises:
        ToolError: it is nowhere; the message says how to get it.
    """
    if given := os.environ.get(name.upper()):
        if found := shutil.which(given):
            return Path(found)
        message = f"{name.upper()}={given} is no program; unset it, or let it name {name}"
        raise ToolError(message)
    if found := shutil.which(name) or shutil.which(name, path=str(BUILT)):
        return Path(found)
    message = f"{name} is not here: {_CURES[name]}; or let {name.upper()} say where it is"
    raise ToolError(message)
