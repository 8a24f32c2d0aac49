"""What only the imported application tells: its routes, its own page, and what wraps it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli.doctor import content, interpreter
from otel_coach.cli.doctor.child_process import ChildError, result_of
from otel_coach.cli.doctor.command_line import CommandError, served, server_of
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.log_lines import findings
from otel_coach.cli.doctor.traps import application as traps
from otel_coach.configuration.names import unknown_endpoints
from otel_coach.core.traps import (
    LATE_VARIABLES,
    OWN_PAGE,
    PORT,
    STOPPED_ENDPOINT,
    UNUSED_SETTINGS,
    cure_of_port,
)
from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.metrics.labels import ENDPOINT
from otel_coach.metrics.series_bound import longest_line, max_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from otel_coach.cli.doctor.command_line import Served
    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding

_CHILD: Final = "otel_coach.cli.doctor.child"
_MAX_SECONDS: Final = 90.0
"""Seconds for the import; LangChain alone takes several on a small machine."""
_OK: Final = 200


def look(
    examined: Examined, command: Sequence[str], known: Collection[Finding | Fact] = ()
) -> Iterator[Finding | Fact]:
    """Imports the application of `command`, without serving it, and yields what is found.

    Log lines that repeat a `known` result of another look are left out.
    """
    shown = shlex.join(command)
    try:
        application = served(command, examined.variables)
    except CommandError as error:
        yield traps.COMMAND.found(command=shown, reason=error)
        return
    server = server_of(command)[0]
    elsewhere = [*interpreter.look(command, server, examined.variables.get("PATH"))]
    if elsewhere:
        yield from elsewhere
        return
    told = _told_by_child(examined, application)
    target = application.target or "the application"
    if "error" in told:
        yield traps.NOT_IMPORTED.found(target=target, reason=told["error"], command=shown)
        return
    if examined.settings.enabled:
        ways = [*_ways(application, command, told)]
        yield from ways
        yield from findings(told["lines"], examined, [*known, *ways])
    yield from content.about_redactor(examined, told.get("redactor", ""))
    if "routes" not in told:
        yield traps.NOT_WATCHED.found(target=target, kind=told["kind"])
        return
    yield from _routes(target, told)
    yield from _page(told)
    yield from _port(examined, application)


def _told_by_child(examined: Examined, application: Served) -> dict[str, Any]:
    """Returns what `child.py`, in its process, says about the application."""
    arguments = json.dumps(application.as_dict())
    try:
        return result_of(_CHILD, arguments, environment=examined.variables, seconds=_MAX_SECONDS)
    except ChildError as error:
        return {"error": f"{error} while importing it"}


def _ways(
    application: Served, command: Sequence[str], told: dict[str, Any]
) -> Iterator[Finding | Fact]:
    """Yields what instruments the application, and a finding if nothing does, or two things do."""
    if not told["is_instrumented"]:
        yield traps.NOT_INSTRUMENTED.found(command=shlex.join(command))
    elif not application.instruments:
        yield Fact("the application calls otel_coach.instrument()")
    if told["unused"]:
        yield UNUSED_SETTINGS.found(**told["unused"])
    if told["late"]:
        names = ", ".join(told["late"])
        yield LATE_VARIABLES.found(names=names, file=_to_source(application.env_file))


def _to_source(file: str) -> str:
    """Returns the path by which a shell's `.` reads `file`: a name alone is looked for on PATH."""
    return file if "/" in file else f"./{file or '.env'}"


def _port(examined: Examined, application: Served) -> Iterator[Finding]:
    settings = examined.settings
    port = settings.metrics_port
    if settings.serves_metrics and port is not None and port == application.port:
        reason = "the command serves the application there"
        yield PORT.found(
            host=settings.metrics_host,
            port=port,
            reason=reason,
            cure=cure_of_port(),
        )


def _routes(target: str, told: dict[str, Any]) -> Iterator[Finding | Fact]:
    routes: list[str] = told["routes"]
    budgets: dict[str, int] = told["settings"]["budgets"]
    yield Fact(f"{target}: {told['kind']} with {len(routes)} routes")
    values = {**budgets, ENDPOINT: min(budgets[ENDPOINT], len(routes))}
    longest = max(map(len, routes), default=0)
    lines = {metric: max_lines(metric, values) for metric in CATALOGUE}
    size = sum(count * longest_line(metric, longest) for metric, count in lines.items())
    yield Fact(
        f"the page has at most {sum(lines.values()):,} lines of otel-coach's, and "
        f"{max(1, round(size / 1e6)):,} MB, whatever is requested"
    )
    if len(routes) > budgets[ENDPOINT]:
        yield traps.MORE_ROUTES.found(
            routes=len(routes),
            budget=budgets[ENDPOINT],
            enough=len(routes) + len(routes) // 4,
        )
    for values in unknown_endpoints(told["settings"]["stopped"], routes):
        yield STOPPED_ENDPOINT.found(**values)


def _page(told: dict[str, Any]) -> Iterator[Finding | Fact]:
    path: str = told["settings"]["metrics_path"]
    page: dict[str, Any] | None = told.get("page")
    if page is None:
        return
    is_own = told["has_own_page"]
    if is_own:
        yield Fact(f"the application has a {path} of its own, which is asked first")
    if page.get("error"):
        yield Fact(
            f"GET {path} cannot be tried without its server: the application raises {page['error']}"
        )
    elif page["status"] != _OK:
        by = ", by a route of its own or what is before it" if is_own else ""
        by = by or f", by what is around it ({told['kind']})" * told["is_wrapped"]
        yield traps.PAGE_REFUSED.found(path=path, status=page["status"], by=by)
    elif page["is_ours"]:
        by = "" if told["is_instrumented"] else "under opentelemetry-instrument, "
        yield Fact(f"{by}GET {path} is answered with otel-coach's page")
    else:
        reason = page["type"] or "it has no content type"
        yield OWN_PAGE.found(path=path, reason=reason)
