"""Attacks a real server, and records its state before and after."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from otel_coach.testing import Page
from tests.support.paths import ROOT
from tests.support.programs import ALONE, Program, free_port
from tests.support.stack import bin_path
from verification.cardinality_attack.app import KINDS
from verification.cardinality_attack.wire import good, junk, send

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

_BATCH: Final = 1_000
_FIRST: Final = 20_000
"""Values after which budgets and caches are full: anything that still grows would never stop."""
_MAX_GROWTH: Final = 8_000_000
"""Bytes of memory; an interpreter's heap is never completely constant."""
_MAX_SERIES_GROWTH: Final = 1.02
"""Factor by which the series may grow: a rare combination of values may come late."""
_GOOD_VALUES: Final = 5
_BATCHES_COMPARED: Final = 20
REQUESTS: Final = "requests: path, verb, Host, forwarded, query, cookie, trace, challenge"
ALL_KINDS: Final = (REQUESTS, *KINDS)


@dataclass(frozen=True)
class State:
    """The state of the service at one moment; `page` and `memory` (resident) are in bytes."""

    series: int
    page: int
    memory: int


@dataclass(frozen=True)
class Attack:
    """The effect of junk values of one kind."""

    kind: str
    before: State
    after: State
    cost: float
    """The time for junk values, divided by the time for good ones."""

    @property
    def grew(self) -> bool:
        """Whether series or memory grew by more than is allowed."""
        return (
            self.after.series > self.before.series * _MAX_SERIES_GROWTH
            or self.after.memory > self.before.memory + _MAX_GROWTH
        )


class Target:
    """The service that is attacked."""

    def __init__(self, port: int, program: Program) -> None:
        self._port = port
        self._url = f"http://127.0.0.1:{port}"
        self._server = psutil.Process(program.process.pid)

    def page(self) -> str:
        """Returns the page that Prometheus would read."""
        return httpx.get(f"{self._url}/metrics", timeout=120).text

    def state(self) -> State:
        """Returns the current state; reads the page with Prometheus' parser.

        Raises:
            ValueError: The page is not valid.
        """
        text = self.page()
        page = Page(text)
        series = sum(len(page.samples(name)) for name in page.names)
        return State(series, len(text.encode()), self._server.memory_info().rss)

    def feed(self, kind: str, begin: int, count: int, *, with_good: bool = False) -> float:
        """Sends `count` values of a kind; returns the seconds it took."""
        if kind == REQUESTS:
            started = perf_counter()
            send(("127.0.0.1", self._port), good if with_good else junk, begin, count)
            return perf_counter() - started
        query = {"begin": begin, "count": count}
        if with_good:
            query["different"] = _GOOD_VALUES
        answer = httpx.post(f"{self._url}/attack/{kind}", params=query, timeout=120)
        return float(answer.raise_for_status().text)


@contextmanager
def target() -> Generator[Target]:
    """Starts the service; stops it at the end of the block."""
    port = free_port()
    # h11 passes unknown methods on to the application.
    command = ["uvicorn", "--http", "h11", "--port", str(port), "--no-access-log"]
    with TemporaryDirectory(prefix="otel-coach-attack-") as folder:
        program = Program(
            [
                bin_path("opentelemetry-instrument"),
                *command,
                "verification.cardinality_attack.app:app",
            ],
            cwd=ROOT,
            ready=f"http://127.0.0.1:{port}/metrics",
            environment={
                **{key: value for key, value in os.environ.items() if "OTEL_" not in key},
                **ALONE,
                "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                # Spans are made, but no back end is reachable: that must not cost memory either.
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            },
            log=Path(folder) / "server.log",
        )
        try:
            yield Target(port, program)
        finally:
            program.stop()


def run(
    attacked: Target,
    n: int,
    first: int = _FIRST,
    kinds: Sequence[str] = ALL_KINDS,
    say: Callable[[str], object] = lambda _: None,
) -> list[Attack]:
    """Attacks with `n` new values of each of `kinds`, after `first` values of all kinds."""
    for kind in ALL_KINDS:
        say(f"{kind}: the first {first:,}")
        attacked.feed(kind, 0, first)
    return [_attack(attacked, kind, range(first, first + n, _BATCH), say) for kind in kinds]


def _attack(
    attacked: Target, kind: str, begins: Sequence[int], say: Callable[[str], object]
) -> Attack:
    before = attacked.state()
    junk_seconds = good_seconds = compared = 0.0
    for batch, begin in enumerate(begins):
        say(f"{kind}: {batch * _BATCH:,} of {len(begins) * _BATCH:,}")
        junk_seconds += attacked.feed(kind, begin, _BATCH)
        if batch < _BATCHES_COMPARED:
            good_seconds += attacked.feed(kind, begin, _BATCH, with_good=True)
            compared = junk_seconds / good_seconds
    return Attack(kind, before, attacked.state(), compared)
