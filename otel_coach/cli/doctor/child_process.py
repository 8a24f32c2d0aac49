"""Runs a module of the doctor's in a process of its own, which has the service's environment.

Whatever the module imports or starts, its threads and connections end with that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

from otel_coach.cli.doctor.command_line import instruments_python

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ChildError(Exception):
    """The process gave no result; the message says why."""


def _not_instrumented(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the folders that instrument each Python process.

    The doctor's modules do it themselves, and replace some of the service's settings.
    """
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    left = os.pathsep.join(folder for folder in folders if not instruments_python(folder))
    return {**environment, **({"PYTHONPATH": left} if "PYTHONPATH" in environment else {})}


def end_after(main: Callable[[], object]) -> NoReturn:
    """Calls `main`, and ends this process; threads that it has started keep nobody waiting."""
    code = 1
    try:
        main()
        code = 0
    finally:
        os._exit(code)


def result_of(
    module: str, *arguments: str, environment: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """Returns what `module` writes to the file that is its last argument, as JSON.

    Raises:
        ChildError: it takes longer than `seconds`, or ends without a result.
    """
    with TemporaryDirectory(prefix="otel-coach-doctor-") as folder:
        result = Path(folder) / "result.json"
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, with a module of this package
                [sys.executable, "-m", module, *arguments, str(result)],
                check=False,
                env=_not_instrumented(environment),
                stdin=subprocess.DEVNULL,
                # Not pipes: a process that the import starts would keep them open.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            message = f"it takes longer than {seconds:g} s"
            raise ChildError(message) from None
        if not result.exists():
            message = f"the process ended with {done.returncode}"
            raise ChildError(message)
        return json.loads(result.read_text("utf-8"))
