"""Print the metrics as a Markdown page, or check a file that holds it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_coach.cardinality import most_series
from otel_coach.catalogue import CATALOGUE, SECONDS, Kind, Metric
from otel_coach.settings import pinned_variable
from otel_coach.vocabulary import (
    DEFAULT_BUDGETS,
    INSTRUMENT,
    INSTRUMENT_LINES,
    LABEL_SET,
    LIMITS,
    OTHER,
    OTHER_METHOD,
    SETS_OF_A_METHOD,
    SETS_OF_AN_ENDPOINT,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to FILE")
    parser.add_argument("--check", type=Path, metavar="FILE", help="exit 1 if FILE is not the page")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0, or 1 if the checked file drifted."""
    page = "\n".join(markdown()) + "\n"
    if arguments.check is not None:
        if arguments.check.exists() and arguments.check.read_text("utf-8") == page:
            return 0
        print(
            f"{arguments.check} is not what the catalogue says; write it again with: make docs",
            file=sys.stderr,
        )
        return 1
    if arguments.write is not None:
        arguments.write.write_text(page, "utf-8")
    else:
        print(page, end="")
    return 0


def markdown() -> Iterator[str]:
    """The lines of docs/metrics.md."""
    yield "# Metrics"
    yield ""
    yield "Generated from `otel_coach/catalogue.py` by `make docs`; do not edit."
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
        if metric.kind is Kind.HISTOGRAM:
            buckets = ", ".join(f"{bound:g}" for bound in metric.buckets)
            yield f"- `{metric.prometheus_name}`: {buckets}"
    yield ""
    yield from _bounds()


def _bounds() -> Iterator[str]:
    yield "## Labels and their budgets"
    yield ""
    yield f"Past its budget a label's further values count as `{OTHER}`, in the label's own column,"
    yield "so that sums stay right; `otel_coach_label_overflow_total` says how often. Values of"
    yield "our own (`none`, `unmatched`, `stream`, the auth reasons ...) take nobody's place. What"
    yield f"is no name (longer than 200 characters, with control characters) is `{OTHER}` too."
    yield "First those have places that you list, then the routes and dependencies that are known"
    yield "from the start, then whoever comes first. Workers of one service share their budgets."
    yield ""
    yield "| label | values | set with | always have a place |"
    yield "|---|---|---|---|"
    for label, budget in DEFAULT_BUDGETS.items():
        pinned = pinned_variable(label)
        yield f"| {label} | {budget} | `OTEL_COACH_BUDGET_{label.upper()}` | `{pinned}` |"
    yield ""
    yield from _LIMITS
    yield ""
    yield "## The most series there can be"
    yield ""
    yield "Whatever comes in, by the default budgets, over all workers of a service:"
    yield ""
    yield "| metric | lines of the page |"
    yield "|---|---|"
    for metric in CATALOGUE:
        yield f"| `{metric.prometheus_name}` | {most_series(metric):,} |"
    others = LIMITS[INSTRUMENT_LINES]
    yield f"| all instruments that are not ours | {others:,} |"
    yield f"| all | {others + sum(map(most_series, CATALOGUE)):,} |"


_OF_A_METHOD: Final = ", ".join(f"{count} of {kind}xx" for kind, count in SETS_OF_A_METHOD.items())
_LIMITS: Final = f"""\
The labels of one metric together may have {LIMITS[LABEL_SET]:,} combinations of values
(`OTEL_COACH_BUDGET_LABEL_SET`); in further ones all but `status` and `method` are `{OTHER}`, and
but for the endpoint, model or tool that you list or the application declares, where a metric
begins with it. What comes first takes nothing from the routes that the application declares: each
method that one answers has places of its own ({_OF_A_METHOD}; {SETS_OF_AN_ENDPOINT} on average
over the budget of endpoints). A method that a route does not answer is `{OTHER_METHOD}`, so is that
of any 405; a CORS preflight is `OPTIONS`.

Instruments that are not ours (your own meters, stock instrumentations) keep the allowed labels
only, each with budgets of its own; past {LIMITS[INSTRUMENT]} instruments
(`OTEL_COACH_BUDGET_INSTRUMENT`) further ones are not measured. All of them together may take
{LIMITS[INSTRUMENT_LINES]:,} lines of the page (`OTEL_COACH_BUDGET_INSTRUMENT_LINES`), over all
workers; past that their further series are added up in the one without labels, and further
instruments are not measured. `OTEL_COACH_ADMIT_LABELS` admits
labels of yours to an instrument of yours: `jobs.done:queue,jobs.done:region:100` (20 values where
no number is given).\
""".splitlines()

_MEANINGS: Final = """\
## What the labels say

- **endpoint**: the route's template with prefix and mount, `/static/{path}` below a mount that
  says no more, `unmatched` for no route; for a 405 the route whose path matched.
- **model**: the model asked for, on `app_ai_*` that of the request's first LLM call; `none` where
  none was reached.
- **mode**: from `otel_coach.labels(mode=...)`, else the run's metadata or configurable `mode`,
  else the graph input's `mode`; a short identifier. Where none is stated: `stream` or `invoke`.
  On `agent_llm_tokens_total`: `prompt` or `completion`.
- **status**: of AI work `ok`, `error` or `aborted`; of HTTP the code, `499` where the client left
  before there was one. An AI request is aborted if the client left before the final body; in
  error if an exception ended it, the answer is 5xx, or the outermost run that started last in it
  failed, also behind a 200.
- **error_type**: the class of the exception that the callback received, empty where nothing
  failed; on `auth_failures_total` the RFC 6750 error, `missing_credentials` or `rejected`. On
  `otel_coach_lost_total` where telemetry was lost, in spans, points or records that no back end
  confirmed: `spans_queue_full` (more spans were made than the back end took), `spans_export`,
  `metrics_export` (the points of a push that failed; the next push has their sums), `logs_export`
  (a full queue, too). An exporter does not tell what a back end accepted in part only.\
""".splitlines()


def _row(metric: Metric) -> str:
    labels = ", ".join(metric.labels)
    unit = " (s)" if metric.unit == SECONDS else ""
    return f"| `{metric.prometheus_name}` | {metric.kind.value}{unit} | {labels} | {metric.help} |"
