"""Builds otel-coach, installs it as a user would, and serves with it.

The exit code is 0 if wheel and sdist have the right files; if each pip and uv can install the
wheel, with nothing else pinned, and a request is measured there; and if it resolves beside each
lock. It is 1 otherwise.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from verification.installs import beside, distributions, lagging, vendors
from verification.installs.environments import (
    NEWEST,
    SHIPPED,
    Environment,
    InstallError,
    commands,
    run,
    serve_and_ask,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PIPS: Final = ("22.3", SHIPPED, "25.0.1", NEWEST)
"""The oldest pip that README promises, the last one with the old resolver, and others."""


class Check:
    """Runs checks, prints their results, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, what: str, look: Callable[[], Iterable[str]]) -> None:
        """Runs the check `look`, which returns the problems it found, and prints the result."""
        started = time.monotonic()
        try:
            problems = list(look())
        except InstallError as error:
            problems = [str(error)]
        self.failed += bool(problems)
        result = "FAILED" if problems else "ok"
        print(f"{result:7}{what}, {time.monotonic() - started:.0f} s", flush=True)
        for problem in problems:
            print("\n".join(f"       {line}" for line in problem.splitlines()), flush=True)


def main() -> int:
    """Runs all checks; returns the exit code: 0, or 1 if a check failed."""
    check = Check()
    with TemporaryDirectory(prefix="otel-coach-installs-") as name:
        folder = Path(name)
        made = _folder(folder, "dist")
        built = distributions.build(made)
        check(
            f"{built.wheel.name} and {built.sdist.name} hold the package and nothing else",
            lambda: distributions.problems_of(built, _folder(folder, "sdist")),
        )
        for lock in beside.LOCKS:
            _, why = beside.OUT_OF_REACH.get(lock.stem, ("", ""))
            what = f"out of reach, as expected: {why}" if why else "resolves"
            check(
                f"beside {lock.stem}: {what}",
                lambda lock=lock: beside.resolve(built.wheel, lock, folder),
            )
        index = _folder(folder, "index")
        lagging.write_index(index, built.wheel)
        for version in PIPS:
            environment = Environment.with_pip(folder / f"pip-{version}", version)
            installer = environment.installer
            if version != NEWEST:
                check(
                    f"{installer} finds its way where one of OpenTelemetry's packages lags behind",
                    lambda one=environment: lagging.resolve(one, index),
                )
            check(
                f"{installer} installs the wheel, and a request is measured",
                lambda one=environment: _install(one, built.wheel),
            )
        environment = Environment.with_uv(folder / "uv")
        check(
            f"{environment.installer} installs the wheel, and a request is measured",
            lambda: _install(environment, built.wheel),
        )
        check("beside a vendor's distro", lambda: vendors.made_here(environment))
        check(f"beside {vendors.AZURE}", lambda: vendors.azure(environment))
    print("all of it is as it should be" if not check.failed else f"{check.failed} checks failed")
    return 1 if check.failed else 0


def _install(environment: Environment, wheel: Path) -> list[str]:
    environment.installs("--quiet", "fastapi", "uvicorn")  # the application comes first
    command, *more = commands(wheel)
    environment.installs("--quiet", *command)
    problems, _ = serve_and_ask(environment)
    program = environment.folder / "bin"
    result = {
        run([program / "otel-coach", "--version"]),
        run([program / "python", "-m", "otel_coach", "--version"]),
    }
    # Only what the command names is there: no exporter, for example.
    named = {**environment.variables, "OTEL_SERVICE_NAME": "shop"}
    run([program / "otel-coach", "doctor"], named)
    version = wheel.name.split("-")[1]
    if result != {f"otel-coach {version}\n"}:
        problems.append(f"otel-coach --version says {result}, the wheel {version}")
    for one in more:
        environment.installs("--quiet", "--dry-run", *one)
    run([*environment.pip, "check"], environment.variables)
    return problems


def _folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


if __name__ == "__main__":
    sys.exit(main())
