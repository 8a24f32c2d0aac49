"""Which interpreter a command runs, by its script's first line or by its name."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor.traps.application import OTHER_INTERPRETER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.core.traps import Finding

_PYTHON: Final = re.compile(r"(?:python|pypy)[\w.]*")
_IN_SCRIPT: Final = re.compile(
    rb"\A#!(?:/bin/sh\n'''exec' |/\S*/env(?: -S)? )?(?:\"(.+?)\"|'(.+?)'|(\S+))"
)
"""The interpreter in a script's first line, or in its second where the path is long or has a space:
there pip puts it in double quotes, and uv in single ones."""
_FIND_OTHERS: Final = frozenset({"uv", "uvx", "poetry", "pipenv", "pdm", "hatch", "rye", "conda"})
"""Programs that look for the interpreter themselves."""
_MAX_HEAD: Final = 1024
_MAX_SECONDS: Final = 10.0
"""Seconds in which the interpreter must say where it is."""


def look(command: Sequence[str], server: str, path: str | None) -> Iterator[Finding]:
    """Yields a finding if `command` runs its `server` by another interpreter than this one."""
    before = command[: command.index(server)]
    if not _FIND_OTHERS.isdisjoint(Path(word).name for word in before):
        return
    python = next((word for word in before if _PYTHON.fullmatch(Path(word).name)), None)
    python = python or _of_script(server, path)
    where = shutil.which(python, path=path) if python else None
    prefix = _prefix(where) if where is not None else None
    if prefix is not None and not _is_same(prefix, sys.prefix):
        yield OTHER_INTERPRETER.found(
            program=server,
            python=where,
            own=sys.executable,
            command=shlex.join(command),
        )


def _of_script(program: str, path: str | None) -> str | None:
    where = shutil.which(program, path=path)
    if where is None:
        return None
    try:
        with Path(where).open("rb") as file:
            match = _IN_SCRIPT.match(file.read(_MAX_HEAD))
    except OSError:
        return None
    named = match[match.lastindex or 0].decode(errors="surrogateescape") if match else ""
    return named if _PYTHON.fullmatch(Path(named).name) else None


def _prefix(python: str) -> str | None:
    """Returns the folder of the environment of `python`; None if `python` is no interpreter."""
    if _is_same(str(Path(python).parent), str(Path(sys.executable).parent)):
        return sys.prefix
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the command would start
            [python, "-I", "-c", "import sys; print(sys.prefix)"],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_MAX_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _is_same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
