"""Throughput of the bare service and of each kind of telemetry, alternating in one run.

A round loads one variant after the other, in an order that turns; the ratio to the bare service is
taken within the round, so that what the machine does meanwhile counts for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.variants import ALL, BARE, Service, running
from demo.programs import free_port

_CONNECTIONS: Final = 8
_PATHS: Final = {"streams of 50 chunks": "/stream", "/health": "/health"}


@dataclass
class Measured:
    """What one variant did, by round."""

    rates: list[float] = field(default_factory=list[float])
    """Answers a second."""
    costs: list[float] = field(default_factory=list[float])
    """CPU milliseconds of the service for one answer."""
    client: list[float] = field(default_factory=list[float])
    """Share of a processor that the client used."""


def main() -> int:
    """Print a table for each path."""
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load, for each variant")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    console = Console()
    options = ["--workers", str(arguments.workers)] if arguments.workers > 1 else []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        port = free_port()
        receiver = subprocess.Popen([sys.executable, "-m", "bench.receiver", str(port)])  # noqa: S603
        stack.callback(receiver.terminate)
        endpoint = f"http://127.0.0.1:{port}"
        services = [
            stack.enter_context(running(variant, folder, endpoint, options)) for variant in ALL
        ]
        console.print(
            f"{os.cpu_count()} processors, {arguments.workers} worker(s), {_CONNECTIONS} "
            f"connections, {arguments.rounds} rounds of {arguments.seconds:g} s each"
        )
        for title, path in _PATHS.items():
            for service in services:
                _load(service, path, 0.5)  # what is imported at the first request
            found = {service.variant.name: Measured() for service in services}
            for number in range(arguments.rounds):
                turn = number % len(services)
                for service in services[turn:] + services[:turn]:
                    _measure(service, path, arguments.seconds, found[service.variant.name])
            console.print(_table(title, found))
    return 0


def _measure(service: Service, path: str, seconds: float, measured: Measured) -> None:
    before = service.cpu()
    loaded = _load(service, path, seconds)
    measured.rates.append(loaded["answers"] / loaded["seconds"])
    measured.costs.append(1000 * (service.cpu() - before) / loaded["answers"])
    measured.client.append(loaded["client_cpu"] / loaded["seconds"])


def _load(service: Service, path: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", str(service.port), path]
    command += [str(_CONNECTIONS), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    loaded: dict[str, float] = json.loads(done.stdout)
    return loaded


def _table(title: str, found: dict[str, Measured]) -> Table:
    table = Table(title=title)
    for heading in ("", "of bare", "spread", "answers/s", "CPU ms/answer", "client's CPU"):
        table.add_column(heading, justify="right" if heading else "left")
    bare = found[BARE.name]
    for name, measured in found.items():
        ratios = [ours / theirs for ours, theirs in zip(measured.rates, bare.rates, strict=True)]
        table.add_row(
            name,
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
            f"{statistics.median(measured.rates):,.0f}",
            f"{statistics.median(measured.costs):.2f}",
            f"{statistics.median(measured.client):.0%}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
