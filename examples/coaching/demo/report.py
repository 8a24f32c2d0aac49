"""Shows /metrics as a short table, and one trace as a tree."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.tree import Tree

from otel_coach.metrics.catalogue import CATALOGUE, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_coach.testing import Page
    from tests.support.otlp import ReceivedSpan


def metrics_table(page: Page) -> Table:
    """Returns a table of the catalogue's series that are not 0; histograms as count and mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("/metrics", "labels", "value"):
        table.add_column(column, overflow="fold")
    for metric in CATALOGUE:
        name = metric.prometheus_name
        is_histogram = metric.kind is Kind.HISTOGRAM
        rows = page.samples(f"{name}_count" if is_histogram else name)
        shown = [(labels, value) for labels, value in rows if value or metric.kind is Kind.GAUGE]
        for position, (labels, value) in enumerate(shown):
            text = f"{value:.6g}"
            if is_histogram:
                text = f"{value:.0f} x {1000 * page.sum(f'{name}_sum', **labels) / value:.3g} ms"
            table.add_row("" if position else name, _labels(labels), text)
        if not shown:
            table.add_row(name, "", "0")
    return table


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


def _labels(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value or '-'}" for key, value in sorted(labels.items()))
