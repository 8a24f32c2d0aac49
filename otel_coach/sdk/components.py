"""Loads SDK components that OTEL_* variables name and installed packages provide as entry points.

These are samplers, id generators, and the configurators of tracers, meters and loggers. The entry
point groups, and the arguments of each component, are those of OpenTelemetry's own configurator,
which cannot load components without also building its providers. Nothing here raises: if a
component cannot be used, one log line names the variable, and the SDK's default is used instead.
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
    """Loads the components in `named`, which maps OTEL_* variables to their values."""

    def __init__(self, named: Mapping[str, str]) -> None:
        self._named = named

    def sampler(self) -> Sampler | None:
        """Returns the named sampler, or None if none is named: the SDK then uses its default."""
        name = self._named.get(_SAMPLER)
        if name is None:
            return None
        try:
            # The SDK accepts the names of its own samplers in capitals, too.
            make = _loaded("opentelemetry_traces_sampler", name, name.lower())
            made = make(self._sampler_argument(name.lower()))
            return _checked(Sampler, made)
        except Exception as error:  # noqa: BLE001 - whatever a plug-in raises
            self._log_unusable(_SAMPLER, error)
            return DEFAULT_ON  # given None, the SDK would try the same name, and raise

    def id_generator(self) -> IdGenerator | None:
        """Returns the named id generator, or None, which makes the SDK use its own random one."""
        name = self._named.get(_ID_GENERATOR)
        if name is None:
            return None
        try:
            return _checked(IdGenerator, _loaded("opentelemetry_id_generator", name)())
        except Exception as error:  # noqa: BLE001 - as above
            self._log_unusable(_ID_GENERATOR, error)
            return None

    def configure(self, provider: object, what: str) -> None:
        """Sets the named configurator of `what` (tracer, meter or logger) on `provider`."""
        variable = f"OTEL_PYTHON_{what.upper()}_CONFIGURATOR"
        name = self._named.get(variable)
        if name is None or provider is None:
            return
        try:
            configurator = _loaded(f"_opentelemetry_{what}_configurator", name)
            set_configurator = getattr(
                provider, f"_set_{what}_configurator", None
            )  # not public yet
            if set_configurator is None:
                message = f"this version of opentelemetry-sdk has no {what} configurators"
                raise LookupError(message)  # noqa: TRY301 - handled as a missing entry point
            set_configurator(**{f"{what}_configurator": configurator})
        except Exception as error:  # noqa: BLE001 - as above
            self._log_unusable(variable, error)

    def _sampler_argument(self, sampler: str) -> Any:
        argument = self._named.get(_SAMPLER_ARGUMENT)
        if sampler not in _RATIOS:
            return argument
        try:
            ratio = 1.0 if argument is None else float(argument)
        except ValueError as error:
            self._log_unusable(_SAMPLER_ARGUMENT, error)
            return 1.0
        if 0 <= ratio <= 1:
            return ratio
        self._log_unusable(_SAMPLER_ARGUMENT, LookupError("it is not between 0 and 1"))
        return 1.0

    def _log_unusable(self, variable: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, LookupError) else type(error).__name__
        _logger.error(
            "otel-coach: %s=%s cannot be used (%s); OpenTelemetry's default is used instead",
            variable,
            self._named[variable],
            reason,
        )


def _loaded(group: str, *names: str) -> Any:
    """Loads the first entry point of `group` that has one of `names`.

    Raises:
        LookupError: there is no such entry point.
        Exception: whatever importing the entry point's object raises.
    """
    for name in names:
        for entry_point in entry_points(group=group, name=name):
            return entry_point.load()
    message = f"no installed package has that in its entry points {group}"
    raise LookupError(message)


def _checked(cls: type[_T], made: object) -> _T:
    """Returns `made`, which must be a `cls`.

    Raises:
        LookupError: `made` is not a `cls`.
    """
    if isinstance(made, cls):
        return made
    message = f"it is no {cls.__name__}"
    raise LookupError(message)
