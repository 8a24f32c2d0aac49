"""Finds the programs that pip cannot install: by a variable, on the PATH, or built here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from tests.support.paths import ROOT

_CURES: Final = {
    "otelcol": "`make e2e-tools` builds it",
    "jaeger": "`make e2e-tools` builds it",
    "prometheus": "Debian's package `prometheus` has it",
    "promtool": "Debian's package `prometheus` has it",
}
TOOLS: Final = tuple(_CURES)
BUILT: Final = ROOT / ".e2e-tools" / "bin"
"""The folder into which `make e2e-tools` builds."""


class ToolError(RuntimeError):
    """A required program is not installed."""


def find(name: str) -> Path:
    """Returns the path of `name`: from the variable NAME, on the PATH, or built here.

    Raises:
        ToolError: The program is not found; the message says how to get it.
    """
    if given := os.environ.get(name.upper()):
        if found := shutil.which(given):
            return Path(found)
        message = f"{name.upper()}={given} is no program; unset it, or set it to the path of {name}"
        raise ToolError(message)
    if found := shutil.which(name) or shutil.which(name, path=str(BUILT)):
        return Path(found)
    message = f"{name} is not here: {_CURES[name]}; or set {name.upper()} to its path"
    raise ToolError(message)
