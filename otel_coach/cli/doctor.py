"""Say what would be measured here, what stands in the way, and what a running service reports."""

from __future__ import annotations

import logging
import urllib.request
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from time import perf_counter
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

import otel_coach
from otel_coach.catalogue import ERRORS, LABEL_OVERFLOW, LLM_UNMEASURED, LOST
from otel_coach.compatibility import PARTS
from otel_coach.instrumentors.dependencies.probes import UnknownAddressError, probe_of
from otel_coach.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterator

_FRAMEWORKS: Final = ("fastapi", "starlette", "langchain-core", "langgraph", "psycopg", "slowapi")
_TIMEOUT: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--url", help="of a running service's metrics page")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 1 if there is something to mend."""
    settings = Settings.from_env()
    findings = [*settings.problems, *_missing_exporters(settings), *_dead_dependencies(settings)]
    for line in (*_state(settings), *_relied_on()):
        print(line)
    if arguments.url is not None:
        findings.extend(_reported(arguments.url))
    for finding in findings:
        print(f"to mend: {finding}")
    if not findings:
        print("nothing to mend")
    return 1 if findings else 0


def _state(settings: Settings) -> Iterator[str]:
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
    """The private parts of other libraries, tried here and now."""
    for part in PARTS:
        if not part.is_there:
            continue
        with _silent():  # a library that is not as it was may have much to say
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
            if name == "otlp" and not any(one.startswith("otlp") for one in known):
                yield f"no OTLP exporter for {signal}: pip install 'otel-coach[otlp]'"
            elif name not in {"otlp", "prometheus"} and name not in known:
                yield f"no exporter {name!r} for {signal}; known are {', '.join(sorted(known))}"


def _dead_dependencies(settings: Settings) -> Iterator[str]:
    for name, address in settings.dependencies.items():
        started = perf_counter()
        try:
            probe_of(address)(settings.dependency_timeout)
        except UnknownAddressError as error:
            yield f"dependency {name} {error}"
        except Exception as error:  # noqa: BLE001 - whatever it raises, the dependency is down
            yield f"dependency {name} does not answer ({type(error).__name__})"
        else:
            print(f"dependency {name} answers in {1000 * (perf_counter() - started):.0f} ms")


def _reported(url: str) -> Iterator[str]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - the user's URL
            text = answer.read().decode()
    except (OSError, ValueError) as error:
        yield f"{url} does not answer ({error}); is the service running, and is this its page?"
        return
    cures = {
        LABEL_OVERFLOW.prometheus_name: "raise OTEL_COACH_BUDGET_..., or find what makes values up",
        ERRORS.prometheus_name: "a fault of otel-coach's own; its log has the place, please report",
        LOST.prometheus_name: "spans_queue_full: more is made than the back end takes, sample "
        "fewer (OTEL_TRACES_SAMPLER); else the back end refuses, is away or too slow: its log, or "
        "OTEL_EXPORTER_OTLP_...",
        LLM_UNMEASURED.prometheus_name: "no_usage: let the model report usage (stream_usage=True); "
        "no_price: add the model to OTEL_COACH_PRICES",
    }
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in cures and sample.value:
                labels = " ".join(f"{key}={value}" for key, value in sample.labels.items())
                yield f"{sample.name} {labels}: {sample.value:g} ({cures[sample.name]})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
