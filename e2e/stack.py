"""The reference service with 4 workers, and all the real programs around it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from demo.stack import coaching_stack
from e2e.backends import Ports, backends, url
from e2e.database import Database, database
from e2e.jaeger import Jaeger
from e2e.prometheus import Prometheus

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from demo.stack import Stack
    from e2e.backends import Backends

_SERVICE: Final = ("opentelemetry-instrument", "uvicorn", "--workers", "4", "app:app")


@dataclass(frozen=True)
class WholeStack:
    """What runs, and who can be asked."""

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
    """Start all of it, with its files in `folder`; figures are scraped every `seconds`.

    `environment` is the service's, beside what it needs.

    Raises:
        ToolError: a program is not here.
        ProgramError: one did not start, or a port is taken.
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
