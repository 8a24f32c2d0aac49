"""Variables: names that nothing reads, values that cannot be used, and those without effect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor.fetch import shown
from otel_coach.cli.doctor.otlp_targets import targets
from otel_coach.cli.doctor.traps.back_ends import PROTOCOL
from otel_coach.cli.doctor.traps.environment import (
    INVALID_VALUE,
    MALFORMED_DEPENDENCY,
    MISSPELT,
    PRICES_FILE,
    QUOTED,
    TOKEN_WITH_SCHEME,
    WITHOUT_EFFECT,
)
from otel_coach.configuration.environment_variables import (
    OTEL_COACH_DEPENDENCIES,
    OTEL_COACH_METRICS_TOKEN,
    OTEL_COACH_PRICES,
)
from otel_coach.configuration.names import misspelt, unknown_line, unknown_own
from otel_coach.configuration.setting import settings_of
from otel_coach.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding, Trap

_QUOTES: Final = re.compile(r"(['\"])(.+)\1", re.DOTALL)
_SCHEME: Final = re.compile(r"['\"]?bearer\s", re.IGNORECASE)
_OF_PROMETHEUS_CLIENT: Final = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_TRAPS: Final = {
    OTEL_COACH_DEPENDENCIES: MALFORMED_DEPENDENCY,
    OTEL_COACH_PRICES: PRICES_FILE,
}
_OF_PROTOCOLS: Final = re.compile(r"OTEL_EXPORTER_OTLP_(?:\w+_)?PROTOCOL")


def look(examined: Examined) -> Iterator[Finding]:
    """Yields one finding for each variable that is not read as it was meant."""
    unknown = dict(unknown_own(examined.variables))
    quoted = [name for name in examined.variables if unquoted(examined, name) is not None]
    of_back_ends = {target.variable for target in targets(examined)}
    for name in quoted:
        if name not in of_back_ends:  # `back_ends` yields those
            yield quoted_value(examined, name)
    if _SCHEME.match(examined.text(OTEL_COACH_METRICS_TOKEN)):
        yield TOKEN_WITH_SCHEME.found()
    for problem in examined.settings.problems:
        if (variable := problem.variable) not in unknown and variable not in quoted:
            yield _trap_of(variable).found(line=problem, variable=variable)
    known = {name for _, setting in settings_of(Settings) for name in setting.variables}
    for name, nearest in (*unknown.items(), *misspelt(examined.variables, known)):
        cure = f'export {nearest}="${name}"; unset {name}' if nearest else f"unset {name}"
        yield MISSPELT.found(line=unknown_line(name, nearest), cure=cure)
    for problem in examined.settings.without_effect:
        yield WITHOUT_EFFECT.found(line=problem, variable=problem.variable)


def quoted_value(examined: Examined, name: str) -> Finding:
    """Returns the finding for a variable whose value is in quotes."""
    is_shown = name.endswith("_ENDPOINT")  # others may be secret
    correct = without_secrets(unquoted(examined, name) or "") if is_shown else "VALUE"
    return QUOTED.found(variable=name, correct=correct)


def unquoted(examined: Examined, name: str) -> str | None:
    """Returns a variable's value without the quotes around it; None if there are none."""
    if name not in _OF_PROMETHEUS_CLIENT and not name.startswith("OTEL_"):
        return None
    match = _QUOTES.fullmatch(examined.text(name))
    return match[2] if match else None


def without_secrets(address: str) -> str:
    """Returns an endpoint without user and password, and without a query, which may have a key."""
    if "://" in address:
        return shown(address)
    return re.split("[?#]", address.rpartition("@")[2])[0]  # a password may have any character


def _trap_of(variable: str) -> Trap:
    if _OF_PROTOCOLS.fullmatch(variable):
        return PROTOCOL
    return _TRAPS.get(variable, INVALID_VALUE)
