"""What `otel-coach run` does: the same as `opentelemetry-instrument`, but starts sooner.

`opentelemetry-instrument` imports OpenTelemetry's instrumentation package twice: before it becomes
the service, and in the service. Where otel-coach is the only instrumentation, neither is needed. If
others are installed, or chosen by a variable, the service is initialised by OpenTelemetry's code.

This module imports nothing that the command does not need.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from otel_coach.configuration.python_path import import_first

_FOLDER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")  # noqa: PTH100, PTH118, PTH120 - without pathlib
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
"""Exit codes of POSIX shells."""


def launch(command: list[str]) -> int:
    """Becomes `command`, whose Python processes will be instrumented; returns only if that fails.

    The folder of `sitecustomize` and the current one come first on PYTHONPATH, as with
    `opentelemetry-instrument`. The result is the exit code.
    """
    import_first(_FOLDER)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a program with its arguments # nosec B606
    except OSError as error:
        sys.stderr.write(
            f"otel-coach run: {command[0]}: {error.strerror}. Give the command that starts the "
            "service, for example: otel-coach run uvicorn app:app\n"
        )
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE


def initialize() -> None:
    """Instruments this process; logs what prevents it, and lets the process go on.

    Raises:
        ImportError: this Python lacks what otel-coach needs.
    """
    try:
        if not _is_alone():
            from opentelemetry.instrumentation.auto_instrumentation import (  # noqa: PLC0415 - see the module
                initialize as with_others,
            )

            with_others()
            return

        import otel_coach  # noqa: PLC0415 - see the module
        from otel_coach.configuration.environment_variables import is_enabled  # noqa: PLC0415

        if is_enabled():
            otel_coach.instrument()
    except ImportError:
        raise  # another Python than that of otel-coach: `sitecustomize` says so
    except Exception as error:  # the service starts without otel-coach
        from otel_coach.core.guard import belongs_to_host  # noqa: PLC0415 - see the module

        if belongs_to_host(error):
            raise
        import logging  # noqa: PLC0415 - see the module

        logging.getLogger("otel_coach").exception("otel-coach: this process is not instrumented")


def _is_alone() -> bool:
    """Whether OpenTelemetry's code would load only otel-coach and what otel-coach loads itself."""
    from otel_coach.configuration.environment_variables import (  # noqa: PLC0415 - see the module
        OURS,
        disabled_instrumentations,
        has_other_choice,
    )
    from otel_coach.core.entry_points import entry_points  # noqa: PLC0415 - see the module
    from otel_coach.instrumentors import LOADED_HERE, OWN  # noqa: PLC0415 - see the module

    if has_other_choice():
        return False
    found = {entry.name for entry in entry_points(group="opentelemetry_instrumentor")}
    before = entry_points(group="opentelemetry_pre_instrument")
    after = {entry.name for entry in entry_points(group="opentelemetry_post_instrument")}
    return not (
        found - disabled_instrumentations() - OWN - LOADED_HERE or tuple(before) or after - {OURS}
    )
