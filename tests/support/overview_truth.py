"""The overview's figures, worked out of the plain page by the tests themselves.

What a browser or a terminal shows is text, rounded to some digits; `differences` tells where it is
not the figure of the page. Nothing here uses the overview's own definitions.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

HTTP = "http_server_request_duration_seconds"
AI = "app_ai_request_duration_seconds"
CHUNK = "app_ai_time_to_first_chunk_seconds"
OPEN = "app_ai_streams_active"
ABANDONED = "app_ai_abandoned_cost_usd_total"
CALLS = "agent_llm_requests_total"
LATENCY = "agent_llm_latency_seconds"
TOKEN = "agent_llm_time_to_first_token_seconds"
TOKENS = "agent_llm_tokens_total"
COST = "agent_llm_cost_usd_total"
UNMEASURED = "agent_llm_unmeasured_total"
EMBEDDINGS = "agent_embedding_requests_total"
EMBEDDING_TIME = "agent_embedding_latency_seconds"
TOOLS = "agent_tool_calls_total"
TOOL_TIME = "agent_tool_latency_seconds"
PROBES = "dependency_latency_seconds"
REFUSED, LIMITED = "auth_failures_total", "rate_limit_hits_total"


def total(name, **where):
    return lambda now, _before, row: now.sum(name, **row, **where)


def known(name):
    """A cost or a gauge that no sample tells is unknown, not 0."""
    return lambda now, _before, row: now.sum(name, **row) if now.has(name, **row) else None


def starts(name, digit):
    return lambda now, _before, row: sum(
        value for labels, value in now.of(name, **row) if labels["status"].startswith(digit)
    )


def increase(name, per=1):
    """`per` times what was counted between the pages; unknown without samples, or a page before."""

    def found(now, before, row):
        if before is None or not now.has(name, **row):
            return None
        return Rate(per * (now.sum(name, **row) - before.sum(name, **row)))

    return found


def share(name, of):
    def found(now, _before, row):
        whole = now.sum(of, **row)
        return now.sum(name, **row) / whole if whole and now.has(name, **row) else None

    return found


def quantile(share_of_all, name):
    def found(now, before, row):
        bounds = {float(labels["le"]) for labels, _ in now.of(f"{name}_bucket", **row)}
        if not bounds:
            return None
        counts = [(bound, counted(now, name, row, bound)) for bound in sorted(bounds)]
        lately = (
            [(bound, n - counted(before, name, row, bound)) for bound, n in counts]
            if before
            else []
        )
        return interpolated(share_of_all, lately if lately and lately[-1][1] else counts)

    return found


def counted(page, name, row, bound):
    return sum(
        value for labels, value in page.of(f"{name}_bucket", **row) if float(labels["le"]) == bound
    )


def interpolated(share_of_all, counts):
    rank = share_of_all * counts[-1][1]
    if not rank:
        return None
    for (low, before), (high, upto) in pairwise([(0.0, 0.0), *counts]):
        if upto >= rank:
            return (
                low
                if high == float("inf")
                else low + (high - low) * (rank - before) / (upto - before)
            )
    return None


FIGURES = {
    "Service": {
        "requests/s": increase(f"{HTTP}_count"),
        "AI requests/s": increase(f"{AI}_count"),
        "streams open": known(OPEN),
        "tokens/s": increase(TOKENS),
        "USD/h": increase(COST, 3600),
        "USD/AI request": share(COST, f"{AI}_count"),
        "USD": known(COST),
        "USD abandoned": known(ABANDONED),
        "401, 403": total(REFUSED),
        "429": total(LIMITED),
    },
    "AI requests": {
        "all": total(f"{AI}_count"),
        "/s": increase(f"{AI}_count"),
        "ok": total(f"{AI}_count", status="ok"),
        "error": total(f"{AI}_count", status="error"),
        "aborted": total(f"{AI}_count", status="aborted"),
        "p50": quantile(0.5, AI),
        "p95": quantile(0.95, AI),
        "1st chunk": quantile(0.5, CHUNK),
        "open": known(OPEN),
        "USD abandoned": known(ABANDONED),
    },
    "Models": {
        "calls": total(CALLS),
        "embeddings": total(EMBEDDINGS),
        "error": total(CALLS, status="error"),
        "p50": quantile(0.5, LATENCY),
        "p95": quantile(0.95, LATENCY),
        "1st token": quantile(0.5, TOKEN),
        "tokens/s": increase(TOKENS),
        "USD": known(COST),
        "USD/h": increase(COST, 3600),
        "USD/call": share(COST, CALLS),
        "unmeasured": total(UNMEASURED),
    },
    "Embeddings": {
        "calls": total(EMBEDDINGS),
        "error": total(EMBEDDINGS, status="error"),
        "p50": quantile(0.5, EMBEDDING_TIME),
        "p95": quantile(0.95, EMBEDDING_TIME),
    },
    "Tools": {
        "calls": total(TOOLS),
        "error": total(TOOLS, status="error"),
        "p50": quantile(0.5, TOOL_TIME),
        "p95": quantile(0.95, TOOL_TIME),
    },
    "HTTP requests": {
        "all": total(f"{HTTP}_count"),
        "/s": increase(f"{HTTP}_count"),
        "4xx": starts(f"{HTTP}_count", "4"),
        "5xx": starts(f"{HTTP}_count", "5"),
        "p50": quantile(0.5, HTTP),
        "p95": quantile(0.95, HTTP),
        "401, 403": total(REFUSED),
        "429": total(LIMITED),
    },
    "Dependencies": {
        "up": known("dependency_up"),
        "p95": quantile(0.95, PROBES),
        "failed probes": total(f"{PROBES}_count", status="error"),
    },
    "Not measured, or lost": {
        "calls of models": total(UNMEASURED),
        "labels": total("otel_coach_label_overflow_total"),
        "telemetry": total("otel_coach_lost_total"),
        "faults": total("otel_coach_errors_total"),
    },
}
ROWS = {
    "Service": (None, ()),
    "AI requests": ("endpoint", (f"{AI}_count", OPEN, ABANDONED)),
    "Models": ("model", (CALLS, EMBEDDINGS, TOKENS, COST, UNMEASURED)),
    "Embeddings": ("model", (EMBEDDINGS,)),
    "Tools": ("tool_name", (TOOLS,)),
    "HTTP requests": ("endpoint", (f"{HTTP}_count", REFUSED, LIMITED)),
    "Dependencies": ("dependency_name", ("dependency_up", f"{PROBES}_count")),
    "Not measured, or lost": (
        "error_type",
        (
            *(UNMEASURED, "otel_coach_label_overflow_total"),
            *("otel_coach_lost_total", "otel_coach_errors_total"),
        ),
    ),
}


class Rate(NamedTuple):
    """What was counted in a time that only the program that shows it knows."""

    counted: float


class Samples:
    def __init__(self, text):
        self._of = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._of.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, name, **row):
        return [
            (labels, value)
            for labels, value in self._of.get(name, ())
            if all(labels.get(label) == wanted for label, wanted in row.items())
        ]

    def sum(self, name, **row):
        return sum(value for _, value in self.of(name, **row))

    def has(self, name, **row):
        return bool(self.of(name, **row))


def expected(text, before=None):
    """The figures of the page as {section: {row: {title: number, Rate or None}}}.

    Without the page before, there are no columns of rates.
    """
    now, before = Samples(text), None if before is None else Samples(before)
    return {
        section: {
            name: {
                title: figure(now, before, {label: name} if label else {})
                for title, figure in FIGURES[section].items()
                if before is not None or figure.__qualname__.partition(".")[0] != "increase"
            }
            for name in names
        }
        for section, (label, families) in ROWS.items()
        if (names := _names(now, label, families))
    }


def _names(page, label, families):
    """The rows: whatever has been counted, and every dependency, also one that is down."""
    if label is None:
        return {""}
    return {
        labels[label]
        for name in families
        for labels, value in page.of(name)
        if value > 0 or name == "dependency_up"
    }


UNITS = {"k": 1e3, "M": 1e6, " ms": 1e-3, " s": 1.0, "": 1.0}


def number(text):
    """The number that is shown, and half of its last digit; None for `-`."""
    if text == "-":
        return None
    digits, unit = re.fullmatch(r"([\d.]+)(k|M| ms| s|)", text).groups()
    _, _, decimals = digits.partition(".")
    exact = not unit and not decimals  # a count that is shown in full
    return float(digits) * UNITS[unit], 0.0 if exact else 0.5001 * 10.0 ** -len(decimals) * UNITS[
        unit
    ]


def is_shown(text, figure, seconds):
    """Whether `text` is `figure`; a rate is over `seconds`, of which half a second is unknown."""
    found = number(text)
    if found is None or figure is None:
        return found is None and figure is None
    value, half = found
    if isinstance(figure, Rate):
        least, most = figure.counted / (seconds + 0.5), figure.counted / (seconds - 0.5)
        half = max(half, 0.5001 if value >= 1000 else 0)  # then it may have no decimals
        return least - half <= value <= most + half
    return abs(value - figure) <= half + 1e-9


def differences(shown, text, before=None, seconds=0):
    """What is not shown as the page says it; `shown` as {section: {row: {title: text}}}."""
    truth = {
        (section, row, title): figure
        for section, rows in expected(text, before).items()
        for row, figures in rows.items()
        for title, figure in figures.items()
    }
    texts = {
        (section, row, title): cell
        for section, rows in shown.items()
        for row, cells in rows.items()
        for title, cell in cells.items()
    }
    missing = [f"{place} is on one of both only" for place in sorted(truth.keys() ^ texts.keys())]
    return missing + [
        f"{place}: {texts[place]!r} is not {figure}"
        for place, figure in truth.items()
        if place in texts and not is_shown(texts[place], figure, seconds)
    ]
