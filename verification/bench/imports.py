"""Serves an application, and notes by how much the memory of the process grows with each import.

Its arguments are FILE, `bare` or `instrumented`, and those of uvicorn. FILE gets a JSON object when
the server ends: by module, bytes of private memory (unique set size) without those of the modules
that it imports. Modules are imported in the order in which `opentelemetry-instrument` does it.
"""

from __future__ import annotations

import importlib._bootstrap as bootstrap  # type: ignore[import-not-found]
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Imports:
    """The memory of each module."""

    def __init__(self, load: Callable[[ModuleSpec], ModuleType]) -> None:
        self._load = load
        self._process = psutil.Process()
        self._of_imported = [0]
        """For each module that is being imported, what those take that it has imported."""
        self.found = Counter[str]()

    def load(self, spec: ModuleSpec) -> ModuleType:
        """Imports a module."""
        before = self._used()
        self._of_imported.append(0)
        try:
            return self._load(spec)
        finally:
            grown = self._used() - before
            self.found[spec.name] += grown - self._of_imported.pop()
            self._of_imported[-1] += grown

    def _used(self) -> int:
        return int(self._process.memory_full_info().uss)


def main(file: str, kind: str, *server: str) -> None:
    """Serves until it is stopped."""
    imports = _Imports(bootstrap._load_unlocked)  # noqa: SLF001 - importlib has no other place for it
    bootstrap._load_unlocked = imports.load  # noqa: SLF001
    if kind == "instrumented":
        from opentelemetry.instrumentation.auto_instrumentation import initialize  # noqa: PLC0415

        initialize()
    import uvicorn  # noqa: PLC0415

    # uvicorn sends itself the signal once more when it has ended, which would be the end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    try:
        uvicorn.main(server)
    finally:
        Path(file).write_text(json.dumps(imports.found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
