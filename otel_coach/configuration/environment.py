"""Reads settings from environment variables. An invalid value causes one log line, no exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.admitted_labels import admitted_labels
from otel_coach.configuration.definitions import CAPTURE
from otel_coach.configuration.dependencies import dependencies
from otel_coach.configuration.environment_variables import (
    OTEL_COACH_ADMIT_LABELS,
    OTEL_COACH_CONTENT_REDACTOR,
    OTEL_COACH_DEPENDENCIES,
    OTEL_COACH_METRICS_TOKEN,
    OTEL_COACH_TRUST_INCOMING,
    SWITCHES,
)
from otel_coach.configuration.kinds import (
    COUNT,
    FUNCTION,
    PORT,
    Choice,
    Exporters,
    Flag,
    ListKind,
    words,
)
from otel_coach.configuration.log_export import is_by_distro, log_settings
from otel_coach.configuration.names import (
    budget_variable,
    pinned_variable,
    unknown_line,
    unknown_own,
)
from otel_coach.configuration.otel_variables import without_effect
from otel_coach.configuration.problem import Problem
from otel_coach.configuration.setting import settings_of
from otel_coach.configuration.trust import trust_of
from otel_coach.metrics.labels import DEFAULT_BUDGETS, DEFAULT_SIZES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.configuration.kinds import Kind

_CAPTURE_MODES: Final = Choice(("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"))
_COMPONENTS: Final = (
    *("OTEL_PYTHON_ID_GENERATOR", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    *(f"OTEL_PYTHON_{part}_CONFIGURATOR" for part in ("LOGGER", "METER", "TRACER")),
)
"""Variables that name a component of the SDK, or configure one."""
_DEFAULT_PORT: Final = 9464
DEFAULT: Final = "the default is used"
_INVALID: Final = "?"
"""In the place of a redactor that cannot be one."""


class Environment:
    """The environment variables of a process.

    Args:
        variables: Their values by name; usually `os.environ`.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._problems: list[Problem] = []

    def settings(self, cls: type[Any]) -> dict[str, Any]:
        """Returns those fields of `cls`, a dataclass of settings, that the variables set.

        The field `problems` has each variable that could not be used; the default value takes
        effect instead.
        """
        found: dict[str, Any] = {}
        for field, described in settings_of(cls):
            if not described.is_read_apart:
                for position, variable in enumerate(described.variables):
                    later = described.variables[position + 1 :]
                    instead = next((f"{one} counts" for one in later if self._text(one)), DEFAULT)
                    value = self._read(variable, described.kind, instead)
                    if value is not None:
                        found[field.name] = value
                        break
        found |= self._read_apart()
        for field, described in settings_of(cls):
            if field.name in found:
                try:
                    described.kind.check(found[field.name])
                except ValueError as error:
                    variable = described.variables[0]
                    self._problems.append(Problem(variable, f"{variable} {error}; it is left out"))
                    del found[field.name]
        unknown = (
            Problem(name, unknown_line(name, meant)) for name, meant in unknown_own(self._variables)
        )
        return found | {"problems": tuple(dict.fromkeys([*self._problems, *unknown]))}

    def process(self) -> dict[str, Any]:
        """Returns what the variables say about the process, in addition to its settings."""
        return {
            "runtime_folder": self._text("XDG_RUNTIME_DIR") or None,
            "prometheus_multiprocess": self._text("PROMETHEUS_MULTIPROC_DIR")
            or self._text("prometheus_multiproc_dir")
            or None,
            "components": {name: self._text(name) for name in _COMPONENTS if self._text(name)},
            "without_effect": tuple(without_effect(self._variables)),
        }

    def _read_apart(self) -> dict[str, Any]:
        capture = self._read(CAPTURE, _CAPTURE_MODES) or "NO_CONTENT"
        redactor = self._redactor()
        if redactor == _INVALID:  # without a redactor that was asked for, no content may leave
            capture, redactor = "NO_CONTENT", None
        captures_on_events = capture in {"EVENT_ONLY", "SPAN_AND_EVENT"}
        found = {
            "enabled": sum(bool(self._read(name, Flag())) for name in SWITCHES) == 0,
            "trace_exporters": self._trace_exporters(),
            "metric_exporters": self._metric_exporters(),
            "metrics_port": self._metrics_port(),
            "metrics_token": self._token(OTEL_COACH_METRICS_TOKEN),
            "trust_incoming": trust_of(self._text(OTEL_COACH_TRUST_INCOMING), self._problems),
            "budgets": {
                label: size
                for label in DEFAULT_SIZES
                if (size := self._read(budget_variable(label), COUNT)) is not None
            },
            "pinned": {
                label: values
                for label in DEFAULT_BUDGETS
                if (values := self._pinned(pinned_variable(label)))
            },
            "admitted": admitted_labels(words(self._text(OTEL_COACH_ADMIT_LABELS)), self._problems),
            "captures_on_spans": capture in {"SPAN_ONLY", "SPAN_AND_EVENT"},
            "captures_on_events": captures_on_events,
            "content_redactor": redactor,
            "dependencies": dependencies(
                self._text(OTEL_COACH_DEPENDENCIES), self._text, self._problems
            ),
            **self._logs(for_events=captures_on_events),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _text(self, name: str) -> str:
        return self._variables.get(name, "").strip()

    def _read(self, variable: str, kind: Kind[Any], instead: str = DEFAULT) -> Any:
        """Returns the variable's value; None if it is not set or cannot be used.

        `instead` says what then takes effect.
        """
        text = self._text(variable)
        if not text:
            return None
        if isinstance(kind, ListKind):
            return self._each(variable, text, kind)
        try:
            return kind.parse(text)
        except ValueError as error:
            self._problems.append(Problem(variable, f"{variable}={text!r} {error}; {instead}"))
            return None

    def _each(self, variable: str, text: str, kind: ListKind) -> Any:
        """Returns the value of the valid entries; None if there are none."""
        value, wrong = kind.parse_each(text)
        self._problems.extend(
            Problem(variable, f"{variable} {error}; it is left out") for error in wrong
        )
        return value

    def _trace_exporters(self) -> tuple[str, ...]:
        variable = "OTEL_TRACES_EXPORTER"
        text = self._text(variable)
        if text and not is_by_distro(text):
            names = self._each(variable, text, Exporters("traces"))
            if names is not None:
                return names
        return ("otlp",) if self._has_endpoint("TRACES") else ()

    def _metric_exporters(self) -> tuple[str, ...] | None:
        variable = "OTEL_METRICS_EXPORTER"
        text = self._text(variable)
        if is_by_distro(text):
            text = "prometheus,otlp" if self._has_endpoint("METRICS") else ""
        if not text:
            return None
        return self._each(variable, text, Exporters("metrics", frozenset({"prometheus"})))

    def _has_endpoint(self, signal: str) -> bool:
        return bool(
            self._text("OTEL_EXPORTER_OTLP_ENDPOINT")
            or self._text(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        )

    def _metrics_port(self) -> int | None:
        port = self._read("OTEL_EXPORTER_PROMETHEUS_PORT", PORT)
        if port is None and self._text("OTEL_EXPORTER_PROMETHEUS_HOST"):
            return _DEFAULT_PORT
        return port

    def _token(self, name: str) -> str | None:
        """Returns the token; None if the variable is not set, "" if it is set but empty.

        An operator who sets the variable wants to restrict access: an empty secret or file must not
        open the page to everybody.
        """
        if self._variables.get(name) is None:
            return None
        if not (token := self._text(name)):
            text = (
                f"{name} is set, but empty: no request gets the page, each scrape is answered with "
                "401. Give it a value (openssl rand -hex 32), or unset it to allow all requests"
            )
            self._problems.append(Problem(name, text))
        return token

    def _redactor(self) -> str | None:
        variable = OTEL_COACH_CONTENT_REDACTOR
        text = self._text(variable)
        try:
            return FUNCTION.parse(text) if text else None
        except ValueError as error:
            line = f"{variable}={text!r} {error}; no content is captured"
            self._problems.append(Problem(variable, line))
            return _INVALID

    def _pinned(self, variable: str) -> tuple[str, ...]:
        text = self._text(variable)
        values = tuple(filter(None, (word.strip(" ;") for word in words(text))))
        if text and not values:
            line = f"{variable}={text!r} holds no value; it is left out"
            self._problems.append(Problem(variable, line))
        return values

    def _logs(self, *, for_events: bool) -> dict[str, Any]:
        variable = "OTEL_LOGS_EXPORTER"
        text = self._text(variable)
        stated = None
        if text and not is_by_distro(text):
            stated = self._each(variable, text, Exporters("logs"))
        return log_settings(
            self._text,
            stated,
            has_endpoint=self._has_endpoint("LOGS"),
            disabled=words(self._text("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")),
            for_events=for_events,
        )
