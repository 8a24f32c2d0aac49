"""What a service says when it starts: what is measured, and where it can be seen."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import otel_coach
from otel_coach.configuration.otlp_endpoints import endpoint_of, host_of
from otel_coach.core.plugins import exporter_component, has_exporter
from otel_coach.core.urls import host_in_url
from otel_coach.instrumentors import ANTHROPIC, ASGI, DEPENDENCIES, LANGCHAIN, OPENAI, PSYCOPG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.settings import EffectiveSettings

_LIBRARIES: Final = (
    ("fastapi", "FastAPI", "fastapi", ASGI),
    ("starlette", "Starlette", "starlette", ASGI),
    ("langchain_core", "LangChain", "langchain-core", LANGCHAIN),
    ("openai", "openai", "openai", OPENAI),
    ("anthropic", "anthropic", "anthropic", ANTHROPIC),
    ("psycopg", "psycopg", "psycopg", PSYCOPG),
)
"""Module, name, distribution and entry point of what is watched."""


def start_line(
    settings: EffectiveSettings,
    variables: Mapping[str, str],
    *,
    has_port: bool = True,
    vendors: Sequence[str] = (),
) -> str:
    """Returns the line that a serving process says once.

    `variables` are those that the exporters read when otel-coach started. `has_port` is false if
    the page's own port could not be opened, which is logged separately. `vendors` send the traces,
    if there are any.
    """
    return (
        f"version {otel_coach.__version__}: {_metrics(settings, variables, has_port=has_port)}; "
        f"{_traces(settings, variables, vendors)}; "
        f"watching {', '.join(_watched(settings)) or 'nothing'}. "
        "`otel-coach doctor` looks for mistakes, OTEL_COACH_QUIET=true hides this line"
    )


def _metrics(settings: EffectiveSettings, variables: Mapping[str, str], *, has_port: bool) -> str:
    places: list[str] = []
    if settings.serves_metrics and (has_port or settings.metrics_port is None):
        places.append(_page(settings))
    pushed = [name for name in settings.metric_exporters if name != "prometheus"]
    places += _places("metrics", pushed, settings.otlp_metrics_protocol, variables)
    return f"metrics {' and '.join(places)}" if places else "no metrics"


def _page(settings: EffectiveSettings) -> str:
    path, port = settings.metrics_path, settings.metrics_port
    if port is None:
        return f"at {path}"
    if port == 0:  # the system chooses it, and `own_port.serve` names it
        return f"at {path} on a free port, which another line names"
    return f"at http://{host_in_url(settings.metrics_host)}:{port}{path}"


def _traces(
    settings: EffectiveSettings, variables: Mapping[str, str], vendors: Sequence[str]
) -> str:
    if vendors:
        return f"traces as {' and '.join(vendors)} sends them"
    if settings.config_file is not None:
        return "traces as OTEL_CONFIG_FILE says"
    places = _places("traces", settings.trace_exporters, settings.otlp_traces_protocol, variables)
    return f"traces {' and '.join(places)}" if places else "no traces"


def _places(
    signal: str, names: Iterable[str], protocol: str, variables: Mapping[str, str]
) -> list[str]:
    """Returns where the signal's exporters of these `names` send, if they are installed."""
    return [
        _sent_to(signal, protocol, variables) if name == "otlp" else f"to {name}"
        for name in names
        if has_exporter(signal, exporter_component(name, protocol))
    ]


def _sent_to(signal: str, protocol: str, variables: Mapping[str, str]) -> str:
    return f"to {host_of(endpoint_of(signal, protocol, variables))}"


def _watched(settings: EffectiveSettings) -> Iterator[str]:
    """Yields what is imported and watched, and the dependencies that are probed or checked."""
    named = set[str]()
    for module, name, distribution, entry in _LIBRARIES:
        is_known = entry == ASGI and ASGI in named  # FastAPI is built on Starlette
        if module in sys.modules and not is_known and not settings.disables(entry):
            named.add(entry)
            yield f"{name} {_version(distribution)}".rstrip()
    count = len({*settings.dependencies, *_checked()})
    if count and not settings.disables(DEPENDENCIES):
        yield f"{count} {'dependency' if count == 1 else 'dependencies'}"


def _checked() -> Iterable[str]:
    """Returns the dependencies that the application checks itself, as far as it has told."""
    module = sys.modules.get("otel_coach.instrumentors.dependencies.watch")
    return () if module is None else module.decorated


def _version(distribution: str) -> str:
    """Returns the first two numbers of the version, "" if it is unknown."""
    try:
        return ".".join(version(distribution).split(".")[:2])
    except PackageNotFoundError:
        return ""
