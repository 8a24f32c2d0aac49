"""Writes the fields of `Settings` into docs/api.md, from their definitions."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.configuration.setting import settings_of
from otel_coach.configuration.trust import Trust
from otel_coach.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.configuration.setting import Setting

_BEGIN: Final = "<!-- written by `make docs` from otel_coach/configuration/definitions.py -->\n"
_END: Final = "<!-- end -->\n"


def table() -> Iterator[str]:
    """Yields the lines of the table."""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for field, setting in settings_of(Settings):
        kinds = " or ".join(f"`{one}`" for one in str(field.type).split(" | "))
        yield f"| `{field.name}` | {kinds} | {_default(field, setting)} | {setting.meaning} |"


def _default(field: dataclasses.Field[Any], setting: Setting) -> str:
    """Returns the default as code, or in words where it is a mapping with many entries."""
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    if factory is not dataclasses.MISSING and value and setting.default_text:
        return setting.default_text
    return f"`{_literal(value)}`"


def _literal(value: object) -> str:
    """Returns the value as it is written in code."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        value = cast("tuple[object, ...]", value)
        return f"({''.join(f'{_literal(one)}, ' for one in value).rstrip()})"
    if isinstance(value, frozenset):
        value = cast("frozenset[str]", value)
        return f"{{{', '.join(map(_literal, sorted(value)))}}}" if value else "frozenset()"
    if isinstance(value, Trust):
        return repr(value.everybody)
    return repr(value)


def page(text: str) -> str:
    """Returns the page with the table of today between its marks."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        message = "docs/api.md has no marks for the table"
        raise ValueError(message)
    lines = "\n".join(table())
    return f"{before}{begin}\n{lines}\n\n{end}{after}"


def main() -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", type=Path, metavar="FILE", help="write the table into FILE")
    choice.add_argument("--check", type=Path, metavar="FILE", help="exit 1 if FILE differs")
    arguments = parser.parse_args()
    path: Path = arguments.write or arguments.check
    text = path.read_text("utf-8")
    if arguments.write is not None:
        path.write_text(page(text), "utf-8")
    elif page(text) != text:
        sys.stderr.write(f"{path} is out of date; write it again with: make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
