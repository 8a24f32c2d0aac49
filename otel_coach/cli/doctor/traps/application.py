"""Mistakes that show only when the application is imported as its command does."""

from __future__ import annotations

from typing import Final

from otel_coach.core.traps import Severity, Trap, Way

COMMAND: Final = Trap(
    "command-unknown",
    "{command} is no command that the doctor can follow: {reason}",
    "It imports the application that uvicorn, gunicorn, hypercorn, granian or fastapi would serve.",
    "otel-coach doctor -- uvicorn app:app",
    way=Way.COMMAND,
)
OTHER_INTERPRETER: Final = Trap(
    "other-interpreter",
    "{program} runs under {python}, but this doctor under {own}",
    "otel-coach measures only what runs in the interpreter in which it is installed; the "
    "application was not imported, and the rest of this report is about this environment.",
    "{python!q} -m pip install otel-coach && {python!q} -m otel_coach doctor -- {command}",
    way=Way.COMMAND,
)
NOT_IMPORTED: Final = Trap(
    "application-not-imported",
    "{target} cannot be imported: {reason}",
    "The command could not serve it either.",
    "cd APP && {command} # in the application's folder and environment",
    way=Way.COMMAND,
)
NOT_WATCHED: Final = Trap(
    "application-not-watched",
    "{target} is {kind}, and no FastAPI or Starlette application is inside",
    "otel-coach measures the requests of Starlette's and FastAPI's applications only.",
    "otel-coach doctor -- uvicorn module:app # name the application itself",
    way=Way.COMMAND,
)
NOT_INSTRUMENTED: Final = Trap(
    "command-not-instrumented",
    "neither this command nor the application starts otel-coach: {command} measures nothing by "
    "itself",
    "The rest of this report is about the same command under opentelemetry-instrument.",
    "opentelemetry-instrument {command}",
    Severity.NOTE,
    Way.COMMAND,
)
PAGE_REFUSED: Final = Trap(
    "page-refused",
    "the application itself answers GET {path} with {status}{by}; Prometheus gets no page",
    "A route of the application at that path, or what is around the application, decides first.",
    "export OTEL_COACH_METRICS_PATH=/internal/metrics # or let GET {path} pass there",
    way=Way.COMMAND,
)
MORE_ROUTES: Final = Trap(
    "more-routes-than-budget",
    "the application has {routes} routes, but the label endpoint only {budget} values",
    "Further routes are counted together, as `other`.",
    "export OTEL_COACH_BUDGET_ENDPOINT={enough}",
    Severity.WARNING,
    Way.COMMAND,
)

ROWS: Final = (
    *(COMMAND, OTHER_INTERPRETER, NOT_IMPORTED, NOT_WATCHED, NOT_INSTRUMENTED),
    *(PAGE_REFUSED, MORE_ROUTES),
)
