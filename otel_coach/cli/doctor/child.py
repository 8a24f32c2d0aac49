"""Imports the application in a process of its own, without serving it, and looks at it.

`application.py` starts this process with the service's environment. Threads and connections of the
import end with the process. Nothing is exported, and no dependency is probed.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import otel_coach
from otel_coach.cli.doctor import content
from otel_coach.cli.doctor.child_process import end_after
from otel_coach.cli.doctor.command_line import Served
from otel_coach.cli.doctor.fetch import MAX_BYTES, is_ours
from otel_coach.cli.doctor.imports import as_the_command_does
from otel_coach.cli.doctor.log_lines import LogLines
from otel_coach.cli.doctor.start_child import APART
from otel_coach.configuration.late_variables import LateVariables
from otel_coach.configuration.process import set_variables
from otel_coach.configuration.setting import differences
from otel_coach.instrumentors import ASGI
from otel_coach.settings import Settings, effective

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.settings import EffectiveSettings

_WITHOUT_SECRETS: Final = (ImportError, AttributeError, SyntaxError, FileNotFoundError, NameError)
"""Exceptions whose message is about code and files; others may have a secret in theirs."""
_INSIDE: Final = ("app", "application", "asgi", "_app", "wrapped", "__wrapped__", "inner")
"""Attributes under which a wrapper keeps what it wraps."""
_MAX_DEPTH: Final = 20
_MAX_SECONDS: Final = 10.0
"""Seconds for the request of the page."""
_FILES: Final = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")
"""Where `fastapi run` looks if no file is named."""


def main() -> None:
    """Writes what it finds to the file that the second argument names."""
    served = Served(**json.loads(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(_looked_at(served)), "utf-8")


class _Instrumenting:
    """Stands for `otel_coach.instrument`: notes the settings of each call, and exports nothing."""

    def __init__(self) -> None:
        self._instrument = otel_coach.instrument
        self.settings: list[EffectiveSettings] = []
        """The settings of each call. Those of the first call are in force."""
        self.unused: dict[str, str] | None = None
        """What a later call asked for, and did not get."""
        self.variables: LateVariables | None = None
        """Tells which variables have been set since the first call."""

    def __call__(self, app: Any = None, *, settings: Settings | None = None) -> None:
        self.settings.append(effective(settings or Settings.from_env()))
        self.variables = self.variables or LateVariables()
        if settings is not None:
            self.unused = self.unused or differences(self.settings[0], self.settings[-1])
        self._instrument(app, settings=replace(self.settings[0], **_APART))


def _looked_at(served: Served) -> dict[str, Any]:
    lines = LogLines()
    otel_coach.instrument = instrument = _Instrumenting()
    if served.env_file and served.starts_workers:
        _load(served.env_file)
    if served.instruments:
        instrument()
    calls = len(instrument.settings)
    try:
        folder = Path(served.folder).resolve()
        if served.enters_folder:
            os.chdir(folder)
        with as_the_command_does(folder):
            if served.env_file:
                _load(served.env_file)
            set_variables(served.variables)
            target = _imported(served)
    except BaseException as error:  # noqa: BLE001 - the module may raise anything, also SystemExit
        return {"error": _what_failed(error)}
    is_called = len(instrument.settings) > calls
    told: dict[str, Any] = {
        "lines": lines.found,
        "is_instrumented": served.instruments or is_called,
        "unused": instrument.unused,
        "late": [] if instrument.variables is None else instrument.variables.names(),
    }
    if not instrument.settings:
        instrument()  # as it would be with `opentelemetry-instrument`
    settings = instrument.settings[0]
    if (redactor := settings.content_redactor) is not None:  # it may be part of the application
        with as_the_command_does(folder):
            told["redactor"] = content.why_not(redactor)
    told["settings"] = {
        "metrics_path": settings.metrics_path,
        "budgets": dict(settings.budgets),
        "stopped": sorted(settings.stop_abandoned)
        if isinstance(settings.stop_abandoned, frozenset)
        else [],
    }
    return told | _seen(target, settings)


def _seen(target: Any, settings: EffectiveSettings) -> dict[str, Any]:
    """Returns what the imported object is, its routes, and how it answers GET for the page."""
    kind = f"a {type(target).__module__}.{type(target).__qualname__}"
    app = _unwrapped(target)
    if app is None:
        return {"kind": kind}
    from otel_coach.instrumentors.asgi.routes import has_own_route, templates  # noqa: PLC0415 - needs starlette

    scope = _scope(settings.metrics_path, settings.metrics_token)
    found: dict[str, Any] = {
        "kind": kind,
        "is_wrapped": app is not target,
        "routes": sorted(set(templates(app))),
        "has_own_page": has_own_route(app, scope),
    }
    in_application = settings.serves_metrics and settings.metrics_port is None
    if in_application and settings.enabled and not settings.disables(ASGI):
        found["page"] = asyncio.run(_asked(target, scope))
    return found


_APART: Final = {**APART, "trace_exporters": (), "config_file": None, "enabled": True}
"""The settings that this process has instead of the service's."""


