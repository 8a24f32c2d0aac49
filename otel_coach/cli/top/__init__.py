"""Show live figures of running services in the terminal: requests, tokens, cost, failures.

Reads the metrics page of each URL, and adds the services' figures up. Needs
`pip install 'otel-coach[cli]'`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor.fetch import LONGEST, PageError, fetched, is_ours, shown, unreadable
from otel_coach.cli.terminal import say, within
from otel_coach.configuration.environment_variables import OTEL_COACH_METRICS_TOKEN
from otel_coach.configuration.process import process_environment
from otel_coach.prometheus.overview import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES: Final = """\
  otel-coach top http://localhost:8000/metrics              q quits, p pauses, s sorts
  otel-coach top http://a:8000/metrics http://b:8000/metrics
  otel-coach top --once http://localhost:8000/metrics       print the tables, and exit

OTEL_COACH_METRICS_TOKEN is sent to each URL. NO_COLOR=1 takes the colours away."""
_SHORTEST: Final = 0.5
"""Seconds between two readings of a page."""


class UnreadableError(Exception):
    """A page cannot be read; the message says why, and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the URLs, `--once` and `--every`."""
    parser.add_argument("url", nargs="+", help="the metrics page of a running service")
    parser.add_argument(
        "--once",
        action="store_true",
        help="print the tables, and exit; so it does where there is no terminal",
    )
    parser.add_argument(
        "--every", type=_seconds, default=2.0, metavar="SECONDS", help="between readings: 2"
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0; 1 if a page cannot be read, 2 if the extra is not installed."""
    try:
        from otel_coach.cli.top import live, tables  # noqa: PLC0415 - needs the extra [cli]
    except ImportError as error:
        say(f"otel-coach top needs {error.name}. Cure: pip install 'otel-coach[cli]'", sys.stderr)
        return 2
    try:
        first = read(arguments.url)
    except UnreadableError as error:
        say(str(error), sys.stderr)
        return 1
    if arguments.once or not sys.stdout.isatty():
        tables.print_once(first)
    else:
        live.Live(arguments.url, first, arguments.every).run()
    return 0


def read(urls: Sequence[str]) -> Reading:
    """Returns what the pages at `urls` say now.

    Raises:
        UnreadableError: one of them cannot be read.
    """
    at = time.monotonic()
    texts = [_text(url) for url in urls]
    try:
        return Reading(texts, at)
    except Exception:  # noqa: BLE001 - what parsing an untrusted page raises
        message = f"{', '.join(map(shown, urls))}: not in Prometheus' text format"
        raise UnreadableError(message) from None


def _text(url: str) -> str:
    token = process_environment().get(OTEL_COACH_METRICS_TOKEN)
    try:
        text = within(LONGEST, lambda: fetched(url, token, "URL")).text
    except PageError as error:
        finding = error.finding
    except Exception as error:  # noqa: BLE001 - what reading an untrusted answer raises
        finding = unreadable(url, error)
    else:
        if is_ours(text):
            return text
        message = (
            f"{shown(url)} is not otel-coach's page. Cure: otel-coach doctor --url {shown(url)}"
        )
        raise UnreadableError(message)
    message = f"{finding.what}. Cure: {finding.cure}"
    raise UnreadableError(message)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST <= seconds <= math.inf:
        message = f"at least {_SHORTEST:g} seconds, not {text}"
        raise argparse.ArgumentTypeError(message)
    return seconds
