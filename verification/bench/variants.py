"""The variants: the same service, bare and with each kind of telemetry, on ports of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import psutil

from tests.support.paths import ROOT
from tests.support.programs import ALONE, Program, free_port
from tests.support.stack import bin_path

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

_NO_TEST_INSTRUMENTATIONS: Final = {
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx,httpx2,redis,sqlalchemy,system_metrics"
}
"""Disables instrumentations that are installed for tests only, and not by otel-coach."""
_CONTRIB: Final = {
    "OTEL_COACH_DISABLED": "true",
    "OTEL_PYTHON_DISTRO": "distro",
    "OTEL_PYTHON_CONFIGURATOR": "configurator",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


@dataclass(frozen=True)
class Variant:
    """One kind of telemetry for the service."""

    name: str
    command: Sequence[str] = ()
    """What starts the service with telemetry."""
    variables: Mapping[str, str] | None = None
    sends_spans: bool = False


_INSTRUMENT: Final = ("opentelemetry-instrument",)
BARE: Final = Variant("bare")
OURS: Final = Variant("otel-coach, metrics and spans", command=_INSTRUMENT, sends_spans=True)
OURS_METRICS: Final = Variant("otel-coach, metrics", command=_INSTRUMENT)
OURS_RUN: Final = Variant(
    "otel-coach, by otel-coach run", command=("otel-coach", "run"), sends_spans=True
)
OURS_OWN_PRICES: Final = Variant(
    "otel-coach, with prices of one's own",
    command=_INSTRUMENT,
    variables={"OTEL_COACH_PRICES": str(ROOT / "verification" / "bench" / "prices.toml")},
    sends_spans=True,
)
STOCK: Final = Variant(
    "opentelemetry-instrumentation-fastapi",
    command=_INSTRUMENT,
    variables=_CONTRIB,
    sends_spans=True,
)
BUILT_IN: Final = Variant("FastAPI's own telemetry", variables={"BENCH_BUILT_IN": "{endpoint}"})
ALL: Final = (BARE, OURS, OURS_METRICS, STOCK, BUILT_IN)
ALONE_WITH_BARE: Final = (BARE, OURS, OURS_METRICS)

_APP: Final = "verification.bench.app:app"
_UVICORN: Final = ("uvicorn", "--port", "{port}", "--no-access-log", "--log-level", "warning")
PLAIN: Final = (*_UVICORN, "--http", "h11", "--loop", "asyncio")
"""uvicorn as `pip install uvicorn` installs it."""
STANDARD: Final = (*_UVICORN, "--http", "httptools", "--loop", "uvloop")
"""uvicorn as `pip install 'uvicorn[standard]'` installs it, which takes a third of the time."""


@dataclass(frozen=True)
class Service:
    """A running variant."""

    variant: Variant
    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """Returns the CPU seconds that all its processes have used so far."""
        processes = (self.process, *self.process.children(recursive=True))
        return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def running(
    variant: Variant,
    folder: Path,
    endpoint: str,
    server: Sequence[str] = PLAIN,
    app: str = _APP,
) -> Generator[Service]:
    """Starts `app` with `variant`; stops it at the end of the block.

    Its spans are sent to `endpoint`, where the doubles listen; `server` is the command, in which
    `{port}` stands for the port.
    """
    port = free_port()
    command = [word.format(port=port) for word in server]
    instrument = [bin_path(word) if not at else word for at, word in enumerate(variant.command)]
    variables = {
        key: value.format(endpoint=endpoint) for key, value in (variant.variables or {}).items()
    }
    if variant.sends_spans:
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    program = Program(
        [*instrument, bin_path(command[0]), *command[1:], app],
        cwd=ROOT,
        ready=f"http://127.0.0.1:{port}/health",
        environment={
            **{key: value for key, value in os.environ.items() if not _disturbs(key)},
            **ALONE,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "BENCH_DOUBLES": endpoint,
            "OTEL_COACH_GATEWAYS": "127.0.0.1=openai",
            "OTEL_COACH_BUDGET_ENDPOINT": "1000",  # scraped_app has 500
            "OTEL_COACH_SHARED_DIR": f"{folder}/shared-{port}",
            "OTEL_METRICS_EXPORTER": "prometheus",
            **_NO_TEST_INSTRUMENTATIONS,
            **variables,
        },
        log=folder / f"{port}.log",
    )
    try:
        yield Service(variant, port, psutil.Process(program.process.pid))
    finally:
        program.stop()


@contextmanager
def services(
    variants: Sequence[Variant], server: Sequence[str] = PLAIN, app: str = _APP
) -> Generator[list[Service]]:
    """Starts `app` with each variant, and the doubles; stops all at the end of the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        yield [
            stack.enter_context(running(variant, folder, endpoint, server, app))
            for variant in variants
        ]


def _disturbs(variable: str) -> bool:
    """Whether the variable would change what is measured.

    A service that may not write bytecode compiles its modules at each start, if they are not
    compiled yet, and keeps some of the memory that this takes.
    """
    return "OTEL_" in variable or variable == "PYTHONDONTWRITEBYTECODE"


@contextmanager
def doubles() -> Generator[str]:
    """Starts the model provider's double and the OTLP receiver; yields the address of both."""
    port = free_port()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "verification.bench.doubles", str(port)], cwd=ROOT
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
