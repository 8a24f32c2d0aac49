"""What only the application itself tells: its routes, its own page, and what is around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli.doctor import fetch
from otel_coach.cli.doctor.command_line import CommandError, served
from otel_coach.cli.doctor.finding import Fact, found
from otel_coach.cli.doctor.traps import application as traps
from otel_coach.configuration.names import unknown_endpoints
from otel_coach.core.traps import OWN_PAGE, STOPPED_ENDPOINT
from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.metrics.labels import ENDPOINT
from otel_coach.metrics.series_bound import longest_line, most_series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.cli.doctor.command_line import Served
    from otel_coach.cli.doctor.finding import Examined, Finding

_CHILD: Final = "otel_coach.cli.doctor.child"
_LONGEST: Final = 90.0
"""Seconds for the import; LangChain alone takes several on a small machine."""
_OK: Final = 200


def look(examined: Examined, command: Sequence[str]) -> Iterator[Finding | Fact]:
    """Imports the application of `command`, without serving it, and yields what it says."""
    shown = " ".join(command)
    try:
        application = served(command)
    except CommandError as error:
        yield found(traps.COMMAND, command=shown, reason=error)
        return
    told = _told(examined, application)
    target = application.target or "the application"
    if "error" in told:
        yield found(traps.NOT_IMPORTED, target=target, reason=told["error"], command=shown)
    elif "routes" not in told:
        yield found(traps.NOT_WATCHED, target=target, kind=told["kind"])
    else:
        yield from _routes(examined, target, told)
        yield from _page(examined, told)


def _told(examined: Examined, application: Served) -> dict[str, Any]:
    """Returns what the child process says about the application."""
    with TemporaryDirectory(prefix="otel-coach-doctor-") as folder:
        result = Path(folder) / "result.json"
        arguments = [json.dumps(application.as_dict()), str(result)]
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, with a module of this package
                [sys.executable, "-m", _CHILD, *arguments],
                capture_output=True,
                check=False,
                env=dict(examined.variables),
                stdin=subprocess.DEVNULL,
                timeout=_LONGEST,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"its import takes longer than {_LONGEST:g} s"}
        if not result.exists():
            return {"error": f"the process ended with {done.returncode} while importing it"}
        return json.loads(result.read_text("utf-8"))


def _routes(examined: Examined, target: str, told: dict[str, Any]) -> Iterator[Finding | Fact]:
    routes: list[str] = told["routes"]
    budgets = examined.settings.budgets
    yield Fact(f"{target}: {told['kind']} with {len(routes)} routes")
    values = {**budgets, ENDPOINT: min(budgets[ENDPOINT], len(routes))}
    longest = max(map(len, routes), default=0)
    lines = {metric: most_series(metric, values) for metric in CATALOGUE}
    size = sum(count * longest_line(metric, longest) for metric, count in lines.items())
    yield Fact(
        f"the page has at most {sum(lines.values()):,} lines of otel-coach's, and "
        f"{max(1, round(size / 1e6)):,} MB, whatever is requested"
    )
    if len(routes) > budgets[ENDPOINT]:
        yield found(
            traps.MORE_ROUTES,
            routes=len(routes),
            budget=budgets[ENDPOINT],
            enough=len(routes) + len(routes) // 4,
        )
    if isinstance(stopped := examined.settings.stop_abandoned, frozenset):
        for values in unknown_endpoints(stopped, routes):
            yield found(STOPPED_ENDPOINT, **values)


def _page(examined: Examined, told: dict[str, Any]) -> Iterator[Finding | Fact]:
    path = examined.settings.metrics_path
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
        yield found(traps.PAGE_REFUSED, path=path, status=page["status"], by=by)
    elif fetch.is_ours(page["body"]):
        yield Fact(f"GET {path} is answered with otel-coach's page")
    else:
        reason = page["type"] or "it has no content type"
        yield found(OWN_PAGE, path=path, reason=reason)
