"""Loads SDK components that OTEL_* variables name and installed packages provide as entry points.

These are samplers, id generators, and the configurators of tracers, meters and loggers. The entry
point groups, and the arguments of each component, are those of OpenTelemetry's own configurator,
which cannot load components without also building its providers. Nothing here raises: if a
component cannot be used, one log line names the variable, and the SDK's default is used instead.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from otel_coach.core.entry_points import entry_points
from otel_coach.core.guard import belongs_to_host
from otel_coach.core.plugins import (
    DEFAULTS,
    ID_GENERATOR,
    RATIOS,
    SAMPLER,
    SAMPLER_ARGUMENT,
    SAMPLERS,
    missing,
    ratio,
)
from otel_coach.core.traps import COMPONENT

if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = logging.getLogger("otel_coach")

_T = TypeVar("_T")


class Components:
    """Loads the components in `named`, which maps OTEL_* variables to their values."""

    def __init__(self, named: Mapping[str, str]) -> None:
        self._named = named

    def sampler(self) -> Sampler | None:
        """Returns the named sampler, or None if none is named: the SDK then uses its default."""
        name = self._named.get(SAMPLER)
        if name is None:
            return None
        try:
            # The SDK accepts the names of its own samplers in capitals, too.
            make = _loaded(SAMPLERS, name, name.lower())
            made = make(self._sampler_argument(name.lower()))
            return _checked(Sampler, made)
        except Exception as error:  # whatever a plug-in raises
            if belongs_to_host(error):
                raise
            self._log_unusable(SAMPLER, error)
            # Given None, the SDK would look the same name up again, and log a second line.
            return DEFAULT_ON

    def id_generator(self) -> IdGenerator | None:
        """Returns the named id generator, or None, which makes the SDK use its own random one."""
        name = self._named.get(ID_GENERATOR)
        if name is None:
            return None
        try:
            return _checked(IdGenerator, _loaded("opentelemetry_id_generator", name)())
        except Exception as error:  # as above
            if belongs_to_host(error):
                raise
            self._log_unusable(ID_GENERATOR, error)
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
        except Exception as error:  # as above
            if belongs_to_host(error):
                raise
            self._log_unusable(variable, error)

    def _sampler_argument(self, sampler: str) -> Any:
        argument = self._named.get(SAMPLER_ARGUMENT)
        if sampler not in RATIOS:
            return argument
        try:
            return ratio(argument)
        except LookupError as error:
            self._log_unusable(SAMPLER_ARGUMENT, error)
            return 1.0

    def _log_unusable(self, variable: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, LookupError) else type(error).__name__
        line = COMPONENT.found(
            variable=variable,
            value=self._named[variable],
            reason=reason,
            default=DEFAULTS.get(variable, ""),
        )
        _logger.error("otel-coach: %s", line)


def _loaded(group: str, *names: str) -> Any:
    """Loads the first entry point of `group` that has one of `names`.

    Raises:
        LookupError: there is no such entry point.
        Exception: whatever importing the entry point's object raises.
    """
    for name in names:
        for entry_point in entry_points(group=group, name=name):
            return entry_point.load()
    raise LookupError(missing(group))


def _checked(cls: type[_T], made: object) -> _T:
    """Returns `made`, which must be a `cls`.

    Raises:
        LookupError: `made` is not a `cls`.
    """
    if isinstance(made, cls):
        return made
    message = f"it is no {cls.__name__}"
    raise LookupError(message)
