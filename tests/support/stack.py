"""The reference service under `opentelemetry-instrument`, with all that it talks to."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.support.anthropic_double import Provider, anthropic_provider
from tests.support.environment import without_settings
from tests.support.otlp import Receiver
from tests.support.paths import COACHING
from tests.support.programs import ALONE, Program, free_port, postgres

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

__all__ = ["Provider", "Stack", "coaching_stack"]

_SECRET = "a-secret-of-the-demo-that-is-long-enough"
API_KEY = "demo-key"


@dataclass(frozen=True)
class Stack:
    """What runs, and how to reach it."""

    url: str
    program: Program
    provider: Any
    """The local provider: its ledger is the truth about LLM calls."""
    receiver: Receiver
    database_url: str

    api_key: str = API_KEY

    @staticmethod
    def token(subject: str = "anna", scopes: Sequence[str] = ("coach:chat",)) -> str:
        """A JWT that the service accepts."""
        os.environ["COACH_JWT_SECRET"] = _SECRET
        from security import create_token

        return create_token(subject, scopes)


def bin_path(name: str) -> Path:
    """A program of the environment that runs this."""
    return Path(sys.executable).parent / name


INSTRUMENTED = ("opentelemetry-instrument", "uvicorn", "app:app")
BARE = ("uvicorn", "app:app")


@contextmanager
def coaching_stack(
    *,
    port: int | None = None,
    command: Sequence[str] = INSTRUMENTED,
    environment: Mapping[str, str] | None = None,
    cwd: Path = COACHING,
    database_url: str | None = None,
) -> Generator[Stack]:
    """Start PostgreSQL, the provider, an OTLP receiver and the service; stop them at the end.

    `environment` is added to what the service needs; an empty value removes a variable.

    Raises:
        ProgramError: the service did not start.
    """
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    provider = anthropic_provider()
    with _database(database_url) as database, provider, Receiver() as receiver:
        variables = {
            **without_settings(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_URL": database,
            "OPENAI_BASE_URL": provider.base_url,
            "OTEL_COACH_GATEWAYS": "127.0.0.1=openai,localhost=anthropic",
            "COACH_JWT_SECRET": _SECRET,
            "COACH_API_KEY": API_KEY,
            **ALONE,
            "OTEL_SERVICE_NAME": "coaching",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_COACH_DEPENDENCIES": "postgres_django=env:DATABASE_URL",
            "OTEL_COACH_DEPENDENCY_INTERVAL": "1",
            "OTEL_COACH_DEPENDENCY_TIMEOUT": "1",
            **(environment or {}),
        }
        with TemporaryDirectory(prefix="otel-coach-log-") as logs:
            program = Program(
                [bin_path(command[0]), *command[1:], "--port", str(port)],
                cwd=cwd,
                ready=f"{url}/health",
                environment={key: value for key, value in variables.items() if value},
                log=Path(logs) / "service.log",
            )
            try:
                yield Stack(url, program, provider, receiver, database)
            finally:
                program.stop()


@contextmanager
def _database(url: str | None) -> Generator[str]:
    if url is not None:
        yield url
        return
    with postgres() as embedded:
        yield embedded
