"""Parts of the SDK that an operator names by OTEL_* variables and a package brings by entry point.

Samplers, id generators, and the configurators of tracers, meters and loggers. The groups, and what
each is called with, are those of OpenTelemetry's own configurator, which cannot be asked to load
them without building its providers. Nothing here raises: what cannot be had is one line in the log
that names the variable, and the SDK's default stands in for it.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = logging.getLogger("otel_coach")

_SAMPLER: Final = "OTEL_TRACES_SAMPLER"
_SAMPLER_ARGUMENT: Final = "OTEL_TRACES_SAMPLER_ARG"
_ID_GENERATOR: Final = "OTEL_PYTHON_ID_GENERATOR"
_T = TypeVar("_T")
_RATIOS: Final = frozenset({"traceidratio", "parentbased_traceidratio"})
"""Samplers whose argument is a number."""


class Components:
    """What the operator named, by variable."""

    def __init__(self, named: Mapping[str, str]) -> None:
        self._named = named

    def sampler(self) -> Sampler | None:
        """The sampler; None leaves it to the SDK, which knows its own by name."""
        name = self._named.get(_SAMPLER)
        if name is None:
            return None
        try:
            # The SDK takes the names of its own in capitals, too.
            make = _loaded("opentelemetry_traces_sampler", name, name.lower())
            made = make(self._sampler_argument(name.lower()))
            return _only(Sampler, made)
        except Exception as error:  # noqa: BLE001 - a stranger's: the service starts
            self._cannot(_SAMPLER, error)
            return DEFAULT_ON  # the SDK would try the same name, and raise

    def id_generator(self) -> IdGenerator | None:
        """The id generator; None is the SDK's own, of random ids."""
        name = self._named.get(_ID_GENERATOR)
        if name is None:
            return None
        try:
            return _only(IdGenerator, _loaded("opentelemetry_id_generator", name)())
        except Exception as error:  # noqa: BLE001 - as above
            self._cannot(_ID_GENERATOR, error)
            return None

    def configure(self, provider: object, what: str) -> None:
        """Let the operator's configurator of `what` (tracer, meter, logger) rule `provider`."""
        variable = f"OTEL_PYTHON_{what.upper()}_CONFIGURATOR"
        name = self._named.get(variable)
        if name is None or provider is None:
            return
        try:
            configurator = _loaded(f"_opentelemetry_{what}_configurator", name)
            take = getattr(provider, f"_set_{what}_configurator", None)  # not public yet
            if take is None:
                message = f"this version of opentelemetry-sdk has no {what} configurators"
                raise LookupError(message)  # noqa: TRY301 - as for what no package has
            take(**{f"{what}_configurator": configurator})
        except Exception as error:  # noqa: BLE001 - as above
            self._cannot(variable, error)

    def _sampler_argument(self, sampler: str) -> Any:
        argument = self._named.get(_SAMPLER_ARGUMENT)
        if sampler not in _RATIOS:
            return argument
        try:
            ratio = 1.0 if argument is None else float(argument)
        except ValueError as error:
            self._cannot(_SAMPLER_ARGUMENT, error)
            return 1.0
        if 0 <= ratio <= 1:
            return ratio
        self._cannot(_SAMPLER_ARGUMENT, LookupError("it is not between 0 and 1"))
        return 1.0

    def _cannot(self, variable: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, LookupError) else type(error).__name__
        _logger.error(
            "otel-coach: %s=%s cannot be used (%s); OpenTelemetry's default stands in for it",
            variable,
            self._named[variable],
            reason,
        )


def _loaded(group: str, *names: str) -> Any:
    """What the first entry point of `group` with one of `names` names.

    Raises:
        LookupError: there is none; and whatever importing it raises.
    """
    for name in names:
        for entry_point in entry_points(group=group, name=name):
            return entry_point.load()
    message = f"no installed package has that in its entry points {group}"
    raise LookupError(message)


def _only(cls: type[_T], made: object) -> _T:
    """`made`, which must be a `cls`.

    Raises:
        LookupError: it is none.
    """
    if isinstance(made, cls):
        return made
    message = f"it is no {cls.__name__}"
    raise LookupError(message)
