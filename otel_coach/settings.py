"""Every setting of ours, read from the environment in one place.

The SDK reads the OTEL_* variables that are its own (sampler, batch processor, resource, OTLP
endpoints and headers); here stand only those that decide what we build.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_coach.admitted import admitted_labels
from otel_coach.environment_variables import (
    OTEL_COACH_ADMIT_LABELS,
    OTEL_COACH_TRUST_INCOMING,
    SWITCHES,
    is_true,
)
from otel_coach.log_settings import is_by_distro, log_settings
from otel_coach.otel_variables import without_effect
from otel_coach.setting_values import (
    capture_mode,
    characters,
    count,
    path,
    patterns,
    places,
    port,
    seconds,
    server_spans,
    words,
)
from otel_coach.trust import Trust, trust_of
from otel_coach.vocabulary import DEFAULT_BUDGETS, DEFAULT_SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger = logging.getLogger("otel_coach")
_T = TypeVar("_T")
_NAME: Final = re.compile(r"[\w.-]+")
_BETWEEN_DEPENDENCIES: Final = re.compile(
    r",(?=\s*[\w.-]+\s*=\s*(?:env:|[A-Za-z][A-Za-z0-9+.-]*://)|\s*$)"
)
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_COMPONENTS: Final = (
    *("OTEL_PYTHON_ID_GENERATOR", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    *(f"OTEL_PYTHON_{part}_CONFIGURATOR" for part in ("LOGGER", "METER", "TRACER")),
)
"""Variables that name parts of the SDK, or say more of one."""
DEFAULT_CREDENTIAL_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to build and how. Times are in seconds.

    `problems` holds one line for each variable that could not be used, with its cure; the
    default stands in for it.
    """

    enabled: bool = True
    trace_exporters: tuple[str, ...] = ()
    metric_exporters: tuple[str, ...] = ("prometheus",)
    otlp_traces_protocol: str = "http/protobuf"
    otlp_metrics_protocol: str = "http/protobuf"
    otlp_logs_protocol: str = "http/protobuf"
    metrics_path: str = "/metrics"
    metrics_host: str = "localhost"
    metrics_port: int | None = None
    """A port of its own for the page; None serves it inside the application."""
    metrics_token: str | None = field(default=None, repr=False)
    """Who scrapes must bear it (RFC 6750); None lets everybody in, an empty one nobody."""
    shares_figures: bool = True
    """Whether the workers of a service show one page."""
    shared_folder: str | None = None
    """Where the workers of a service share their figures; None finds a private place."""
    runtime_folder: str | None = None
    """Where the system wants a user's short-lived files (XDG base directories)."""
    prometheus_multiprocess: bool = False
    """Whether the application uses prometheus_client's multiprocess mode."""
    target_info: bool = False
    server_spans: str = "otel_coach"
    """Who makes the server spans: otel_coach, or fastapi, the stock instrumentation."""
    excluded_urls: str = ""
    """Regular expressions by comma; requests to such URLs are not traced."""
    span_attributes: frozenset[str] = frozenset()
    """Attributes that spans of others may carry beyond those that all may."""
    propagates_to_providers: bool = False
    """Whether a provider gets the trace context and the baggage of a user."""
    trust_incoming: Trust = field(default_factory=Trust)
    """Whose trace context and baggage are taken up."""
    disabled_instrumentations: frozenset[str] = frozenset()
    """Entry points that `instrument` leaves out, as the command does."""
    credential_headers: frozenset[str] = DEFAULT_CREDENTIAL_HEADERS
    budgets: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_SIZES))
    """How many values a label may take, and how many combinations and instruments there may be."""
    pinned: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Values by label that always have a place."""
    admitted: Mapping[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """Labels, and how many values each may take, by instrument that is not ours."""
    captures_on_spans: bool = False
    """Whether chat and tool spans say what was said."""
    captures_on_events: bool = False
    """Whether events say so."""
    content_limit: int = 10_000
    """Characters of content in one attribute."""
    content_redactor: str | None = None
    """`module:function` that is given each text before it leaves, and returns what may leave."""
    log_exporters: tuple[str, ...] = ()
    """Where log records and events go."""
    span_queue: int = 2048
    """How many spans wait for each exporter before further ones are dropped."""
    log_queue: int = 2048
    """How many log records do."""
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    """Parts of the SDK that other packages bring (samplers, id generators), by variable."""
    exports_logs: bool = False
    """Whether the application's own log records go there."""
    handles_logging: bool = False
    """Whether a handler at the root logger hands the records of `logging` over."""
    prices_file: str | None = None
    dependencies: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Addresses to probe, by the name they are known under. They can hold passwords."""
    dependency_interval: float = 15.0
    dependency_timeout: float = 5.0
    config_file: str | None = None
    """OpenTelemetry's declarative configuration."""
    problems: tuple[str, ...] = ()
    without_effect: tuple[str, ...] = ()
    """One line for each variable of OpenTelemetry that changes nothing here."""

    @property
    def serves_metrics(self) -> bool:
        """Whether there is a page for Prometheus at all."""
        return "prometheus" in self.metric_exporters

    def disables(self, instrumentation: str) -> bool:
        """Whether the instrumentation of that entry point is left out; `*` means all."""
        return not {instrumentation, "*"}.isdisjoint(self.disabled_instrumentations)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment (or `environ`). Never raises: see `problems`."""
        return _Environment(os.environ if environ is None else environ).settings()

    def log_problems(self) -> None:
        """Write one line for each setting that could not be used."""
        for problem in self.problems:
            _logger.error("otel-coach: %s", problem)
        for line in self.without_effect:
            _logger.warning("otel-coach: %s", line)


class _Environment:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def settings(self) -> Settings:
        interval = self._read("OTEL_COACH_DEPENDENCY_INTERVAL", 15.0, seconds)
        timeout = self._read("OTEL_COACH_DEPENDENCY_TIMEOUT", 5.0, seconds)
        return Settings(
            enabled=sum(self._flag(name) for name in SWITCHES) == 0,
            trace_exporters=self._trace_exporters(),
            metric_exporters=self._metric_exporters(),
            otlp_traces_protocol=self._protocol("TRACES"),
            otlp_metrics_protocol=self._protocol("METRICS"),
            otlp_logs_protocol=self._protocol("LOGS"),
            metrics_path=self._read("OTEL_COACH_METRICS_PATH", "/metrics", path),
            metrics_host=self._text("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost",
            metrics_port=self._metrics_port(),
            metrics_token=self._token("OTEL_COACH_METRICS_TOKEN"),
            shared_folder=self._text("OTEL_COACH_SHARED_DIR") or None,
            runtime_folder=self._text("XDG_RUNTIME_DIR") or None,
            prometheus_multiprocess=bool(
                self._text("PROMETHEUS_MULTIPROC_DIR") or self._text("prometheus_multiproc_dir")
            ),
            target_info=self._flag("OTEL_COACH_TARGET_INFO"),
            server_spans=self._read("OTEL_COACH_SERVER_SPANS", "otel_coach", server_spans),
            components={name: self._text(name) for name in _COMPONENTS if self._text(name)},
            excluded_urls=self._read("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "", patterns)
            or self._read("OTEL_PYTHON_EXCLUDED_URLS", "", patterns),
            span_attributes=frozenset(words(self._text("OTEL_COACH_SPAN_ATTRIBUTES"))),
            propagates_to_providers=self._flag("OTEL_COACH_PROPAGATE_TO_PROVIDERS"),
            trust_incoming=trust_of(self._text(OTEL_COACH_TRUST_INCOMING), self._problems),
            disabled_instrumentations=frozenset(
                words(self._text("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"))
            ),
            credential_headers=frozenset(
                word.lower() for word in words(self._text("OTEL_COACH_CREDENTIAL_HEADERS"))
            )
            or DEFAULT_CREDENTIAL_HEADERS,
            budgets={
                label: self._read(f"OTEL_COACH_BUDGET_{label.upper()}", budget, count)
                for label, budget in DEFAULT_SIZES.items()
            },
            pinned={
                label: values
                for label in DEFAULT_BUDGETS
                if (values := words(self._text(pinned_variable(label))))
            },
            admitted=admitted_labels(words(self._text(OTEL_COACH_ADMIT_LABELS)), self._problems),
            **(content := self._content()),
            **self._logs(for_events=content["captures_on_events"]),
            span_queue=self._read("OTEL_BSP_MAX_QUEUE_SIZE", 2048, places),
            log_queue=self._read("OTEL_BLRP_MAX_QUEUE_SIZE", 2048, places),
            prices_file=self._text("OTEL_COACH_PRICES") or None,
            dependencies=self._dependencies(),
            dependency_interval=interval,
            dependency_timeout=timeout,
            config_file=self._text("OTEL_CONFIG_FILE")
            or self._text("OTEL_EXPERIMENTAL_CONFIG_FILE")
            or None,
            problems=tuple(self._problems),
            without_effect=tuple(without_effect(self._environ)),
        )

    def _text(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def _flag(self, name: str) -> bool:
        text = self._text(name).lower()
        if text not in {"", "true", "false", "1", "0"}:
            self._problems.append(f"{name}={text!r} is neither true nor false; it counts as false")
        return is_true(text)

    def _read(self, name: str, default: _T, parse: Callable[[str], _T]) -> _T:
        text = self._text(name)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self._problems.append(f"{name}={text!r} {error}; {default!r} is used")
            return default

    def _trace_exporters(self) -> tuple[str, ...]:
        by_endpoint = "otlp" if self._has_endpoint("TRACES") else "none"
        text = self._text("OTEL_TRACES_EXPORTER")
        return words(by_endpoint if not text or is_by_distro(text) else text)

    def _metric_exporters(self) -> tuple[str, ...]:
        text = self._text("OTEL_METRICS_EXPORTER")
        if is_by_distro(text):
            text = "prometheus,otlp" if self._has_endpoint("METRICS") else ""
        return words(text or "prometheus")

    def _has_endpoint(self, signal: str) -> bool:
        return bool(
            self._text("OTEL_EXPORTER_OTLP_ENDPOINT")
            or self._text(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        )

    def _protocol(self, signal: str) -> str:
        return (
            self._text(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
            or self._text("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )

    def _metrics_port(self) -> int | None:
        if not self._text("OTEL_EXPORTER_PROMETHEUS_PORT"):
            return 9464 if self._text("OTEL_EXPORTER_PROMETHEUS_HOST") else None
        return self._read("OTEL_EXPORTER_PROMETHEUS_PORT", None, port)

    def _token(self, name: str) -> str | None:
        """None where the variable is not there; empty where it is and says nothing.

        Whoever sets it wants the page closed: an empty Secret or file must not open it.
        """
        if self._environ.get(name) is None:
            return None
        if not (token := self._text(name)):
            self._problems.append(
                f"{name} is set, but empty: nobody is let in to the page, each scrape is answered "
                "with 401. Give it a value (openssl rand -hex 32), or unset it to let everybody in"
            )
        return token

    def _content(self) -> dict[str, Any]:
        mode = self._read(_CAPTURE, "NO_CONTENT", capture_mode)
        return {
            "captures_on_spans": mode in {"SPAN_ONLY", "SPAN_AND_EVENT"},
            "captures_on_events": mode in {"EVENT_ONLY", "SPAN_AND_EVENT"},
            "content_limit": self._read("OTEL_COACH_CONTENT_LIMIT", 10_000, characters),
            "content_redactor": self._text("OTEL_COACH_CONTENT_REDACTOR") or None,
        }

    def _logs(self, *, for_events: bool) -> dict[str, Any]:
        text = self._text("OTEL_LOGS_EXPORTER")
        stated = None if not text or is_by_distro(text) else words(text)
        return log_settings(
            self._text,
            stated,
            has_endpoint=self._has_endpoint("LOGS"),
            disabled=words(self._text("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")),
            for_events=for_events,
        )

    def _dependencies(self) -> dict[str, str]:
        variable = "OTEL_COACH_DEPENDENCIES"
        addresses: dict[str, str] = {}
        # A comma may also stand in a password, or between the hosts of one address.
        entries = re.split(_BETWEEN_DEPENDENCIES, self._text(variable))
        for position, entry in enumerate(filter(None, map(str.strip, entries)), start=1):
            name, separator, address = entry.partition("=")
            if not separator or not _NAME.fullmatch(name.strip()) or not address.strip():
                # It can hold a password, so it is not repeated.
                self._problems.append(
                    f"{variable}: entry {position} is not of the form name=address; left out"
                )
                continue
            address = address.strip()
            if address.startswith("env:"):
                other = address.removeprefix("env:").strip()
                if not other.isidentifier():
                    self._problems.append(
                        f"{variable}: entry {position} names no variable after env:; left out"
                    )
                    continue
                if not (address := self._text(other)):
                    self._problems.append(
                        f"{variable}: {name.strip()} is at env:{other}, and {other} is not set; "
                        "left out"
                    )
                    continue
            addresses[name.strip()] = address
        return addresses


def pinned_variable(label: str) -> str:
    """The variable that lists values of `label` which always have a place."""
    return f"OTEL_COACH_ALLOWED_{label.upper()}{'ES' if label.endswith('s') else 'S'}"
