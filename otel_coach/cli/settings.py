"""Print all settings as a Markdown page, or check a file against it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli import generated_page
from otel_coach.cli.generated_page import add_arguments
from otel_coach.configuration.setting import settings_of
from otel_coach.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLES: Final = """\
  otel-coach settings > configuration.md       each variable, its default and meaning
  otel-coach settings --check FILE"""
_INTRODUCTION = """\
# Configuration

Generated from `otel_coach/settings.py` and `otel_coach/configuration/definitions.py` by `make docs`;
do not edit.

Each setting is an environment variable, and a field of `otel_coach.Settings` for
`otel_coach.instrument(app, settings=Settings(...))`. Most variables are options of
`opentelemetry-instrument`, too (`--coach_metrics_path /internal`); those for budgets, listed
values, captured content and excluded URLs are not. A variable that cannot be used causes one line
in the log and in `otel-coach doctor`, and the default takes effect, except where that would let
something in or out: with an invalid `OTEL_COACH_TRUST_INCOMING` no caller is trusted, with an
invalid `OTEL_COACH_CONTENT_REDACTOR` no content is captured, and with an empty
`OTEL_COACH_METRICS_TOKEN` no request gets the page. An invalid field raises `ValueError`, which
names the field and its variable.
""".splitlines()


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    return generated_page.run(arguments, markdown())


def markdown() -> Iterator[str]:
    """Yields the lines of docs/configuration.md."""
    yield from _INTRODUCTION
    yield ""
    yield "| variable | field | default | meaning |"
    yield "|---|---|---|---|"
    for field, setting in settings_of(Settings):
        names = ", ".join(f"`{name}`" for name in setting.variables)
        default = setting.default_text or _shown(field)
        yield f"| {names} | `{field.name}` | {default} | {setting.meaning} |"


def _shown(field: dataclasses.Field[Any]) -> str:
    """Returns the field's default as the text of its variable."""
    default = field.default
    if default is dataclasses.MISSING or default is None:
        return ""
    if isinstance(default, (tuple, frozenset)):
        default = ",".join(sorted(str(name) for name in default))
    elif isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = f"{default:g}"
    return f"`{default}`" if default != "" else ""


__all__ = ["add_arguments", "markdown", "run"]
