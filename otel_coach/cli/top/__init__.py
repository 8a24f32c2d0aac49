"""Show live figures of running services in the terminal: requests, tokens, cost, failures.

Reads the metrics page of each URL, and adds up the services' figures; for `up` of a dependency, it
shows the lowest. A service that cannot be read is named, with the cure, and left out.
Needs `pip install 'otel-coach[cli]'`.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor.fetch import MAX_SECONDS, PageError, fetched, is_ours, shown, unreadable
from otel_coach.cli.terminal import printable, say, within
from otel_coach.configuration.process import process_environment
from otel_coach.core.guard import OwnThread
from otel_coach.prometheus.readings import Interval, Reading
from otel_coach.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES: Final = """\
  otel-coach top http://localhost:8000/metrics               q quits, p pauses, s sorts
  otel-coach top http://a:8000/metrics http://b:8000/metrics two services together
  otel-coach top --once http://localhost:8000/metrics        print the tables, and exit
  OTEL_COACH_METRICS_TOKEN=... otel-coach top https://coach.example.com/metrics
  ssh -t host otel-coach top http://localhost:8000/metrics   from another machine

Keys: s sorts the tables by their next column (marked), a shows all rows or the first 12, p pauses,
q quits; the arrow keys scroll. The token is sent to each URL. NO_COLOR=1 takes the colours away.
The exit code is 1 if no URL can be read, or with --once if one of them cannot; else it is 0."""
_MAX_REASON: Final = 200
_SHORTEST: Final = 0.5
"""Seconds between two readings of a page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the URLs, `--once` and `--every`."""
    parser.add_argument("url", nargs="+", help="the metrics page of a running service")
    parser.add_argument(
        "--once",
        action="store_true",
        help="print the tables, and exit; the default where there is no terminal",
    )
    parser.add_argument(
        "--every",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="between two readings; default 2",
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code that `EXAMPLES` states; 2 if the extra is not installed."""
    try:
        from otel_coach.cli.top import live, tables  # noqa: PLC0415 - needs the extra [cli]
    except ImportError as error:
        say(f"otel-coach top needs {error.name}. Cure: pip install 'otel-coach[cli]'", sys.stderr)
        return 2
    first = read([*dict.fromkeys(arguments.url)])  # a URL that is given twice is read once
    readings = [one for one in first.values() if isinstance(one, Reading)]
    if readings and sys.stdout.isatty() and not arguments.once:
        live.Live(first, arguments.every).run()
        return 0
    if readings:
        tables.print_once([Interval(one) for one in readings])
    problems = [one for one in first.values() if isinstance(one, str)]
    for problem in problems:
        say(f"{problem} (its figures are left out)" if readings else problem, sys.stderr)
    return 1 if problems else 0


def read(urls: Sequence[str]) -> dict[str, Reading | str]:
    """Returns by URL what `read_one` does; the pages are read at the same time."""
    found: dict[str, Reading | str] = {}
    threads = [OwnThread(partial(_read_into, found, url), "otel-coach-top") for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {url: found[url] for url in urls}


def _read_into(found: dict[str, Reading | str], url: str) -> None:
    found[url] = read_one(url)


def read_one(url: str) -> Reading | str:
    """Returns what the page at `url` says now, or why it cannot be read and what to do."""
    at = time.monotonic()
    token = Settings.from_env(process_environment()).metrics_token
    try:
        text = within(MAX_SECONDS, lambda: fetched(url, token, "URL")).text
    except PageError as error:
        return str(error.finding)
    except Exception as error:  # noqa: BLE001 - what reading an untrusted answer raises
        return str(unreadable(url, error))
    where = shown(url)
    if not is_ours(text):
        return f"{where} is not otel-coach's page. Cure: otel-coach doctor --url {where}"
    try:
        return Reading(text, at)
    except Exception as error:  # noqa: BLE001 - what parsing an untrusted page raises
        reason = printable(f"{type(error).__name__}: {error}")[:_MAX_REASON]
        return (
            f"{where} is not in Prometheus' text format ({reason}). Cure: "
            f"curl -s {shlex.quote(where)} | promtool check metrics # names the line"
        )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST <= seconds < math.inf:
        message = f"at least {_SHORTEST:g} seconds, not {text}"
        raise argparse.ArgumentTypeError(message)
    return seconds
