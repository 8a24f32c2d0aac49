"""Finds out which application a server's command would serve."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.names import documented

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(?:\([^()]*\))?")
_MODULE: Final = re.compile(r"[A-Za-z_][\w.]*")
_DEFAULT_ATTRIBUTES: Final = {
    "gunicorn": "application",
    "hypercorn": "app",
    "granian": "app",
    "fastapi": "",
    "uvicorn": "",
}
"""The programs, with the attribute that each takes of a module if none is named."""
_FLAG: Final = re.compile(
    r"--(?:no-.*|reload|factory|proxy-headers|access-log|date-header|server-header|use-colors"
    r"|preload|daemon|debug|check-config|ws|opt|D)|-[DR]"
)
"""Options without a value."""
_LOOK_ALIKES: Final = frozenset({"-c", "--config", "-b", "--bind"})
"""Options whose value may look like an application: `python:module`, `unix:app.sock`."""
_FOLDERS: Final = ("--app-dir", "--pythonpath", "--chdir", "--working-dir", "-d")
_ENTERED: Final = ("--chdir", "--working-dir")
"""Those into which the server changes."""
_INSTRUMENT: Final = "opentelemetry-instrument"
_BEGINNING: Final = re.compile(r"OTEL_(?:PYTHON_)?")
_SITES: Final = frozenset({"auto_instrumentation", "site"})
"""Folders on PYTHONPATH from which OpenTelemetry or otel-coach instrument each Python process."""
_BINDS: Final = ("--bind", "-b", "--port")
_PORT: Final = re.compile(r"(?:.*:)?([0-9]{1,5})")
_NO_PORT: Final = ("unix:", "fd:")
"""How a --bind begins that is no address with a port."""
_WITHOUT_PORT: Final = ("--uds", "--fd")
_DEFAULT_PORT: Final = 8000
"""The port of each of the programs, if none is given."""
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


class CommandError(Exception):
    """The command names no application; the message says why."""


@dataclass(frozen=True, slots=True)
class Served:
    """The application of a command."""

    program: str
    target: str
    """`module:attribute`, or for `fastapi` a path, which may be empty."""
    folder: str
    """Where its modules are found first."""
    is_factory: bool = False
    values: str = ""
    """The arguments that gunicorn calls the factory with, as Python literals."""
    attribute: str = ""
    """For `fastapi`, the name of the application in that file."""
    instruments: bool = False
    """Whether the command instruments the application, or PYTHONPATH does."""
    port: int | None = _DEFAULT_PORT
    """The port on which the application is served; None for a Unix socket or an open file."""
    env_file: str = ""
    """The file of uvicorn's --env-file."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """The variables that gunicorn's --env sets."""
    enters_folder: bool = False
    """Whether the server changes into `folder`."""
    starts_workers: bool = False
    """Whether uvicorn starts worker processes, which have `env_file`'s variables at their start."""

    def as_dict(self) -> dict[str, object]:
        """Returns the fields as JSON types."""
        return asdict(self)


def served(command: Sequence[str], variables: Mapping[str, str] = {}) -> Served:
    """Returns the application that `command` serves in an environment of these `variables`.

    Raises:
        CommandError: it is no command of a known server, or names no application.
    """
    position = _position(command)
    arguments = command[position + 1 :]
    return replace(
        _application(Path(command[position]).name, arguments),
        instruments=_instruments(command[:position], variables.get("PYTHONPATH", "")),
        port=_port(arguments),
        enters_folder=_value(arguments, _ENTERED) is not None,
        **_variables(Path(command[position]).name, arguments, variables),
    )


def server_of(command: Sequence[str]) -> Sequence[str]:
    """Returns the part of `command` that serves, without what instruments it.

    Raises:
        CommandError: it is no command of a known server.
    """
    return command[_position(command) :]


def _instruments(before: Sequence[str], python_path: str) -> bool:
    """Whether the words before the server's name instrument it, or a folder on PYTHONPATH does."""
    words = [Path(word).name.replace("_", "-") for word in before]
    runs = ("otel-coach", "run") in pairwise(words)
    on_path = any(map(instruments_python, python_path.split(os.pathsep)))
    return runs or on_path or _INSTRUMENT in words


def instruments_python(folder: str) -> bool:
    """Whether `folder`, on PYTHONPATH, instruments each Python process."""
    return Path(folder).name in _SITES and (Path(folder) / "sitecustomize.py").exists()


