"""Fresh environments, as a user makes them: the application, then otel-coach, then a request."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from tests.support.environment import without_settings
from tests.support.programs import Program, free_port
from verification.installs.distributions import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHIPPED: Final = "shipped"
NEWEST: Final = "newest"
UV: Final = Path(sys.executable).parent / "uv"
"""uv of the development environment, because there may be no other."""

_TIMEOUT: Final = 300.0
_APPLICATION: Final = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/hello/{name}")
def hello(name: str) -> str:
    return name
"""
_SERIES: Final = (
    'http_server_request_duration_seconds_count{endpoint="/hello/{name}",method="GET",status="200"}'
)


class InstallError(RuntimeError):
    """A command failed; the message ends with the last lines of its output."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the command that installs into it."""

    folder: Path
    pip: tuple[str, ...]
    """The command that is used as `pip`."""

    @classmethod
    def with_pip(cls, folder: Path, version: str) -> Environment:
        """Makes one with that version of pip; `SHIPPED` is the one that this Python brings."""
        run([sys.executable, "-m", "venv", folder])
        python = str(folder / "bin" / "python")
        if version != SHIPPED:
            wanted = "pip" if version == NEWEST else f"pip=={version}"
            run([python, "-m", "pip", "install", "--quiet", "--upgrade", wanted])
        return cls(folder, (python, "-m", "pip"))

    @classmethod
    def with_uv(cls, folder: Path) -> Environment:
        """Makes one with `uv pip`, and without pip."""
        run([UV, "venv", "--quiet", "--python", sys.executable, folder])
        return cls(folder, (str(UV), "pip"))

    def installs(self, *arguments: str | Path) -> str:
        """Runs `pip install` with `arguments`; returns its output."""
        return run([*self.pip, "install", *arguments], self.variables)

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the activated environment, without any settings (`OTEL_*`)."""
        kept = without_settings()
        path = f"{self.folder / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
        return {**kept, "VIRTUAL_ENV": str(self.folder), "PATH": path}

    @property
    def installer(self) -> str:
        """The name and version of the installer."""
        # `uv pip` has no version of its own: uv has.
        program = self.pip[:1] if self.pip[0] == str(UV) else self.pip
        return " ".join(run([*program, "--version"], self.variables).split()[:2])


def commands(wheel: Path) -> list[list[str]]:
    """Returns the arguments of README's `pip install` commands with `wheel`; the main one first."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = dict.fromkeys(re.findall(r"pip install ([^`\n]*otel-coach[^`\n]*)", text))
    return [
        [word.replace("otel-coach", str(wheel)) for word in shlex.split(line)] for line in found
    ]


def serve_and_ask(
    environment: Environment,
    variables: Mapping[str, str] | None = None,
    *,
    measured: bool = True,
    stays: float = 0.0,
) -> tuple[list[str], str]:
    """Serves with `opentelemetry-instrument` and sends a request; returns the problems and the log.

    `variables` are added to those of the environment; `measured` says whether a page is expected.
    The application is stopped `stays` seconds after the last response.
    """
    (environment.folder / "app.py").write_text(_APPLICATION)
    port = free_port()
    command = f"opentelemetry-instrument uvicorn app:app --port {port}".split()
    url = f"http://127.0.0.1:{port}"
    program = Program(
        [environment.folder / "bin" / command[0], *command[1:]],
        cwd=environment.folder,
        ready=f"{url}/openapi.json",
        environment={**environment.variables, **(variables or {})},
        log=environment.folder / "log.txt",
    )
    try:
        answer = httpx.get(f"{url}/hello/you", timeout=10)
        page = httpx.get(f"{url}/metrics", timeout=10)
        time.sleep(stays)
    finally:
        program.stop()
    found = [] if answer.json() == "you" else [f"the application answered {answer.text!r}"]
    lines = page.text.splitlines()
    if (page.status_code == HTTPStatus.OK) is not measured:
        found.append(f"/metrics was answered with {page.status_code}")
    if measured and f"{_SERIES} 1.0" not in lines:
        found.append(f"the page lacks the request: {_SERIES}")
    faults = (line for line in lines if line.startswith("otel_coach_errors_total"))
    found += [f"a fault of otel-coach: {line}" for line in faults if not line.endswith(" 0.0")]
    return found, program.log.read_text("utf-8")


def run(command: Sequence[str | Path], variables: dict[str, str] | None = None) -> str:
    """Runs `command` to its end; returns its output.

    Raises:
        InstallError: The command failed.
    """
    done = subprocess.run(  # noqa: S603 - commands of this repository and its README
        command,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise InstallError("\n".join([f"{words} failed:", *done.stdout.splitlines()[-15:]]))
    return done.stdout
