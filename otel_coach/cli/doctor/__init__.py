"""Look for everything that prevents a service from being measured, with what mends it.

In the service's environment it looks at variables, exporters, back ends, dependencies and prices;
with the service's command, also at the application; with --url, at the page of a running service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor import (
    activation,
    application,
    assumptions,
    back_ends,
    content,
    dependencies,
    page,
    pricing,
    report,
    service,
    start,
    tracing,
    variables,
)
from otel_coach.cli.doctor.command_line import environment_of
from otel_coach.cli.doctor.examined import Examined, Fact
from otel_coach.cli.doctor.traps.environment import LOOK_FAILED
from otel_coach.configuration.process import process_environment, replaced_environment
from otel_coach.core.traps import Finding
from otel_coach.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_SUBJECTS: Final[Mapping[str, Callable[[Examined], Iterator[Finding | Fact]]]] = {
    "switches and distros": activation.look,
    "variables": variables.look,
    "the page": page.look,
    "traces": tracing.look,
    "OTLP back ends": back_ends.look,
    "content": content.look,
    "prices": pricing.look,
    "dependencies": dependencies.look,
    "libraries": assumptions.look,
}
EXAMPLES: Final = """\
  otel-coach doctor                                        in the environment of the service
  otel-coach doctor -- uvicorn app:app --port 8000         imports the application, without serving
  otel-coach doctor --url http://localhost:8000/metrics    the page of a running service
  otel-coach doctor --json | jq '.findings[].cure'

The exit code is 0 if nothing stands in the way. docs/doctor.md lists all that it finds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--url URL`, `--json` and the command."""
    parser.usage = "otel-coach doctor [-h] [--url URL] [--json] [-- COMMAND ...]"
    parser.add_argument(
        "--url",
        help="the metrics page of a running service; OTEL_COACH_METRICS_TOKEN is sent there",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "served", nargs="*", metavar="COMMAND", help="the command that serves the application"
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 if there is something to mend."""
    command: Sequence[str] = arguments.served
    environment = environment_of(command, process_environment())
    with replaced_environment(environment):  # for what libraries read there, such as proxies
        results = diagnosed(environment, command=command, url=arguments.url)
    (report.print_json if arguments.json else report.print_text)(results)
    return report.exit_code(results)


def diagnosed(
    environment: Mapping[str, str],
    *,
    command: Sequence[str] = (),
    url: str | None = None,
    starts: bool = True,
) -> dict[str, list[Finding | Fact]]:
    """Returns what is found in `environment`, about `command`, and on the page at `url`.

    The results are by subject; a result that several looks yield appears once. Unless `starts` is
    false, or otel-coach is disabled, it is also started in another process, which takes a second.
    """
    examined = Examined(Settings.from_env(environment), environment)
    results: dict[str, list[Finding | Fact]] = {}
    known = set[Finding | Fact]()
    looks = {name: look(examined) for name, look in _SUBJECTS.items()}
    if starts and examined.settings.enabled:
        looks["the start"] = start.look(examined, known)
    if command:
        if examined.settings.content_redactor is not None:
            del looks["content"]  # `application` looks for the redactor where the command does
        looks["the application"] = application.look(examined, command, known)
    if url is not None:
        looks["the running service"] = service.look(examined, url)
    for subject, look in looks.items():
        results[subject] = [one for one in _all(subject, look) if one not in known]
        known.update(results[subject])
    return results


def _all(subject: str, look: Iterable[Finding | Fact]) -> Iterator[Finding | Fact]:
    """Yields the results of one look; if it fails, that is a finding, and the others go on."""
    try:
        yield from look
    except Exception as error:  # noqa: BLE001 - it reads what others wrote, and runs their code
        yield LOOK_FAILED.found(subject=subject, reason=type(error).__name__)
