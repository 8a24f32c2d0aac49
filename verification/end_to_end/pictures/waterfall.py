"""A trace as a page: each span with its time, tokens, cost and outcome."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from genai_prices import Usage, calc_price

if TYPE_CHECKING:
    from verification.end_to_end.jaeger import Span, Trace

_COLORS: Final = {
    "POST": "#4c72b0",
    "invoke_agent": "#8172b3",
    "chat": "#55a868",
    "execute_tool": "#dd8452",
}
_OTHER: Final = "#937860"
_NUMBERS: Final = ("ms", "tokens in", "tokens out", "USD")
_STYLE: Final = """
body { margin: 0; background: #fff; color: #24292f; font: 14px sans-serif; }
table { border-collapse: collapse; width: 1320px; margin: 12px; }
caption { text-align: left; font-weight: 600; padding: 8px; }
th, td { padding: 5px 8px; text-align: left; white-space: nowrap; }
tr { border-bottom: 1px solid #d8dee4; }
th { font-size: 12px; color: #57606a; font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { width: 420px; position: relative; }
td.bar i { position: absolute; top: 7px; height: 16px; border-radius: 2px; min-width: 2px; }
.ok { color: #1a7f37; } .error { color: #cf222e; }
"""


def waterfall(trace: Trace) -> str:
    """Returns the page."""
    root = trace.roots[0]
    rows = "".join(_row(span, depth, root) for depth, span in trace.walk())
    numbers = "".join(f'<th class="number">{title}</th>' for title in _NUMBERS)
    head = f"<th>span</th><th></th>{numbers}<th>outcome</th>"
    name = escape(root.name)
    return (
        f'<!doctype html><meta charset="utf-8"><style>{_STYLE}</style>'
        f"<table><caption>{name}, trace {trace.trace_id}</caption><tr>{head}</tr>{rows}</table>"
    )


def _row(span: Span, depth: int, root: Span) -> str:
    left = 100 * (span.start - root.start) / root.duration
    width = 100 * span.duration / root.duration
    color = _COLORS.get(span.name.split()[0], _OTHER)
    numbers = (
        f"{span.duration / 1000:.1f}",
        _text(span, "gen_ai.usage.input_tokens"),
        _text(span, "gen_ai.usage.output_tokens"),
        _dollars(span),
    )
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    outcome = "error" if span.is_error else "ok"
    told = _text(span, "error.type") or _text(span, "http.response.status_code") or outcome
    return (
        f'<tr><td style="padding-left: {8 + 22 * depth}px">{escape(span.name)}</td>'
        f'<td class="bar"><i style="left: {left:.2f}%; width: {width:.2f}%;'
        f' background: {color}"></i></td>{cells}<td class="{outcome}">{escape(told)}</td></tr>'
    )


def _text(span: Span, key: str) -> str:
    return str(span.tags.get(key, ""))


def _dollars(span: Span) -> str:
    """What the call costs; no span says so, as prices change and spans do not."""
    model, prompt = _text(span, "gen_ai.response.model"), _text(span, "gen_ai.usage.input_tokens")
    if not model or not prompt:
        return ""
    completion = int(_text(span, "gen_ai.usage.output_tokens") or 0)
    usage = Usage(input_tokens=int(prompt), output_tokens=completion)
    return f"{calc_price(usage, model, provider_id='openai').total_price:.6f}"
