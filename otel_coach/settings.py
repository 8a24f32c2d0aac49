"""All settings of otel-coach, with their variables, defaults and meanings.

The OpenTelemetry SDK itself reads the OTEL_* variables for intervals, timeouts, batch sizes,
limits, resource, and OTLP endpoints and headers. This module has the others that otel-coach needs:
among them are the sampler's name and the sizes of the queues.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping  # noqa: TC003 - named by the fields
from dataclasses import dataclass, field
from typing import Self

from otel_coach.configuration import definitions as define
from otel_coach.configuration.environment import Environment
from otel_coach.configuration.exporters import log_records
from otel_coach.configuration.names import hint, nearest
from otel_coach.configuration.problem import Problem  # noqa: TC001 - named by the fields
from otel_coach.configuration.readers import DEFAULT_PORT
from otel_coach.configuration.setting import checked, settings_of, stated
from otel_coach.configuration.trust import Trust

_logger = logging.getLogger("otel_coach")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What otel-coach builds and how. Times are in seconds.

    `Settings.from_env()` reads the environment; `Settings(metrics_path="/internal")` sets a field
    in code. docs/api.md lists all fields. A mapping changes only the names that it
    contains: `Settings(budgets={"model": 50})` changes one budget.

    Raises:
        ValueError: A value has the wrong type or cannot be used; the message names each such field
            and its variable.
        TypeError: There is no field of that name; the message suggests the nearest name.
    """

    enabled: bool = define.ENABLED
    trace_exporters: tuple[str, ...] = define.TRACE_EXPORTERS
    metric_exporters: tuple[str, ...] = define.METRIC_EXPORTERS
    log_exporters: tuple[str, ...] = define.LOG_EXPORTERS
    otlp_traces_protocol: str = define.OTLP_TRACES_PROTOCOL
    otlp_metrics_protocol: str = define.OTLP_METRICS_PROTOCOL
    otlp_logs_protocol: str = define.OTLP_LOGS_PROTOCOL
    metrics_path: str = define.METRICS_PATH
    metrics_host: str = define.METRICS_HOST
    metrics_port: int | None = define.METRICS_PORT
    metrics_token: str | None = define.METRICS_TOKEN
    shared_folder: str | None = define.SHARED_FOLDER
    target_info: bool = define.TARGET_INFO
    server_spans: str = define.SERVER_SPANS
    excluded_urls: str = define.EXCLUDED_URLS
    span_attributes: frozenset[str] = define.SPAN_ATTRIBUTES
    propagates_to_providers: bool = define.PROPAGATES_TO_PROVIDERS
    trust_incoming: Trust | bool | str = define.TRUST_INCOMING
    disabled_instrumentations: frozenset[str] = define.DISABLED_INSTRUMENTATIONS
    credential_headers: frozenset[str] = define.CREDENTIAL_HEADERS
    budgets: Mapping[str, int] = define.BUDGETS
    pinned: Mapping[str, tuple[str, ...]] = define.PINNED
    admitted: Mapping[str, Mapping[str, int]] = define.ADMITTED
    captures_on_spans: bool = define.CAPTURES_ON_SPANS
    captures_on_events: bool = define.CAPTURES_ON_EVENTS
    content_limit: int = define.CONTENT_LIMIT
    content_redactor: str | None = define.CONTENT_REDACTOR
    span_queue: int = define.SPAN_QUEUE
    log_queue: int = define.LOG_QUEUE
    prices_file: str | None = define.PRICES_FILE
    gateways: Mapping[str, str] = define.GATEWAYS
    dependencies: Mapping[str, str] = define.DEPENDENCIES
    dependency_interval: float = define.DEPENDENCY_INTERVAL
    dependency_timeout: float = define.DEPENDENCY_TIMEOUT
    stop_abandoned: bool | frozenset[str] = define.STOP_ABANDONED
    stop_after: float = define.STOP_AFTER
    stop_tools: bool = define.STOP_TOOLS
    quiet: bool = define.QUIET
    config_file: str | None = define.CONFIG_FILE

    def __new__(cls, **values: object) -> Self:
        """Rejects keyword arguments that are not fields."""
        known = {known_field.name for known_field in dataclasses.fields(cls)}
        for name in values.keys() - known:
            message = f"{cls.__name__} has no field {name}{hint(nearest(name, known))}"
            raise TypeError(message)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Checks each value, and adds the defaults for names that a mapping does not contain."""
        for name, value in checked(type(self), lambda name: getattr(self, name)).items():
            object.__setattr__(self, name, value)
        if self.metrics_port is None and self.metrics_host != define.METRICS_HOST.default:
            object.__setattr__(self, "metrics_port", DEFAULT_PORT)

    @property
    def serves_metrics(self) -> bool:
        """Whether there is a page for Prometheus."""
        return "prometheus" in self.metric_exporters

    def disables(self, instrumentation: str) -> bool:
        """Whether the settings exclude the instrumentation with that entry point."""
        return not {instrumentation, "*"}.isdisjoint(self.disabled_instrumentations)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> EffectiveSettings:
        """Returns the settings in `os.environ` or `environ`. Never raises; see `problems`."""
        environment = Environment(os.environ if environ is None else environ)
        values = stated(Settings, environment)
        return EffectiveSettings(
            **values,
            **log_records(environment),
            **environment.process_fields(values),
            problems=environment.all_problems(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings(Settings):
    """Settings of a process, with what else otel-coach reads from the process's environment.

    `Settings.from_env()` and `effective()` return it; applications create `Settings`.
    """

    runtime_folder: str | None = None
    """The folder for the user's short-lived files (XDG Base Directory Specification)."""
    prometheus_multiprocess: str | None = None
    """The folder of prometheus_client's multiprocess mode, if the application uses that."""
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of the SDK components to load (samplers, id generators ...), by variable."""
    exports_logs: bool = False
    """Whether the application's own log records are exported."""
    handles_logging: bool = False
    """Whether a handler on the root logger exports the records of `logging`."""
    shares_figures: bool = True
    """Whether all workers of a service show the same page, with the metrics of all of them."""
    problems: tuple[Problem, ...] = ()
    """The variables that could not be used, with the cure."""
    without_effect: tuple[Problem, ...] = ()
    """The variables of OpenTelemetry that are set, but have no effect on otel-coach."""

    def log_problems(self) -> None:
        """Logs one line for each entry of `problems` and of `without_effect`."""
        for problem in self.problems:
            _logger.error("otel-coach: %s", problem)
        for problem in self.without_effect:
            _logger.warning("otel-coach: %s", problem)

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
    environment = Environment(os.environ if environ is None else environ)
    return EffectiveSettings(
        **values,
        **log_records(environment, settings.log_exporters),
        **environment.process_fields(values),
    )
