"""Print the metrics as a Markdown page, or check a file against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import generated_page
from otel_coach.cli.generated_page import add_arguments
from otel_coach.configuration.names import pinned_variable
from otel_coach.metrics.catalogue import CATALOGUE, SECONDS, InstrumentKind, Metric
from otel_coach.metrics.labels import (
    DEFAULT_BUDGETS,
    INSTRUMENT,
    INSTRUMENT_LINES,
    LABEL_SET,
    LABEL_SETS_PER_ENDPOINT,
    LABEL_SETS_PER_METHOD,
    LIMITS,
    OTHER,
    OTHER_METHOD,
)
from otel_coach.metrics.series_bound import max_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLES: Final = """\
  otel-coach metrics > metrics.md              each metric, its labels and buckets
  otel-coach metrics --check FILE"""


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    return generated_page.run(arguments, markdown())


def markdown() -> Iterator[str]:
    """Yields the lines of docs/metrics.md."""
    yield "# Metrics"
    yield ""
    yield "Generated from `otel_coach/metrics/catalogue.py` by `make docs`; do not edit."
    yield ""
    yield "| Prometheus name | type | labels | what it measures |"
    yield "|---|---|---|---|"
    for metric in CATALOGUE:
        yield _row(metric)
    yield ""
    yield "Every series of a family carries all of the family's labels. In OpenTelemetry the names"
    yield "are written with dots and without the unit:"
    yield f"`{CATALOGUE[0].prometheus_name}` is `{CATALOGUE[0].name}`."
    yield ""
    yield from _MEANINGS
    yield ""
    yield "## At 0 from the start"
    yield ""
    for metric in CATALOGUE:
        if metric.zeros:
            values = ", ".join("/".join(value or '""' for value in row) for row in metric.zeros)
            yield f"- `{metric.prometheus_name}`: {' / '.join(metric.labels)} = {values}"
    yield ""
    yield "## Buckets, in seconds"
    yield ""
    for metric in CATALOGUE:
        if metric.kind is InstrumentKind.HISTOGRAM:
            buckets = ", ".join(f"{bound:g}" for bound in metric.buckets)
            yield f"- `{metric.prometheus_name}`: {buckets}"
    yield ""
    yield from _bounds()


def _bounds() -> Iterator[str]:
    yield "## Labels and their budgets"
    yield ""
    yield f"If a label's budget is full, its further values are counted as `{OTHER}`, so that sums"
    yield "stay right; `otel_coach_label_overflow_total` counts how often. otel-coach's own values"
    yield "(`none`, `unmatched`, `stream`, the auth reasons ...) use no slots of a budget. A value"
    yield f"longer than 200 characters or with control characters is `{OTHER}` too. Slots go to the"
    yield "values that you list, then to the routes and dependencies that are known from the start,"
    yield "then to others as they arrive. The workers of a service share their budgets."
    yield ""
    yield "| label | values | set with | always have a slot |"
    yield "|---|---|---|---|"
    for label, budget in DEFAULT_BUDGETS.items():
        pinned = pinned_variable(label)
        yield f"| {label} | {budget} | `OTEL_COACH_BUDGET_{label.upper()}` | `{pinned}` |"
    yield ""
    yield from _LIMITS
    yield ""
    yield "## The maximum number of series"
    yield ""
    yield "With the default budgets, whatever the requests, over all workers of a service:"
    yield ""
    yield "| metric | lines on the page |"
    yield "|---|---|"
    for metric in CATALOGUE:
        yield f"| `{metric.prometheus_name}` | {max_lines(metric):,} |"
    others = LIMITS[INSTRUMENT_LINES]
    yield f"| all instruments other than otel-coach's | {others:,} |"
    yield f"| all | {others + sum(map(max_lines, CATALOGUE)):,} |"


_METHOD_SLOTS: Final = ", ".join(
    f"{count} of {kind}xx" for kind, count in LABEL_SETS_PER_METHOD.items()
)
_LIMITS: Final = f"""\
The labels of one metric together may have {LIMITS[LABEL_SET]:,} combinations of values
(`OTEL_COACH_BUDGET_LABEL_SET`). In further combinations every label but `status` and `method` is
`{OTHER}`; a metric without a method also keeps its first label if you list its value or the
application declares it (an endpoint, a model, a tool). Unexpected requests cannot use up the
combinations of the routes that the application declares: each method that a route answers has slots
of its own ({_METHOD_SLOTS}); together, all routes
get at most {LABEL_SETS_PER_ENDPOINT} times the budget of endpoints. A method that a route does not
answer is `{OTHER_METHOD}`, and so is the method of any 405; a CORS preflight is `OPTIONS`.

