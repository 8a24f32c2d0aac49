"""The OTEL_* variables that do not have their documented effect here, and what to do instead.

All others do; `test_otel_variables.py` has the complete list, and tests each of them.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.problem import Problem
from otel_coach.core.record import record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


@record
class WithoutEffect:
    """A variable that has no effect, or one that otel-coach does not want."""

    why: str
    """The reason, and what to do instead."""
    unless: Mapping[str, str] = field(default_factory=dict[str, str])
    """Settings: if each of them contains the text given here, the variable has an effect."""
    effect: str = "has no effect"


_HEADER_ATTRIBUTES: Final = {"span_attributes": "http.re"}
_SERVER_HEADERS: Final = WithoutEffect(
    "otel-coach's server spans carry no headers. Set OTEL_COACH_SERVER_SPANS=fastapi, and list the "
    "headers' attributes (http.request.header.x_tenant) in OTEL_COACH_SPAN_ATTRIBUTES",
    {"server_spans": "fastapi", **_HEADER_ATTRIBUTES},
)
_CLIENT_HEADERS: Final = WithoutEffect(
    "headers are removed from the spans of instrumentations. To keep one, list its attribute "
    "(http.request.header.x_tenant) in OTEL_COACH_SPAN_ATTRIBUTES",
    _HEADER_ATTRIBUTES,
)
_METHODS: Final = WithoutEffect(
    "the methods of RFC 9110, PATCH and QUERY keep their names; otel-coach counts all others as "
    "_OTHER, so that their number is bounded"
)
_NO_SUCH: Final = WithoutEffect("the OpenTelemetry SDK for Python does not read it")
_PROVIDER: Final = WithoutEffect(
    "OpenTelemetry makes the provider that it names the global one, so what the application gives "
    "to it is neither on otel-coach's page nor exported by otel-coach. Unset it",
    effect="bypasses otel-coach",
)

WITHOUT_EFFECT: Final[Mapping[str, WithoutEffect]] = {
    "OTEL_ENTITIES": _NO_SUCH,
    "OTEL_EXPORTER_OTLP_METRIC_INSECURE": WithoutEffect(
        "it is now called OTEL_EXPORTER_OTLP_METRICS_INSECURE"
    ),
    "OTEL_EXPORTER_OTLP_SPAN_INSECURE": WithoutEffect(
        "it is now called OTEL_EXPORTER_OTLP_TRACES_INSECURE"
    ),
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": _CLIENT_HEADERS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE": _CLIENT_HEADERS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": _SERVER_HEADERS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": _SERVER_HEADERS,
    "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": _METHODS,
    "OTEL_LOG_LEVEL": _NO_SUCH,
    "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS": _METHODS,
    "OTEL_PYTHON_EVENT_LOGGER_PROVIDER": _PROVIDER,
    "OTEL_PYTHON_LOGGER_PROVIDER": _PROVIDER,
    "OTEL_PYTHON_METER_PROVIDER": _PROVIDER,
    "OTEL_PYTHON_TRACER_PROVIDER": _PROVIDER,
}


def without_effect(environ: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields a problem for each variable in `environ` that has no effect with these `settings`."""
    for name, entry in WITHOUT_EFFECT.items():
        conditions = [
            any(text in value for value in _texts(settings.get(name_of_setting)))
            for name_of_setting, text in entry.unless.items()
        ]
        if environ.get(name, "").strip() and not (conditions and all(conditions)):
            yield Problem(name, f"{name} {entry.effect}: {entry.why}")


def _texts(value: str | Collection[str] | None) -> Collection[str]:
    return [value] if isinstance(value, str) else value or ()
