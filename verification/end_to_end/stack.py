"""Starts the reference service with 4 workers, and all the real programs around it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.support.stack import coaching_stack
from verification.end_to_end.backends import Ports, backends, url
from verification.end_to_end.database import Database, database
from verification.end_to_end.jaeger import Jaeger
from verification.end_to_end.prometheus import Prometheus

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.support.stack import Stack
    from verification.end_to_end.backends import Backends

_SERVICE: Final = ("opentelemetry-instrument", "uvicorn", "--workers", "4", "app:app")


@dataclass(frozen=True)
class WholeStack:
    """The running programs, and clients for the back ends' query APIs."""

    ports: Ports
    service: Stack
    backends: Backends
    database: Database
    prometheus: Prometheus
    jaeger: Jaeger


@contextmanager
def whole_stack(
    folder: Path, ports: Ports, *, seconds: int, **environment: str
) -> Generator[WholeStack]:
    """Starts everything, with its files in `folder`; metrics are scraped every `seconds`.

    `environment` has further variables of the service.

    Raises:
        ToolError: A program is not installed.
        ProgramError: A program did not start, or a port is taken.
    """
    with (
        backends(folder, ports, seconds=seconds) as running,
        database(folder / "database") as server,
        coaching_stack(
            port=ports.service,
            command=_SERVICE,
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": url(ports.otlp_http), **environment},
            database_url=server.url,
        ) as service,
    ):
        prometheus = Prometheus(url(ports.prometheus))
        jaeger = Jaeger(url(ports.jaeger), "coaching")
        yield WholeStack(ports, service, running, server, prometheus, jaeger)