def _variables(
    program: str, arguments: Sequence[str], variables: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the fields of `Served` about variables that the server itself sets."""
    if program == "gunicorn":
        given = (word.partition("=") for word in _values(arguments, ("--env", "-e")))
        return {"variables": {name: value for name, equals, value in given if equals}}
    if program != "uvicorn":
        return {}
    workers = _value(arguments, ("--workers",)) or variables.get("WEB_CONCURRENCY", "")
    return {
        "env_file": _value(arguments, ("--env-file",)) or "",
        "starts_workers": "--reload" in arguments or workers.strip() not in {"", "0", "1"},
    }


def _port(arguments: Sequence[str]) -> int | None:
    bind = _value(arguments, _BINDS) or ""
    if bind.startswith(_NO_PORT) or _value(arguments, _WITHOUT_PORT) is not None:
        return None
    match = _PORT.fullmatch(bind)
    return int(match[1]) if match else _DEFAULT_PORT


def _application(program: str, arguments: Sequence[str]) -> Served:
    folder = (_value(arguments, _FOLDERS) or ".").partition(",")[0]
    if program == "fastapi":
        return _of_fastapi(arguments, folder)
    certain, doubtful = _positionals(arguments)
    found = next(filter(_TARGET.fullmatch, (*certain, *doubtful)), None)
    default = _DEFAULT_ATTRIBUTES[program]
    if found is None and default:
        module = next(filter(_MODULE.fullmatch, certain), None)
        found = f"{module}:{default}" if module else None
    if found is None:
        message = "it names no application as module:attribute"
        raise CommandError(message)
    is_call = found.endswith(")")
    target, _, values = found.partition("(")
    is_factory = is_call or "--factory" in arguments
    return Served(program, target, folder, is_factory=is_factory, values=values.removesuffix(")"))


def environment_of(command: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of the server that `command` starts; `variables` are the command's.

    `env NAME=VALUE` and the options of `opentelemetry-instrument` change it.
    """
    return {**_by_env(command, variables), **_options_of_instrument(command)}


def _by_env(command: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    names = [Path(argument).name for argument in command]
    if "env" not in names:
        return dict(variables)
    found = dict(variables)
    rest = iter(command[names.index("env") + 1 :])
    for argument in rest:
        option, equals, value = argument.partition("=")
        if argument in {"-i", "-", "--ignore-environment"}:
            found.clear()
        elif option in {"-u", "--unset"}:
            found.pop(value if equals else next(rest, ""), None)
        elif _ASSIGNMENT.fullmatch(argument):
            found[option] = value
        elif not argument.startswith("-"):
            break
    return found


def _options_of_instrument(command: Sequence[str]) -> dict[str, str]:
    """Returns the variables that options of `opentelemetry-instrument` set in `command`.

    `--exporter_otlp_endpoint URL` sets OTEL_EXPORTER_OTLP_ENDPOINT, and `--distro NAME`
    OTEL_PYTHON_DISTRO: each option is a documented variable's name without that beginning.
    """
    names = [Path(argument).name for argument in command]
    if _INSTRUMENT not in names:
        return {}
    variables = {_BEGINNING.sub("", name).lower(): name for name in sorted(documented())}
    found: dict[str, str] = {}
    rest = iter(command[names.index(_INSTRUMENT) + 1 :])
    for argument in rest:
        if not argument.startswith("--"):
            break
        name, equals, value = argument[2:].partition("=")
        value = value if equals else next(rest, "")
        found[variables.get(name, f"OTEL_{name.upper()}")] = value
    return found


def _takes_a_value(argument: str) -> bool:
    return argument.startswith("-") and argument not in {"-m", "--"}


def _position(command: Sequence[str]) -> int:
    """Returns where the server is named; a name may also be an option's value: `--with fastapi`."""
    named = [
        at
        for at, word in enumerate(command)
        if Path(word).name in _DEFAULT_ATTRIBUTES
        and not (word.startswith("-") or _ASSIGNMENT.fullmatch(word))
    ]
    if certain := [at for at in named if at == 0 or not _takes_a_value(command[at - 1])] or named:
        return certain[0]
    message = f"it calls none of {', '.join(sorted(_DEFAULT_ATTRIBUTES))}"
    raise CommandError(message)


def _positionals(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments that are no options.

    The first list has those that cannot be the value of the preceding option; the second has those
    that may be.
    """
    certain: list[str] = []
    doubtful: list[str] = []
    before = ""
    for argument in arguments:
        if not argument.startswith("-") and before not in _LOOK_ALIKES:
            may_be_value = before.startswith("-") and "=" not in before
            is_certain = not may_be_value or _FLAG.fullmatch(before)
            (certain if is_certain else doubtful).append(argument)
        before = argument
    return certain, doubtful


def _value(arguments: Sequence[str], options: Sequence[str]) -> str | None:
    return next(_values(arguments, options), None)


def _values(arguments: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    """Yields the value each time that one of the `options` is given."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in options:
            if equals:
                yield value
            else:
                yield from arguments[position + 1 : position + 2]


def _of_fastapi(arguments: Sequence[str], folder: str) -> Served:
    if not arguments or arguments[0] not in {"run", "dev"}:
        message = "fastapi serves with `run` or `dev`"
        raise CommandError(message)
    if entrypoint := _value(arguments, ("--entrypoint", "-e")):
        return Served("uvicorn", entrypoint, folder)
    attribute = _value(arguments, ("--app",)) or ""
    paths, _ = _positionals(arguments[1:])
    return Served("fastapi", next(iter(paths), ""), folder, attribute=attribute)
