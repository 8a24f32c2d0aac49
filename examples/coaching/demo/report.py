"""Shows the page's figures as two short tables, and one trace as a tree."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from rich.tree import Tree

from otel_coach.cli.top.tables import tables
from otel_coach.prometheus.readings import Interval, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table

    from tests.support.otlp import ReceivedSpan

_WIDTH: Final = 80


def figures_tables(page: str) -> list[Table]:
    """Returns the tables of `otel-coach top` that matter most, for 80 columns.

    Columns that do not fit are left to that command, which continues them in further tables.
    """
    return [
        table
        for table in tables([Interval(Reading(page, 0.0))], _WIDTH)
        if table.title in {"AI requests", "Models"}
    ]


def trace_tree(spans: Iterable[ReceivedSpan], root: ReceivedSpan) -> Tree:
    """Returns `root` and the spans below it as a tree."""
    children: dict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span)
    tree = Tree(_line(root))
    _grow(tree, root, children)
    return tree


def _grow(tree: Tree, span: ReceivedSpan, children: Mapping[str, list[ReceivedSpan]]) -> None:
    for child in children.get(span.span_id, ()):
        _grow(tree.add(_line(child)), child, children)


def _line(span: ReceivedSpan) -> str:
    tokens = [
        f"{span.attributes[key]} {word}"
        for key, word in (
            ("gen_ai.usage.input_tokens", "in"),
            ("gen_ai.usage.output_tokens", "out"),
        )
        if key in span.attributes
    ]
    details = [f"{(span.end - span.start) / 1e6:.1f} ms", *tokens, *["ERROR"] * span.is_error]
    return f"{span.name}  [dim]{', '.join(details)}[/dim]"
