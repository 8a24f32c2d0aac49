"""Show what would be measured here, what prevents it, and what a running service reports."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from time import perf_counter
from typing import TYPE_CHECKING, Final

import otel_coach
from otel_coach.cli.service_page import LONGEST, PageError, findings, shown
from otel_coach.cli.terminal import say, within
from otel_coach.core.compatibility import PARTS
from otel_coach.instrumentors.dependencies.probes import UnknownAddressError, probe_of
from otel_coach.settings import EffectiveSettings, Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterator

_FRAMEWORKS: Final = ("fastapi", "starlette", "langchain-core", "langgraph", "psycopg", "slowapi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--url URL`."""
    parser.add_argument(
        "--url",
        help="the metrics page of a running service; OTEL_COACH_METRICS_TOKEN is sent there",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 if there is something to mend."""
    settings = Settings.from_env()
    to_mend = [*settings.problems, *_missing_exporters(settings), *_dead_dependencies(settings)]
    for line in (*_state(settings), *_relied_on()):
        say(line)
    if arguments.url is not None:
        to_mend.extend(_reported(arguments.url, settings.metrics_token))
    for finding in to_mend:
        say(f"to mend: {finding}")
    if not to_mend:
        say("nothing to mend")
    return 1 if to_mend else 0


def _state(settings: EffectiveSettings) -> Iterator[str]:
    yield f"otel-coach {otel_coach.__version__}"
    if not settings.enabled:
        yield "disabled by OTEL_COACH_DISABLED or OTEL_SDK_DISABLED"
    yield from settings.without_effect
    for name in _FRAMEWORKS:
        yield f"{name} {_version(name) or 'is not installed: nothing of it is measured'}"
    if settings.serves_metrics:
        port = settings.metrics_port
        where = "in the application" if port is None else f"on {settings.metrics_host}:{port}"
        yield f"metrics: {settings.metrics_path} {where}"
    yield f"traces: {', '.join(settings.trace_exporters) or 'nowhere (no OTLP endpoint is set)'}"


def _relied_on() -> Iterator[str]:
    """Yields one line for each private part of another library: whether it works as expected."""
    for part in PARTS:
        if not part.is_there:
            continue
        with _silent():  # a library that has changed may log warnings
            holds = part.holds()
        yield f"relied on: {part.name}: " + ("yes" if holds else f"NO, so {part.lost}")


@contextmanager
def _silent() -> Generator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _missing_exporters(settings: Settings) -> Iterator[str]:
    groups = (
        ("traces", settings.trace_exporters),
        ("metrics", settings.metric_exporters),
        ("logs", settings.log_exporters),
    )
    for signal, names in groups:
        known = {
            entry_point.name
            for entry_point in entry_points(group=f"opentelemetry_{signal}_exporter")
        }
        for name in names:
            if name == "otlp" and not any(exporter.startswith("otlp") for exporter in known):
                yield f"no OTLP exporter for {signal}: pip install 'otel-coach[otlp]'"
            elif name not in {"otlp", "prometheus"} and name not in known:
                yield f"no exporter {name!r} for {signal}; known are {', '.join(sorted(known))}"


def _dead_dependencies(settings: Settings) -> Iterator[str]:
    for name, address in settings.dependencies.items():
        started = perf_counter()
        try:
            _probe(address, settings.dependency_timeout)
        except UnknownAddressError as error:
            yield f"dependency {name} {error}"
        except Exception as error:  # noqa: BLE001 - whatever a probe raises, the dependency is down
            yield f"dependency {name} does not answer ({type(error).__name__})"
        else:
            say(f"dependency {name} answers in {1000 * (perf_counter() - started):.0f} ms")


def _probe(address: str, timeout: float) -> None:
    probe = probe_of(address)
    # A probe limits the time of each step only; a server that sends slowly causes many steps.
    within(timeout + 1, lambda: probe(timeout))


def _reported(url: str, token: str | None) -> list[str]:
    try:
        return within(LONGEST, lambda: list(findings(url, token)))
    except PageError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001 - an untrusted answer may make a parser raise anything
        why = error.strerror if isinstance(error, OSError) else None
        why = why or type(error).__name__
        if isinstance(error, TimeoutError):
            why = f"it was not read completely within {LONGEST:g} s"
        return [f"{shown(url)} cannot be read ({why}); is the service running, is this its page?"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