All other instruments (your own meters, contrib instrumentations) keep only the labels of the table,
each with budgets of its own; past {LIMITS[INSTRUMENT]} instruments
(`OTEL_COACH_BUDGET_INSTRUMENT`) further ones are not measured. Together they may take
{LIMITS[INSTRUMENT_LINES]:,} lines on the page (`OTEL_COACH_BUDGET_INSTRUMENT_LINES`), over all
workers; past that, their further series are added to the instrument's series without labels, and
further instruments are not measured. `OTEL_COACH_ADMIT_LABELS` admits labels of your own to your
instruments: `jobs.done:queue,jobs.done:region:100` (20 values if no number is given).\
""".splitlines()

_MEANINGS: Final = """\
## What the labels say

- **endpoint**: the route's template with prefix and mount; `/static/{path}` below a mount without
  routes of its own; `unmatched` if no route matches; for a 405 the route whose path matched.
- **model**: the requested model; on `app_ai_*` that of the request's first LLM call; `none` if no
  model was called.
- **mode**: from `otel_coach.labels(mode=...)`, else the run's metadata or configurable `mode`,
  else the graph input's `mode`; a short identifier. If none is given: `stream` or `invoke`. On
  `agent_llm_tokens_total`: `prompt`, `completion` or `embedding`.
- **status**: for AI work `ok`, `error` or `aborted`; for HTTP the status code, or `499` if the
  client disconnected before there was one. An AI request is aborted if the client disconnected
  before the end of the body. It is an error if an exception ended it, if the response is a 5xx, or
  if the last-started of its outermost runs failed, even if the response is a 200. The AI status and
  the HTTP status differ if a client leaves before a plain (JSON) answer: the application goes on
  and answers, so the HTTP status is what it answered, but nobody got it: the AI request is aborted.
  With OTEL_COACH_STOP_ABANDONED its work is cancelled instead, and the HTTP status is `499`.
- **A WebSocket** has an AI request for each turn: from the message of the client after which AI
  work began, until the outermost run has ended and its answer is sent. Chunks are the messages
  to the client. The turn is aborted if the client left before its run ended. Where messages go
  through a queue, a turn ends a tenth of a second after its last message, or half a minute after
  its work if it sends none; of several messages that wait in such a queue, only the newest has a
  turn of its own. A handshake that is refused counts as an HTTP answer does, with method GET, and
  status 403 where it was closed before it was accepted; no WebSocket is in
  `http_server_request_duration_seconds`.
- **error_type**: the class of the exception that the callback received, empty if nothing failed;
  on `auth_failures_total` the RFC 6750 error, `missing_credentials` or `rejected`. On
  `otel_coach_lost_total` it says where telemetry was lost; the value counts the spans, points or
  records that no back end confirmed: `spans_queue_full` (spans were made faster than the back end
  accepted them), `spans_export`, `metrics_export` (the points of a push that failed; the next push
  contains their sums), `logs_export` (including a full queue). Exporters do not report partial
  success.\
""".splitlines()


def _row(metric: Metric) -> str:
    labels = ", ".join(metric.labels)
    unit = " (s)" if metric.unit == SECONDS else ""
    return f"| `{metric.prometheus_name}` | {metric.kind.value}{unit} | {labels} | {metric.help} |"


__all__ = ["add_arguments", "markdown", "run"]
