"""Walks from nothing to the first figure by README's own commands, and times each step.

A fresh virtual environment in a temporary folder gets a small service, then the wheel of this
repository by README's `pip install` from the configured index, without pip's cache. The service is
started by README's command, asked once, and its page is read. The exit code is 0 if the figures
are what the provider has billed, 1 if they are not or a command failed.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import shlex
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx

from otel_coach.testing import Page, ScriptedProvider
from tests.support import pages
from tests.support.paths import ROOT
from tests.support.programs import Program, ProgramError, free_port
from verification.installs import distributions
from verification.installs.environments import Environment, InstallError, run

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from otel_coach.testing import Call

MODEL: Final = "gpt-4o-mini"
USD_PER_MILLION: Final = (0.15, 0.60)
"""What OpenAI takes for a prompt token and a completion token of that model."""
SERVICE: Final = f"""\
from fastapi import FastAPI
from openai import OpenAI

app = FastAPI()
client = OpenAI()


@app.get("/ask")
def ask(question: str) -> str:
    messages = [{{"role": "user", "content": question}}]
    answer = client.chat.completions.create(model="{MODEL}", messages=messages)
    return answer.choices[0].message.content
"""
OF_THE_SERVICE: Final = "pip install fastapi uvicorn openai"
MAKE: Final = "python -m venv .venv"
ASKS: Final = "`curl localhost:8000/ask?question=...`"
READS: Final = "`curl localhost:8000/metrics`: tokens and US dollars are what the provider bills"
_QUESTION: Final = "How far should I run today?"
_ANSWER: Final = "Five easy kilometres."


def readme_commands() -> tuple[str, str]:
    """Returns the commands of README's first shell block: what installs, and what serves."""
    text = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^```shell\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:1]
    install, serve = block.splitlines()
    return install, serve


def steps() -> list[str]:
    """Returns the first cell of each row of the table, without the sum."""
    install, serve = readme_commands()
    return [
        f"`{MAKE}`",
        f"the service's own packages: `{OF_THE_SERVICE}`",
        f"`{install}`",
        f"`{serve}`, until it answers",
        ASKS,
        READS,
    ]


def problems(page: Page, calls: Sequence[Call]) -> list[str]:
    """Returns where the page differs from what the provider has billed."""
    prompt = sum(call.prompt_tokens for call in calls)
    completion = sum(call.completion_tokens for call in calls)
    usd = (prompt * USD_PER_MILLION[0] + completion * USD_PER_MILLION[1]) / 1_000_000
    expected = {
        ("agent_llm_requests_total", ()): len(calls),
        ("agent_llm_tokens_total", (("mode", "prompt"),)): prompt,
        ("agent_llm_tokens_total", (("mode", "completion"),)): completion,
        ("agent_llm_cost_usd_total", ()): usd,
        ("otel_coach_errors_total", ()): 0,
    }
    found: list[str] = []
    for (name, labels), value in expected.items():
        shown = page.sum(name, **dict(labels))
        if not math.isclose(shown, value, rel_tol=1e-9):
            found.append(f"{name} {dict(labels)} is {shown:g}, and the provider says {value:g}")
    return found


class Walk:
    """The steps so far, each with its seconds."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float]] = []
        self._left = iter(steps())

    @contextmanager
    def step(self) -> Generator[None]:
        """Times the block as the next step."""
        started = time.perf_counter()
        yield
        self.rows.append((next(self._left), time.perf_counter() - started))
        sys.stdout.write(f"{self.rows[-1][1]:6.1f} s  {self.rows[-1][0]}\n")
        sys.stdout.flush()

    def table(self) -> str:
        """Returns the table, and on what it was measured."""
        version = ".".join(platform.python_version_tuple()[:2])
        lines = [
            f"Python {version} on {os.cpu_count()} processors, all packages downloaded:",
            "",
            "| step | seconds |",
            "|---|---|",
            *(f"| {what} | {seconds:.1f} |" for what, seconds in self.rows),
            f"| in all | {sum(seconds for _, seconds in self.rows):.1f} |",
        ]
        return "\n".join(lines)


def walk(folder: Path, provider: ScriptedProvider) -> tuple[Walk, list[str]]:
    """Goes all steps in `folder`; returns them, and the problems with the figures.

    Raises:
        InstallError: a command failed.
        ProgramError: the service did not start.
    """
    install, serve = readme_commands()
    wheel = distributions.build(folder).wheel
    (folder / "constraint.txt").write_text(f"otel-coach @ {wheel.as_uri()}\n")
    (folder / "app.py").write_text(SERVICE)
    environment = Environment(folder / ".venv", ("pip",))
    variables = {
        **environment.variables,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CONSTRAINT": str(folder / "constraint.txt"),  # the wheel, not a released one
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": provider.base_url,
        "OTEL_COACH_GATEWAYS": ",".join(f"{a}={b}" for a, b in provider.gateways.items()),
    }
    going = Walk()
    with going.step():
        run([sys.executable, *shlex.split(MAKE)[1:-1], environment.folder])
    with going.step():
        run(shlex.split(OF_THE_SERVICE), variables)
    with going.step():
        run(shlex.split(install), variables)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command, *arguments = [*shlex.split(serve), "--port", str(port)]
    with going.step():
        program = Program(
            [environment.folder / "bin" / command, *arguments],
            cwd=folder,
            ready=f"{url}/openapi.json",
            environment=variables,
            log=folder / "service.log",
        )
    try:
        with going.step():
            answer = httpx.get(f"{url}/ask", params={"question": _QUESTION}, timeout=30)
        with going.step():
            page = httpx.get(f"{url}/metrics", timeout=30)
    finally:
        program.stop()
    if answer.text != f'"{_ANSWER}"' or not page.is_success:
        return going, [f"the service answered {answer.status_code}, its page {page.status_code}"]
    return going, problems(Page(page.text), provider.calls)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m verification.walk", description=__doc__)
    pages.add_write(parser)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="otel-coach-walk-") as name, ScriptedProvider(_ANSWER) as one:
        try:
            going, found = walk(Path(name), one)
        except (InstallError, ProgramError) as error:
            sys.stdout.write(f"{error}\n")
            return 1
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    if found:
        return 1
    pages.show("walk", going.table(), arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
