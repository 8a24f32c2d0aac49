"""All settings of otel-coach, with their variables, defaults and meanings.

The OpenTelemetry SDK itself reads the OTEL_* variables for its sampler, batch processors, resource
and OTLP endpoints and headers. This module has those that decide what otel-coach builds.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from collections.abc import Mapping  # noqa: TC003 - named by the fields
from dataclasses import dataclass, field
from typing import Final, Self

from otel_coach.configuration import environment_variables as variables
from otel_coach.configuration.environment import CAPTURE, Environment
from otel_coach.configuration.kinds import (
    ADDRESS,
    CHARACTERS,
    COUNT,
    FILE,
    FOLDER,
    FUNCTION,
    HOST,
    PATH,
    PLACES,
    PORT,
    ByName,
    Choice,
    Exporters,
    Flag,
    Names,
    Optional,
    Patterns,
    Seconds,
    Text,
)
from otel_coach.configuration.setting import checked, setting, settings_of
from otel_coach.configuration.trust import Trust, TrustKind
from otel_coach.metrics.labels import DEFAULT_BUDGETS, DEFAULT_SIZES

_logger = logging.getLogger("otel_coach")

DEFAULT_CREDENTIAL_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"}
)
_PROTOCOL: Final = Choice(("http/protobuf", "grpc"))
_HEADER: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""A token of RFC 9110, section 5.6.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What otel-coach builds and how. Times are in seconds.

    `Settings.from_env()` reads the environment; `Settings(metrics_path="/internal")` sets a field
    in code. docs/configuration.md lists all fields. A mapping changes only the names that it
    contains: `Settings(budgets={"model": 50})` changes one budget.

    Raises:
        ValueError: A value has the wrong type or cannot be used; the message names each such field
            and its variable.
        TypeError: There is no field of that name; the message suggests the nearest name.
    """

    enabled: bool = setting(
        variables.SWITCHES,
        Flag(),
        "Whether otel-coach does anything. If disabled, none of it is imported or on the "
        "application's request path. The variables have the opposite sense: `true` disables it.",
        default=True,
        default_text="`false`",
        is_read_apart=True,
    )
    trace_exporters: tuple[str, ...] = setting(
        "OTEL_TRACES_EXPORTER",
        Exporters("traces"),
        "Where spans are exported to: `otlp`, `console`, `none`; several separated by commas.",
        default=(),
        default_text="`otlp` with an endpoint, else `none`",
        is_read_apart=True,
    )
    metric_exporters: tuple[str, ...] = setting(
        "OTEL_METRICS_EXPORTER",
        Exporters("metrics", frozenset({"prometheus"})),
        "Where metrics go: `prometheus` (the page), `otlp`, `none`; several separated by commas.",
        default=("prometheus",),
        is_read_apart=True,
    )
    log_exporters: tuple[str, ...] = setting(
        "OTEL_LOGS_EXPORTER",
        Exporters("logs"),
        "Where log records and events of captured content are exported to. The application's own "
        "records are exported if a logging handler collects them: "
        "`OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED=true`, or "
        "opentelemetry-instrumentation-logging with its `OTEL_PYTHON_LOG_*`.",
        default=(),
        default_text="`otlp` with an endpoint, else `none`",
        is_read_apart=True,
    )
    otlp_traces_protocol: str = setting(
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        _PROTOCOL,
        "How spans are sent: `http/protobuf` or `grpc`.",
        default="http/protobuf",
    )
    otlp_metrics_protocol: str = setting(
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        _PROTOCOL,
        "How metrics are sent.",
        default="http/protobuf",
    )
    otlp_logs_protocol: str = setting(
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        _PROTOCOL,
        "How log records are sent.",
        default="http/protobuf",
    )
    metrics_path: str = setting(
        variables.OTEL_COACH_METRICS_PATH,
        PATH,
        "The path of the metrics page in the application. With a port of its own, the page is at "
        "this path as well as at `/metrics`.",
        default="/metrics",
    )
    metrics_host: str = setting(
        "OTEL_EXPORTER_PROMETHEUS_HOST",
        HOST,
        "Serves the page on a port of its own, at this address. `localhost` can be reached from "
        "this machine only.",
        default="localhost",
    )
    metrics_port: int | None = setting(
        "OTEL_EXPORTER_PROMETHEUS_PORT",
        Optional(PORT),
        "Serves the page on this port instead of in the application.",
        default=None,
        default_text="`9464` with a host, else none",
        is_read_apart=True,
    )
    metrics_token: str | None = setting(
        variables.OTEL_COACH_METRICS_TOKEN,
        Optional(Text("a token", ".*")),
        "Only requests with `Authorization: Bearer TOKEN` get the page (RFC 6750). If it is set "
        "but empty, no request does.",
        default=None,
        is_secret=True,
        is_read_apart=True,
    )
    shared_folder: str | None = setting(
        variables.OTEL_COACH_SHARED_DIR,
        Optional(FOLDER),
        "The folder in which workers share their metrics. It must be private to the user, and no "
        "other user may be able to write to its parent folders.",
        default=None,
        default_text="`$XDG_RUNTIME_DIR/otel-coach`, or in the first temporary folder with space",
    )
    target_info: bool = setting(
        variables.OTEL_COACH_TARGET_INFO, Flag(), "Shows `target_info` on the page.", default=False
    )
    server_spans: str = setting(
        variables.OTEL_COACH_SERVER_SPANS,
        Choice(("otel_coach", "fastapi")),
        "What creates the server spans: otel-coach, or opentelemetry-instrumentation-fastapi "
        "(`fastapi`).",
        default="otel_coach",
    )
    excluded_urls: str = setting(
        ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"),
        Patterns(),
        "Regular expressions separated by commas; requests for matching URLs are not traced.",
        default="",
    )
    span_attributes: frozenset[str] = setting(
        variables.OTEL_COACH_SPAN_ATTRIBUTES,
        Names("an attribute's name", frozenset, r"[\w.*/-]+"),
        "Further attributes that are kept on the spans of other instrumentations.",
        default=frozenset(),
    )
    propagates_to_providers: bool = setting(
        variables.OTEL_COACH_PROPAGATE_TO_PROVIDERS,
        Flag(),
        "Sends `traceparent` and `baggage` to model providers too, for example to your own gateway "
        "if it is traced.",
        default=False,
    )
    trust_incoming: Trust | bool | str = setting(  # noqa: RUF009 - a field
        variables.OTEL_COACH_TRUST_INCOMING,
        TrustKind(),
        "The callers from which trace context and baggage are accepted: `true` (all), `false` "
        "(none), or a list of addresses and networks of the connection's peer, which may end with "
        "a header and the secret that a gateway sends in it: "
        "`10.0.0.0/8,header:X-Gateway-Secret=...`. With an invalid value no caller is trusted.",
        factory=Trust,
        default_text="`true`",
        is_secret=True,
        is_read_apart=True,
    )
    disabled_instrumentations: frozenset[str] = setting(
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        Names("an entry point's name", frozenset, r"[\w.*-]+"),
        "Entry points of the instrumentations that are not loaded; `*` for all.",
        default=frozenset(),
    )
    credential_headers: frozenset[str] = setting(
        variables.OTEL_COACH_CREDENTIAL_HEADERS,
        Names("a header's name", frozenset, _HEADER),
        "Request headers that count as credentials, in addition to those of the route's own "
        "security schemes.",
        default=DEFAULT_CREDENTIAL_HEADERS,
    )
    budgets: Mapping[str, int] = setting(
        "OTEL_COACH_BUDGET_*",
        ByName("a label or limit", COUNT, DEFAULT_SIZES, DEFAULT_SIZES),
        "How many values a label may take (`OTEL_COACH_BUDGET_MODEL`, `_ENDPOINT` ...), how many "
        "combinations a metric may have (`_LABEL_SET`), and how many instruments and lines of the "
        "page the application's own meters get (`_INSTRUMENT`, `_INSTRUMENT_LINES`).",
        factory=lambda: dict(DEFAULT_SIZES),
        default_text="see docs/metrics.md",
        is_read_apart=True,
    )
    pinned: Mapping[str, tuple[str, ...]] = setting(
        "OTEL_COACH_ALLOWED_*",
        ByName("a label", Names("a value", tuple, r"(?s).+"), DEFAULT_BUDGETS),
        "Values that always keep their own name; they take slots of the label's budget "
        "(`OTEL_COACH_ALLOWED_MODELS`, `_ENDPOINTS` ...). Separated by commas.",
        factory=dict,
        is_read_apart=True,
    )
    admitted: Mapping[str, Mapping[str, int]] = setting(
        variables.OTEL_COACH_ADMIT_LABELS,
        ByName("an instrument's name", ByName("a label", COUNT)),
        "Labels to keep on the application's own instruments: "
        "`jobs.done:queue,jobs.done:region:100`. The number is the label's budget.",
        factory=dict,
        is_read_apart=True,
    )
    captures_on_spans: bool = setting(
        CAPTURE,
        Flag(),
        "`SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT` captures prompts and answers on spans, as "
        "events (`OTEL_LOGS_EXPORTER`), or both.",
        default=False,
        default_text="`NO_CONTENT`",
        is_read_apart=True,
    )
    captures_on_events: bool = setting(
        CAPTURE,
        Flag(),
        "As above, for events.",
        default=False,
        default_text="`NO_CONTENT`",
        is_read_apart=True,
    )
    content_limit: int = setting(
        variables.OTEL_COACH_CONTENT_LIMIT,
        CHARACTERS,
        "The maximum length of captured content in one attribute, in characters.",
        default=10_000,
    )
    content_redactor: str | None = setting(
        variables.OTEL_COACH_CONTENT_REDACTOR,
        Optional(FUNCTION),
        "A function, as `module:function`, that is called with each captured text and returns the "
        "text to export. If it is invalid, no content is captured.",
        default=None,
        is_read_apart=True,
    )
    span_queue: int = setting(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        PLACES,
        "How many spans may wait for each exporter; further ones are dropped.",
        default=2048,
    )
    log_queue: int = setting(
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        PLACES,
        "How many log records may wait for each exporter; further ones are dropped.",
        default=2048,
    )
    prices_file: str | None = setting(
        variables.OTEL_COACH_PRICES,
        Optional(FILE),
        'A JSON or TOML file: `{"my-model": {"input_mtok": 1.0, "output_mtok": 2.0}}`, in US '
        "dollars per million tokens; optionally `cache_read_mtok`, `cache_write_mtok`, "
        "`cache_write_1h_mtok`. It takes precedence over the built-in list (5 MB), which is loaded "
        "only when a model is used that the file lacks.",
        default=None,
    )
    dependencies: Mapping[str, str] = setting(
        variables.OTEL_COACH_DEPENDENCIES,
        ByName("a name", ADDRESS, hides_values=True),
        "The dependencies to probe: `postgres_django=env:DATABASE_URL,cache=redis://h:6379`; also "
        "`http(s)://` and `tcp://host:port`.",
        factory=dict,
        is_secret=True,
        is_read_apart=True,
    )
    dependency_interval: float = setting(
        variables.OTEL_COACH_DEPENDENCY_INTERVAL,
        Seconds(),
        "Seconds between two probes of a dependency.",
        default=15.0,
    )
    dependency_timeout: float = setting(
        variables.OTEL_COACH_DEPENDENCY_TIMEOUT,
        Seconds(),
        "Seconds that one probe may take.",
        default=5.0,
    )
    config_file: str | None = setting(
        ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"),
        Optional(Text("a path")),
        "OpenTelemetry's declarative configuration "
        "(`pip install 'opentelemetry-sdk[file-configuration]'`): its providers become the global "
        "ones, its processors export otel-coach's spans, otel-coach's metrics are on the page "
        "only, and the variables that choose exporters are not read.",
        default=None,
    )

    def __new__(cls, **values: object) -> Self:
        """Rejects keyword arguments that are not fields."""
        known = {known_field.name for known_field in dataclasses.fields(cls)}
        for name in values.keys() - known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; perhaps {close[0]} is meant" if close else ""
            message = f"{cls.__name__} has no field {name}{hint}"
            raise TypeError(message)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Checks each value, and adds the defaults for names that a mapping does not contain."""
        for name, value in checked(type(self), lambda name: getattr(self, name)).items():
            object.__setattr__(self, name, value)

    @property
    def serves_metrics(self) -> bool:
        """Whether there is a page for Prometheus."""
        return "prometheus" in self.metric_exporters

    def disables(self, instrumentation: str) -> bool:
        """Whether the settings exclude the instrumentation with that entry point."""
        return not {instrumentation, "*"}.isdisjoint(self.disabled_instrumentations)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> EffectiveSettings:
        """Returns the settings in `os.environ` or `environ`. Never raises; see its `problems`."""
        environment = Environment(os.environ if environ is None else environ)
        return EffectiveSettings(**environment.settings(Settings), **environment.process())


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings(Settings):
    """Settings of a process, with what else otel-coach reads from the process's environment.

    `Settings.from_env()` and `effective()` return it; applications create `Settings`.
    """

    runtime_folder: str | None = None
    """The folder for the user's short-lived files (XDG Base Directory Specification)."""
    prometheus_multiprocess: bool = False
    """Whether the application uses prometheus_client's multiprocess mode."""
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of the SDK components to load (samplers, id generators ...), by variable."""
    exports_logs: bool = False
    """Whether the application's own log records are exported."""
    handles_logging: bool = False
    """Whether a handler on the root logger exports the records of `logging`."""
    shares_figures: bool = True
    """Whether all workers of a service show the same page, with the metrics of all of them."""
    problems: tuple[str, ...] = ()
    """One line for each variable that could not be used, with the cure."""
    without_effect: tuple[str, ...] = ()
    """One line for each OpenTelemetry variable that is set, but has no effect on otel-coach."""

    def log_problems(self) -> None:
        """Logs one line for each entry of `problems` and of `without_effect`."""
        for problem in self.problems:
            _logger.error("otel-coach: %s", problem)
        for line in self.without_effect:
            _logger.warning("otel-coach: %s", line)

    @property
    def trust(self) -> Trust:
        """The checked value of `trust_incoming`."""
        assert isinstance(self.trust_incoming, Trust)  # noqa: S101 # nosec B101 - for the type
        return self.trust_incoming


def effective(settings: Settings, environ: Mapping[str, str] | None = None) -> EffectiveSettings:
    """Adds to `settings` what the environment (or `environ`) says about the process."""
    if isinstance(settings, EffectiveSettings):
        return settings
    values = {one.name: getattr(settings, one.name) for one, _ in settings_of(Settings)}
    process = Environment(os.environ if environ is None else environ).process()
    return EffectiveSettings(**values, **process)
