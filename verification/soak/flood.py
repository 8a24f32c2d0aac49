"""Measures what strangers with 100 connections can do to the page and to other endpoints.

They request the page and leave, or request it and do not read, or request and read it, as fast as
they can. Meanwhile a scrape and the requests of another endpoint's user are timed; the user's times
are compared with those beside 100 idle connections.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx

from tests.support.paths import ROOT
from verification.bench.variants import OURS_METRICS, STANDARD, running

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from verification.bench.variants import Service

_STRANGERS: Final = 100
_MAX_SCRAPE: Final = 1.0
_ADDED_TO_P50: Final = 0.002
_GROWTH: Final = 60.0
"""MB by which one process may grow; each of 100 clients that do not read may take 64 kB twice."""
_REQUEST: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n\r\n"


def main() -> int:
    """Returns the exit code: 1 if a scrape or /health was too slow or memory grew, else 0."""
    parser = argparse.ArgumentParser(prog="python -m verification.soak.flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each attack")
    parser.add_argument("--routes", type=int, default=450, help="routes with series of their own")
    parser.add_argument("--attack", choices=_ATTACKS, help="only attack the service at --port")
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.attack:
        return _be_strangers(_ATTACKS[arguments.attack], arguments.port)
    problems: list[str] = []
    os.environ["BENCH_ROUTES"] = str(arguments.routes)
    with (
        TemporaryDirectory(prefix="otel-coach-flood-") as folder,
        running(
            OURS_METRICS, Path(folder), "", STANDARD, "verification.bench.full_app:app"
        ) as service,
    ):
        port, url = service.port, f"http://127.0.0.1:{service.port}"
        page = httpx.get(f"{url}/metrics", timeout=60).content
        with _strangers(port, "idle"):
            quiet = _health(url, arguments.seconds / 2)
        print(
            f"page of {len(page) / 1000:.0f} kB; /health beside idle connections, p50 {_ms(quiet)}"
        )
        for name in ("leaves", "does not read", "reads"):
            before = _memory(service)
            with _strangers(port, name):
                time.sleep(arguments.seconds / 2)
                scrapes = [_scrape(url) for _ in range(3)]
                busy = _health(url, arguments.seconds / 2)
                largest = _memory(service)
            print(
                f"{_STRANGERS} of whom each {name}: a scrape takes {max(scrapes):.2f} s at most, "
                f"/health p50 {_ms(busy)}, memory {before:.0f} -> {largest:.0f} MB"
            )
            if max(scrapes) > _MAX_SCRAPE:
                problems.append(f"a scrape takes {max(scrapes):.2f} s where each {name}")
            if statistics.median(busy) - statistics.median(quiet) > _ADDED_TO_P50:
                problems.append(f"/health is slower where each {name}")
            if largest - before > _GROWTH:
                problems.append(f"memory grows by {largest - before:.0f} MB where each {name}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _memory(service: Service) -> float:
    """Returns the resident memory of the service, in MB."""
    return service.process.memory_info().rss / 1e6


@contextmanager
def _strangers(port: int, attack: str) -> Generator[None]:
    """Runs the strangers in a process of their own, with a lower priority than the service's."""
    command = [
        sys.executable,
        "-m",
        "verification.soak.flood",
        "--attack",
        attack,
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)  # noqa: S603
    try:
        time.sleep(1.5)
        yield
    finally:
        process.communicate()


def _be_strangers(attack: Callable[[int, threading.Event], None], port: int) -> int:
    os.nice(10)
    done = threading.Event()
    threads = [
        threading.Thread(target=attack, args=(port, done), daemon=True) for _ in range(_STRANGERS)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join(5)
    return 0


def _idles(port: int, done: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port)):
        done.wait()


def _leaves(port: int, done: threading.Event) -> None:
    while not done.wait(1):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(_REQUEST)


def _does_not_read(port: int, done: threading.Event) -> None:
    while not done.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall(_REQUEST)
            done.wait(2)


def _reads(port: int, done: threading.Event) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as connection:
        while not done.is_set():
            connection.sendall(_REQUEST)
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(1 << 16)
            head, _, body = received.partition(b"\r\n\r\n")
            (length,) = (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            left = length - len(body)
            while left > 0 and (piece := connection.recv(min(left, 1 << 16))):
                left -= len(piece)


_ATTACKS: Final = {
    "idle": _idles,
    "leaves": _leaves,
    "does not read": _does_not_read,
    "reads": _reads,
}


def _scrape(url: str) -> float:
    began = time.perf_counter()
    httpx.get(f"{url}/metrics", timeout=60).raise_for_status()
    return time.perf_counter() - began


def _health(url: str, seconds: float) -> list[float]:
    waits: list[float] = []
    with httpx.Client(timeout=60) as client:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            client.get(f"{url}/health")
            waits.append(time.perf_counter() - began)
            time.sleep(0.005)
    return waits


def _ms(waits: list[float]) -> str:
    return f"{1000 * statistics.median(waits):.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
