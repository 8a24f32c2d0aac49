"""The environment variables of a process. An invalid value causes one log line, no exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.kinds import CURE, ListKind
from otel_coach.configuration.names import unknown_line, unknown_own
from otel_coach.configuration.otel_variables import without_effect
from otel_coach.configuration.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.configuration.kinds import Kind

_COMPONENTS: Final = (
    *("OTEL_PYTHON_ID_GENERATOR", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    *(f"OTEL_PYTHON_{part}_CONFIGURATOR" for part in ("LOGGER", "METER", "TRACER")),
)
"""Variables that name a component of the SDK, or configure one."""
DEFAULT: Final = "the default is used"


class Environment:
    """The environment variables of a process, and what is wrong with those that have been read.

    Args:
        variables: Their values by name; usually `os.environ`.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.problems: list[Problem] = []
        """Each variable that cannot be used; one that is read twice is there twice."""

    def text(self, variable: str) -> str:
        """Returns the variable's value without the spaces around it, "" if it is not set."""
        return self.variables.get(variable, "").strip()

    def value(self, variable: str, kind: Kind[Any], instead: str = DEFAULT) -> Any:
        """Returns the variable's value; None if it is not set or cannot be used.

        `instead` says what then takes effect. Of a list, the valid entries are the value.
        """
        text = self.text(variable)
        if not text:
            return None
        if isinstance(kind, ListKind):
            value, wrong = kind.parse_each(text)
            then = instead if value is None else "it is left out"
            lines = (f"{variable} {_with_effect(error, then)}" for error in wrong)
            self.problems.extend(Problem(variable, line) for line in lines)
            return value
        try:
            return kind.parse(text)
        except ValueError as error:
            self.problems.append(Problem(variable, f"{variable}={text!r} {error}; {instead}"))
            return None

    def all_problems(self) -> tuple[Problem, ...]:
        """Returns each variable that cannot be used, or that nothing reads, once."""
        unknown = (
            Problem(name, unknown_line(name, meant)) for name, meant in unknown_own(self.variables)
        )
        return tuple(dict.fromkeys([*self.problems, *unknown]))

    def process_fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the variables say about the process, in addition to its `settings`."""
        return {
            "runtime_folder": self.text("XDG_RUNTIME_DIR") or None,
            "prometheus_multiprocess": self.text("PROMETHEUS_MULTIPROC_DIR")
            or self.text("prometheus_multiproc_dir")
            or None,
            "components": {name: self.text(name) for name in _COMPONENTS if self.text(name)},
            "without_effect": tuple(without_effect(self.variables, settings)),
        }


def _with_effect(error: str, effect: str) -> str:
    """Returns the message of an error with what then takes effect, before its remedy."""
    what, cure, remedy = error.partition(CURE)
    return f"{what}; {effect}{cure}{remedy}"
