"""Starts Collector, Jaeger and Prometheus as programs, with the files that a user deploys."""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import yaml

from tests.support.paths import ROOT
from tests.support.programs import Program, ProgramError, free_port, is_free
from verification.end_to_end.tools import find

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

COLLECTOR_CONFIG: Final = ROOT / "collector-config.yaml"
JAEGER_CONFIG: Final = ROOT / "deploy" / "jaeger.yaml"
PROMETHEUS_CONFIG: Final = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"

JOB: Final = "otel-coach"
"""The Prometheus job of the service's metrics that come through the Collector."""
DIRECT_JOB: Final = "otel-coach-direct"
"""The job of those that Prometheus scrapes from the service itself."""


@dataclass(frozen=True)
class Ports:
    """All ports that the stack listens on, on the loopback interface."""

    service: int = 8000
    otlp_grpc: int = 4317
    otlp_http: int = 4318
    collector_page: int = 8889
    collector_self: int = 8888
    collector_health: int = 13133
    jaeger: int = 16686
    jaeger_grpc: int = 16685
    jaeger_otlp: int = 14317
    jaeger_health: int = 14133
    prometheus: int = 9090

    @classmethod
    def free(cls) -> Ports:
        """Returns ports that are free."""
        return replace(cls(), **{name: free_port() for name in cls.__dataclass_fields__})

    def taken(self) -> list[str]:
        """Returns one line for each port that is taken."""
        return [
            f"port {port}, for {name.replace('_', ' ')}, is taken; end what listens there"
            for name, port in vars(self).items()
            if not is_free(port)
        ]


class Programs:
    """Programs that are stopped at the end of the block, each with its log in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._stops = ExitStack()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.close()

    def start(self, tool: str, *options: str, ready: str, **variables: object) -> Program:
        """Starts `tool` and waits until it answers at `ready`; `variables` are its environment.

        Raises:
            ToolError: The program is not installed.
            ProgramError: The program did not start.
        """
        program = Program(
            [find(tool), *options],
            cwd=self.folder,
            ready=ready,
            environment={
                "PATH": os.environ["PATH"],
                **{name: str(value) for name, value in variables.items()},
            },
            log=self.folder / f"{tool}-{next(self._numbers)}.log",
        )
        self._stops.callback(program.stop)
        return program


@dataclass
class Backends:
    """The running programs; the Collector can be started again."""

    programs: Programs
    ports: Ports
    seconds: int
    """Seconds between two scrapes."""

    def __post_init__(self) -> None:
        self.jaeger = start_jaeger(self.programs, self.ports)
        self.collector = self._start_collector()
        self.prometheus = self._start_prometheus()

    def restart_collector(self) -> None:
        """Starts the Collector again, with the same persistent queue."""
        self.collector = self._start_collector()

    def _start_collector(self) -> Program:
        return start_collector(
            self.programs,
            self.ports,
            f"--config={COLLECTOR_CONFIG}",
            SERVICE_JOB=JOB,
            SERVICE_TARGET=address(self.ports.service),
            SCRAPE_INTERVAL=f"{self.seconds}s",
            SCRAPE_TIMEOUT=f"{min(self.seconds, 10)}s",
        )

    def _start_prometheus(self) -> Program:
        folder = self.programs.folder
        return self.programs.start(
            "prometheus",
            f"--config.file={_prometheus_config(folder, self.ports, self.seconds)}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={address(self.ports.prometheus)}",
            "--enable-feature=exemplar-storage",
            ready=f"{url(self.ports.prometheus)}/-/ready",
        )


@contextmanager
def backends(folder: Path, ports: Ports, *, seconds: int = 15) -> Generator[Backends]:
    """Starts all three; Prometheus and the Collector scrape every `seconds`.

    Raises:
        ToolError: A program is not installed.
        ProgramError: A program did not start, or a port is taken.
    """
    for tool in ("otelcol", "jaeger", "prometheus"):
        find(tool)
    if taken := ports.taken():
        raise ProgramError("\n".join(taken))
    with Programs(folder) as programs:
        yield Backends(programs, ports, seconds)


def start_jaeger(programs: Programs, ports: Ports) -> Program:
    """Starts Jaeger with the file that is deployed."""
    return programs.start(
        "jaeger",
        f"--config={JAEGER_CONFIG}",
        ready=f"{url(ports.jaeger)}/api/services",
        JAEGER_UI=address(ports.jaeger),
        JAEGER_QUERY_GRPC=address(ports.jaeger_grpc),
        JAEGER_HEALTH=address(ports.jaeger_health),
        JAEGER_OTLP=address(ports.jaeger_otlp),
    )


def start_collector(
    programs: Programs, ports: Ports, *configurations: str, **variables: object
) -> Program:
    """Starts a Collector with these configurations; its queue has a folder of its own."""
    return programs.start(
        "otelcol",
        *configurations,
        ready=url(ports.collector_health),
        OTELCOL_HEALTH=address(ports.collector_health),
        OTELCOL_OTLP_GRPC=address(ports.otlp_grpc),
        OTELCOL_OTLP_HTTP=address(ports.otlp_http),
        OTELCOL_PROMETHEUS=address(ports.collector_page),
        OTELCOL_SELF_PORT=ports.collector_self,
        OTELCOL_STORAGE=programs.folder / f"queue-{ports.otlp_grpc}",
        JAEGER_OTLP=address(ports.jaeger_otlp),
        **variables,
    )


def _prometheus_config(folder: Path, ports: Ports, seconds: int) -> Path:
    """Writes the deployed file with the targets and intervals of this run; returns its path."""
    config = yaml.safe_load(PROMETHEUS_CONFIG.read_text())
    config["global"] = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
    config["rule_files"] = [str(RULES)]
    targets = folder / "targets"
    targets.mkdir()
    for name, port in (
        ("collector", ports.collector_page),
        ("service", ports.service),
        ("otelcol", ports.collector_self),
    ):
        (targets / f"{name}.yml").write_text(yaml.safe_dump([{"targets": [address(port)]}]))
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def address(port: int) -> str:
    """Returns the address of `port` on the loopback interface."""
    return f"127.0.0.1:{port}"


def url(port: int) -> str:
    """Returns the URL of `port` on the loopback interface."""
    return f"http://{address(port)}"
