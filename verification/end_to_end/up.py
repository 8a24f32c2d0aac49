"""Run the whole stack on this machine, with simulated users, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from rich.console import Console

from tests.support.programs import ProgramError
from verification.end_to_end.backends import Ports, url
from verification.end_to_end.players import Players
from verification.end_to_end.stack import whole_stack
from verification.end_to_end.tools import ToolError

if TYPE_CHECKING:
    from verification.end_to_end.stack import WholeStack

_SCRAPES: Final = 5
"""Seconds between two scrapes."""
_FIRST_SCRAPES: Final = 4 * _SCRAPES
"""Seconds after which all targets have been scraped."""
_DATABASE_UP, _DATABASE_DOWN = 180, 90
"""Seconds: long enough for the database's alert to resolve, and to fire."""


def main() -> int:
    """Returns the exit code: 0, 1 if a program ended by itself, 2 if one did not start."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.end_to_end.up", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this time")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell that starts this program in the background makes it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with TemporaryDirectory(prefix="otel-coach-up-") as folder:
            return _run(console, Path(folder), arguments.seconds)
    except (ProgramError, ToolError) as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        return 0


def _run(console: Console, folder: Path, seconds: float) -> int:
    console.print("[dim]starting Collector, Jaeger, Prometheus, PostgreSQL and the service[/dim]")
    with whole_stack(folder, Ports(), seconds=_SCRAPES) as stack:
        ports = stack.ports
        console.print(
            f"service     {stack.service.url}/docs, its metrics {stack.service.url}/metrics"
        )
        console.print(f"Prometheus  {url(ports.prometheus)}/alerts")
        console.print(f"Jaeger      {url(ports.jaeger)}/search?service=coaching")
        console.print(f"Collector   {url(ports.collector_page)}/metrics")
        console.print("users come and go; the database goes down at times; Ctrl-C ends all of it")
        players = Players(stack.service)
        players.start()
        try:
            return _watch(console, stack, seconds)
        finally:
            players.stop()


def _watch(console: Console, stack: WholeStack, seconds: float) -> int:
    """Stops and starts the database in turn, for `seconds` or until a program ends by itself."""
    programs = {
        "the Collector": stack.backends.collector,
        "Jaeger": stack.backends.jaeger,
        "Prometheus": stack.backends.prometheus,
        "the service": stack.service.program,
    }
    started = time.monotonic()
    is_up, has_looked = True, False
    while (now := time.monotonic() - started) < seconds:
        for name, program in programs.items():
            if program.process.poll() is not None:
                console.print(f"{name} ended by itself. Its log ends:", style="red", markup=False)
                console.print(program.last_lines(), markup=False)
                return 1
        if not has_looked and now > _FIRST_SCRAPES:
            has_looked = True
            for line in stack.prometheus.unreachable():
                console.print(line, style="red", markup=False)
        should_be_up = now % (_DATABASE_UP + _DATABASE_DOWN) < _DATABASE_UP
        if should_be_up != is_up:
            (stack.database.start if should_be_up else stack.database.kill)()
            is_up = should_be_up
            console.print(f"{now:5.0f} s  the database is {'back' if is_up else 'down'}")
        time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
