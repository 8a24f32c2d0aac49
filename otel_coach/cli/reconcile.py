"""Compare what a provider billed with what otel-coach counted, model by model."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Final

from otel_coach.cli.reconciliation import exports, pages, prometheus_api, report
from otel_coach.cli.reconciliation.comparison import compare
from otel_coach.cli.reconciliation.figures import InputError, unix_seconds, utc_text
from otel_coach.cli.reconciliation.over_http import PROMETHEUS_OPTION
from otel_coach.cli.terminal import printable, say
from otel_coach.settings import Settings

if TYPE_CHECKING:
    from otel_coach.cli.reconciliation.figures import Counted, Invoice

_TOLERANCE: Final = 0.01
_BEYOND: Final = 1
_UNUSABLE: Final = 2

EXAMPLES: Final = """\
  curl -G https://api.openai.com/v1/organization/usage/completions -d group_by=model \\
    -d start_time=1795824000 -d end_time=1795910400 \\
    -H "Authorization: Bearer $OPENAI_ADMIN_KEY" > usage.json
  otel-coach reconcile usage.json --prometheus http://localhost:9090 --selector 'job="coach"'
  otel-coach reconcile usage.json costs.json --page http://localhost:8000/metrics --since before.txt

exit codes: 0 within the tolerance; 1 beyond it; 2 an input cannot be used. docs/reconcile.md says
how to get an export, and what to do about a difference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the provider's files, the source of our figures, and the tolerance."""
    parser.add_argument(
        "usage",
        nargs="+",
        metavar="USAGE",
        help="a file of the provider's export: OpenAI's organisation usage (completions, "
        "embeddings) or costs, Anthropic's usage or cost report (JSON), or CSV with the columns "
        "model,day,input_tokens,output_tokens,usd",
    )
    parser.add_argument(
        "--page",
        action="append",
        default=[],
        metavar="PAGE",
        help="our metrics page at the end of the time: a URL, to which OTEL_COACH_METRICS_TOKEN is "
        "sent, or a file; once for each replica of the service",
    )
    parser.add_argument(
        "--since",
        action="append",
        default=[],
        metavar="PAGE",
        help="the same page at the beginning; without it, a page counts from the service's start",
    )
    parser.add_argument(
        PROMETHEUS_OPTION,
        metavar="URL",
        help="a Prometheus that scrapes the service, instead of pages",
    )
    parser.add_argument(
        "--selector", default="", metavar="MATCHERS", help='label matchers there: job="coach"'
    )
    parser.add_argument(
        "--from",
        dest="begin",
        type=_time,
        metavar="TIME",
        help="when the time begins (2026-11-28T00:00Z or Unix seconds); default: the export's",
    )
    parser.add_argument(
        "--to", dest="end", type=_time, metavar="TIME", help="when it ends; default: the export's"
    )
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        type=_alias,
        metavar="LABEL=NAME",
        help="the provider's NAME is our model LABEL, where the names do not show it",
    )
    parser.add_argument(
        "--models",
        action="append",
        default=[],
        metavar="PATTERN",
        help="compare these models only: 'gpt-*'",
    )
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=_TOLERANCE,
        metavar="SHARE",
        help=f"by how much a model or the total may differ; default {_TOLERANCE}, which is 1%%",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0, 1 beyond the tolerance, 2 if an input cannot be used."""
    try:
        _check(arguments)
        invoice = exports.read(arguments.usage)
        counted = _counted(arguments, invoice)
        comparison = compare(
            invoice,
            counted,
            tolerance=arguments.tolerance,
            aliases={name: label for label, name in arguments.alias},
            patterns=arguments.models,
        )
    except InputError as error:
        say(str(error), sys.stderr)
        return _UNUSABLE
    if arguments.json:
        print(report.as_json(comparison, invoice, counted))
    else:
        for line in report.lines(comparison, invoice, counted):
            say(line)
    return _BEYOND if comparison.beyond else 0


def _check(arguments: argparse.Namespace) -> None:
    if bool(arguments.page) == (arguments.prometheus is not None):
        message = "name where our figures are: either --page (a URL or a file) or --prometheus URL"
        raise InputError(message)
    if arguments.since and not arguments.page:
        message = "--since goes with --page; with --prometheus, use --from and --to"
        raise InputError(message)
    given = (arguments.begin, arguments.end, arguments.selector or None)
    if arguments.page and any(one is not None for one in given):
        message = "--from, --to and --selector go with --prometheus; with --page, use --since"
        raise InputError(message)


def _counted(arguments: argparse.Namespace, invoice: Invoice) -> Counted:
    begin, end = invoice.span
    if arguments.page:
        token = Settings.from_env().metrics_token
        return pages.read(arguments.page, arguments.since, token, begin)
    asked_begin = begin if arguments.begin is None else arguments.begin
    asked_end = end if arguments.end is None else arguments.end
    found = prometheus_api.read(arguments.prometheus, arguments.selector, asked_begin, asked_end)
    if (asked_begin, asked_end) != (begin, end):
        found.notes.append(
            f"the export is of {utc_text(begin)} to {utc_text(end)}, which is not the time of our "
            "figures"
        )
    return found


def _time(text: str) -> float:
    try:
        return unix_seconds(text)
    except ValueError:
        message = f"{printable(text)} is no time; write 2026-11-28T00:00Z or Unix seconds"
        raise argparse.ArgumentTypeError(message) from None


def _alias(text: str) -> tuple[str, str]:
    label, equals, name = text.partition("=")
    if not (label and equals and name):
        message = f"{printable(text)} is not LABEL=NAME"
        raise argparse.ArgumentTypeError(message)
    return label, name


def _tolerance(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not (math.isfinite(share) and share >= 0):
        message = f"{printable(text)} is no share; write 0.01 for 1%"
        raise argparse.ArgumentTypeError(message)
    return share
