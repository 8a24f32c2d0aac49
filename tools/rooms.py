"""Counts the rooms of otel_coach, the arrows between them and the circles, from its imports.

A room is a package folder, or a module at the top; inside of instrumentors/ each entry is one, but
for base.py, which all of them share. An arrow is an import of one room by another, for annotations
too. `make rooms` prints them.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "otel_coach"
_INSTRUMENTORS: Final = "instrumentors"


def modules() -> Iterator[tuple[str, Path]]:
    """Each module's name and file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def room_of(module: str) -> str:
    """The room in which a module, or a name imported from one, lies; `otel_coach` itself is ``.

    Example:
        room_of("otel_coach.instrumentors.asgi.routes") is "instrumentors.asgi".
    """
    parts = module.split(".")[1:]
    if parts[:1] == [_INSTRUMENTORS] and len(parts) > 1 and parts[1] != "base":
        # Names that the package's own __init__ defines are the package's.
        place = PACKAGE / _INSTRUMENTORS / parts[1]
        if place.is_dir() or place.with_suffix(".py").exists():
            return ".".join(parts[:2])
    place = PACKAGE / (parts[0] if parts else "")
    return parts[0] if parts and (place.is_dir() or place.with_suffix(".py").exists()) else ""


def imports(path: Path, *, for_types: bool = False) -> Iterator[str]:
    """What a file imports, with the name that it takes; with `for_types` also for annotations."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[int] = set()
    if not for_types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = {}
    for module, path in modules():
        room = room_of(module)
        targets = {
            room_of(name)
            for name in imports(path, for_types=True)
            if name.split(".")[0] == PACKAGE.name
        }
        found.setdefault(room, set()).update(targets - {room, ""})
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A way through `graph` that ends where it began; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def main() -> int:
    """Exit code 1 if there is a circle."""
    graph = arrows()
    for room, targets in sorted(graph.items()):
        sys.stdout.write(f"{room or 'otel_coach':30} -> {', '.join(sorted(targets))}\n")
    count = sum(map(len, graph.values()))
    found = circle(graph)
    sys.stdout.write(f"{len(graph)} rooms, {count} arrows, circle: {found or 'none'}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
