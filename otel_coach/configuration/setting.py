"""Defines a setting in one place: its field, its variables, its kind and its meaning."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.environment import DEFAULT
from otel_coach.configuration.problem import Problem
from otel_coach.core.record import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_coach.configuration.environment import Environment
    from otel_coach.configuration.kinds import Kind

_KEY: Final = "otel_coach"


@record
class Setting:
    """A description of a field of `Settings`, in addition to its type and default.

    Args:
        variables: The environment variables.
        kind: The kind of the value.
        meaning: One or two sentences of Markdown for docs/configuration.md and docs/api.md.
        default_text: The default as the docs show it, if it depends on something.
        is_secret: Whether the value is left out of messages.
        read: Returns what the variables say, None if the default takes effect. Without it, the text
            of the first variable that is set is a value of `kind`.
    """

    variables: tuple[str, ...]
    kind: Kind[Any]
    meaning: str
    default_text: str | None = None
    is_secret: bool = False
    read: Callable[[Environment], Any] | None = None

    def value_in(self, environment: Environment) -> Any:
        """Returns what the variables say, None if the default takes effect."""
        if self.read is not None:
            return self.read(environment)
        for position, variable in enumerate(self.variables, start=1):
            later = filter(environment.text, self.variables[position:])
            instead = next((f"{one} counts" for one in later), DEFAULT)
            value = environment.value(variable, self.kind, instead)
            if value is not None:
                return value
        return None


def setting(
    variables: str | tuple[str, ...],
    kind: Kind[Any],
    meaning: str,
    *,
    default: Any = dataclasses.MISSING,
    factory: Callable[[], Any] | None = None,
    **more: Any,
) -> Any:
    """Returns a dataclass field with a `Setting`; `more` are further arguments of `Setting`."""
    names = (variables,) if isinstance(variables, str) else variables
    described = Setting(names, kind, meaning, **more)
    metadata = {_KEY: described}
    if factory is not None:
        return dataclasses.field(
            default_factory=factory, repr=not described.is_secret, metadata=metadata
        )
    return dataclasses.field(default=default, repr=not described.is_secret, metadata=metadata)


def settings_of(cls: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Setting]]:
    """Yields the fields of a dataclass that are settings, with their descriptions."""
    for field in dataclasses.fields(cls):
        if (described := field.metadata.get(_KEY)) is not None:
            yield field, described


def stated(cls: type[Any], environment: Environment) -> dict[str, Any]:
    """Returns those fields of `cls`, a dataclass of settings, that the environment sets."""
    found: dict[str, Any] = {}
    for field, described in settings_of(cls):
        value = described.value_in(environment)
        if value is not None:
            found[field.name] = value
    for field, described in settings_of(cls):
        if field.name in found:
            try:
                described.kind.check(found[field.name])
            except ValueError as error:
                variable = described.variables[0]
                line = f"{variable} {error}; {DEFAULT}"
                environment.problems.append(Problem(variable, line))
                del found[field.name]
    return found


def differences(first: Any, later: Any) -> dict[str, str] | None:
    """Compares two settings; None if they are equal.

    Else a dict of two texts: `fields`, the names of the fields that differ, and `variables`,
    assignments of their variables, to be pasted into a shell.
    """
    differ = [
        (field.name, described.variables[0])
        for field, described in settings_of(type(later))
        if getattr(first, field.name) != getattr(later, field.name)
    ]
    if not differ:
        return None
    variables = " ".join(
        dict.fromkeys(f"{variable.replace('*', '...')}=..." for _, variable in differ)
    )
    return {"fields": ", ".join(name for name, _ in differ), "variables": variables}


def checked(cls: type[Any], values: Callable[[str], object]) -> dict[str, object]:
    """Returns each field's value in the form in which it takes effect.

    Raises:
        ValueError: Some values are invalid; the message names each such field and its variable.
    """
    found: dict[str, object] = {}
    wrong: list[str] = []
    for field, described in settings_of(cls):
        value = values(field.name)
        try:
            found[field.name] = described.kind.check(value)
        except ValueError as error:
            shown = "the value" if described.is_secret else repr(value)
            wrong.append(f"{field.name} ({described.variables[0]}): {shown} {error}")
    if wrong:
        message = f"{cls.__name__}: " + "; ".join(wrong)
        raise ValueError(message)
    return found