def _load(env_file: str) -> None:
    """Sets the variables of the file as uvicorn does."""
    importlib.import_module("dotenv").load_dotenv(env_file)


def _imported(served: Served) -> Any:
    if served.program == "fastapi":
        return _of_file(served)
    module, _, attribute = served.target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not served.is_factory:
        return found
    call: Any = ast.parse(f"f({served.values})", mode="eval").body  # as gunicorn reads it
    named = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    return found(*map(ast.literal_eval, call.args), **named)


def _of_file(served: Served) -> Any:
    """Imports the application as `fastapi run` does: by the path of its file."""
    files = (served.target,) if served.target else _FILES
    path = next((Path(file).resolve() for file in files if Path(file).exists()), None)
    if path is None:
        message = f"there is no file {' or '.join(files)}"
        raise FileNotFoundError(message)
    parts = [path.parent.name if path.name == "__init__.py" else path.stem]
    folder = path.parent.parent if path.name == "__init__.py" else path.parent
    if path.is_dir():
        parts, folder = [path.name], path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    sys.path.insert(0, str(folder))
    module = importlib.import_module(".".join(parts))
    if served.attribute:
        return getattr(module, served.attribute)
    for name in ("app", "api", *vars(module)):
        if _unwrapped(getattr(module, name, None)) is not None:
            return getattr(module, name)
    message = f"{path} has no application"
    raise AttributeError(message)


def _unwrapped(target: Any) -> Any:
    """Returns the Starlette or FastAPI application that `target` is or wraps, if there is one."""
    starlette = sys.modules.get("starlette.applications")
    if starlette is None:
        return None
    for _ in range(_MAX_DEPTH):
        if isinstance(target, starlette.Starlette):
            return target
        target = next((one for one in _inside(target)), None)
        if target is None:
            return None
    return None


def _inside(target: Any) -> Iterator[Any]:
    for name in _INSIDE:
        found = getattr(target, name, None)
        if callable(found) and not isinstance(found, type):
            yield found


def _scope(path: str, token: str | None) -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"accept", b"text/plain"), (b"user-agent", b"Prometheus")]
    if token:
        headers.append((b"authorization", b"Bearer " + token.encode(errors="surrogateescape")))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def _asked(target: Any, scope: dict[str, Any]) -> dict[str, Any]:
    """Sends one GET for the page through everything that is around the application."""
    found: dict[str, Any] = {"status": None, "type": "", "is_ours": False}
    body = bytearray()
    is_sent = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not is_sent.is_set():
            is_sent.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(_MAX_SECONDS)  # the client stays connected
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found["status"] = int(message["status"])
            sent = message.get("headers", ())
            headers = {bytes(key).lower(): bytes(value) for key, value in sent}
            found["type"] = headers.get(b"content-type", b"").decode("latin-1")
        elif len(body) < MAX_BYTES:
            body.extend(message.get("body", b""))

    try:
        await asyncio.wait_for(target(scope, receive, send), _MAX_SECONDS)
    except Exception as error:  # noqa: BLE001 - the application may raise anything
        found["error"] = type(error).__name__
    found["is_ours"] = is_ours(body.decode(errors="replace"))
    return found


def _what_failed(error: BaseException) -> str:
    """Returns what went wrong and where, without a message that may have a secret in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    said = (
        f": {str(error).splitlines()[0][:200]}"
        if isinstance(error, _WITHOUT_SECRETS) and str(error)
        else ""
    )
    return f"{type(error).__name__}{said}{place}"


if __name__ == "__main__":
    end_after(main)
