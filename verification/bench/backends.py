"""Measures what a dead back end costs, against a second service that exports to a healthy one."""

from __future__ import annotations

import os
import socket
import statistics
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from tests.support.otlp import Receiver
from tests.support.paths import ROOT
from tests.support.programs import ALONE, Program, free_port
from tests.support.stack import bin_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_ROUNDS: Final = 20
_REQUESTS: Final = 150
_UNAVAILABLE: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def _listening(answer: bytes) -> Generator[str]:
    """Accepts connections; sends `answer` to each, or never anything if it is empty."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if answer:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def _no_server(address: str = "") -> Generator[str]:
    yield address or f"http://127.0.0.1:{free_port()}"


_BACK_ENDS: Final[dict[str, Callable[[], object]]] = {
    "refuses": _no_server,
    "is silent": lambda: _listening(b""),
    "answers 503": lambda: _listening(_UNAVAILABLE),
    "answers garbage": lambda: _listening(bytes(range(200))),
    "has no address": lambda: _no_server("http://no-such-host.invalid:4318"),
}


def main() -> None:
    """Prints one line for each kind of dead back end."""
    print(f"{_ROUNDS} rounds of {_REQUESTS} requests, alternating; dead against healthy")
    for name, back_end in _BACK_ENDS.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
            healthy = stack.enter_context(Receiver()).endpoint
            dead = stack.enter_context(back_end())  # type: ignore[arg-type]
            urls, programs = [], []
            for place, endpoint in enumerate((healthy, dead)):
                program, url = _service(folder / f"{place}.log", endpoint)
                stack.callback(program.stop)
                urls.append(url)
                programs.append(psutil.Process(program.process.pid))
            clients = [stack.enter_context(httpx.Client(base_url=url)) for url in urls]
            times: list[list[float]] = [[], []]
            for _ in range(_ROUNDS):
                for place, client in enumerate(clients):
                    times[place] += [_timed(client) for _ in range(_REQUESTS)]
            p50, p99 = ([_percentile(found, p) for found in times] for p in (50, 99))
            memory = [program.memory_info().rss / 1e6 for program in programs]
            lines = sum("export" in line for line in (folder / "1.log").read_text().splitlines())
            print(
                f"{name:16} p50 {p50[1] / p50[0]:.2f} x, p99 {p99[1] / p99[0]:.2f} x "
                f"({p99[0]:.1f} -> {p99[1]:.1f} ms), {memory[0]:.0f} -> {memory[1]:.0f} MB, "
                f"{lines} lines of exporters in the log"
            )


def _service(log: Path, endpoint: str) -> tuple[Program, str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        "uvicorn",
        "--port",
        str(port),
        "--no-access-log",
        "verification.bench.scraped_app:app",
    ]
    program = Program(
        [bin_path("opentelemetry-instrument"), *command],
        cwd=ROOT,
        ready=f"{url}/health",
        environment={
            **{key: value for key, value in os.environ.items() if "OTEL_" not in key},
            **ALONE,
            "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        },
        log=log,
    )
    return program, url


def _timed(client: httpx.Client) -> float:
    started = perf_counter()
    client.get("/health")
    return 1000 * (perf_counter() - started)


def _percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


if __name__ == "__main__":
    main()
