"""How settings are read whose variables' text is not simply a value of their kind.

Their definitions name these functions, and those of exporters.py, trust.py, dependencies.py and
admitted_labels.py. Each returns the setting's value; None if the default takes effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.configuration.environment_variables import (
    OTEL_COACH_CONTENT_REDACTOR,
    OTEL_COACH_METRICS_TOKEN,
    SWITCHES,
)
from otel_coach.configuration.kinds import COUNT, FUNCTION, PORT, Choice, Flag, words
from otel_coach.configuration.names import budget_variable, pinned_variable
from otel_coach.configuration.problem import Problem
from otel_coach.metrics.labels import DEFAULT_BUDGETS, DEFAULT_SIZES

if TYPE_CHECKING:
    from otel_coach.configuration.environment import Environment

CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURE_MODES: Final = Choice(("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"))
DEFAULT_PORT: Final = 9464


def enabled(environment: Environment) -> bool:
    """Returns False if any of the variables is true; an invalid one is reported all the same."""
    return True not in [environment.value(name, Flag()) for name in SWITCHES]


def metrics_port(environment: Environment) -> int | None:
    """Returns the port; OpenTelemetry's default one if only the host is set."""
    port = environment.value("OTEL_EXPORTER_PROMETHEUS_PORT", PORT)
    if port is None and environment.text("OTEL_EXPORTER_PROMETHEUS_HOST"):
        return DEFAULT_PORT
    return port


def metrics_token(environment: Environment) -> str | None:
    """Returns the token, "" if the variable is set but empty.

    An operator who sets the variable wants to restrict access: an empty secret or file must not
    open the page to everybody.
    """
    if environment.variables.get(OTEL_COACH_METRICS_TOKEN) is None:
        return None
    if not (token := environment.text(OTEL_COACH_METRICS_TOKEN)):
        text = (
            f"{OTEL_COACH_METRICS_TOKEN} is set, but empty: no request gets the page, each scrape "
            "is answered with 401. Give it a value (openssl rand -hex 32), or unset it to allow "
            "all requests"
        )
        environment.problems.append(Problem(OTEL_COACH_METRICS_TOKEN, text))
    return token


def budgets(environment: Environment) -> dict[str, int]:
    """Returns the sizes that are set; there is a variable for each label and limit."""
    sizes = {name: environment.value(budget_variable(name), COUNT) for name in DEFAULT_SIZES}
    return {name: size for name, size in sizes.items() if size is not None}


def pinned(environment: Environment) -> dict[str, tuple[str, ...]]:
    """Returns the values by label; there is a variable for each label."""
    found: dict[str, tuple[str, ...]] = {}
    for label in DEFAULT_BUDGETS:
        text = environment.text(variable := pinned_variable(label))
        if values := tuple(filter(None, (word.strip(" ;") for word in words(text)))):
            found[label] = values
        elif text:
            line = f"{variable}={text!r} holds no value; it is left out"
            environment.problems.append(Problem(variable, line))
    return found


def captures_on_spans(environment: Environment) -> bool:
    """Returns whether the mode of capturing content includes spans."""
    return _capture_mode(environment) in {"SPAN_ONLY", "SPAN_AND_EVENT"}


def captures_on_events(environment: Environment) -> bool:
    """Returns whether the mode of capturing content includes events."""
    return _capture_mode(environment) in {"EVENT_ONLY", "SPAN_AND_EVENT"}


def _capture_mode(environment: Environment) -> str:
    mode = environment.value(CAPTURE, _CAPTURE_MODES) or "NO_CONTENT"
    is_asked_for = bool(environment.text(OTEL_COACH_CONTENT_REDACTOR))
    if is_asked_for and content_redactor(environment) is None:
        return "NO_CONTENT"  # without a redactor that was asked for, no content may leave
    return mode


def content_redactor(environment: Environment) -> str | None:
    """Returns the redactor; an invalid one is reported with its effect on capturing."""
    return environment.value(OTEL_COACH_CONTENT_REDACTOR, FUNCTION, "no content is captured")
