"""Reads otel-coach's counters from metrics pages: URLs, or files with a page's text."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from otel_coach.cli.reconciliation.counters import FAULTS, NAMES, Rise, counted
from otel_coach.cli.reconciliation.exports import file_text
from otel_coach.cli.reconciliation.figures import InputError, utc_text
from otel_coach.cli.reconciliation.over_http import (
    MAX_BYTES,
    is_address,
    name_of,
    not_our_page,
    page_text,
    read_within,
)
from otel_coach.cli.terminal import within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_coach.cli.reconciliation.figures import Counted

MAX_SECONDS: Final = 10.0
"""Seconds in which a page must have been read completely."""
_START: Final = "process_start_time_seconds"
_FAMILIES: Final = "|".join(name.removesuffix("_total") for name in NAMES)
_LINES: Final = re.compile(
    rf"(?:# (?:TYPE|HELP|UNIT) )?(?:(?:{_FAMILIES})(?:_total)?|{_START})[ {{]", re.ASCII
)
_PID: Final = re.compile(r'^\w+\{(?:[^}\n]*,)?pid="(\d+)"', re.ASCII | re.MULTILINE)
"""The label with the worker's process id, which the page adds to gauges of the application."""
_OPENMETRICS_END: Final = "# EOF"


class _Counters(NamedTuple):
    """What a page says."""

    series: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    began: float | None
    """Unix seconds at which the process that answered was started; None if the page does not tell.
    Counters that workers share may be older."""
    workers: int
    """How many workers the page names. If it names none, there may nevertheless be several."""


def read(ends: Sequence[str], starts: Sequence[str], token: str | None, begin: float) -> Counted:
    """Returns what the pages `ends` counted, minus what the pages `starts` had counted before.

    Without `starts` a page counts from the beginning of its service. `begin` is when the export
    begins, in Unix seconds. A URL gets `token`; see `over_http.page_text`.

    Raises:
        InputError: A page cannot be read, is not otel-coach's, or the numbers of pages differ.
    """
    if starts and len(starts) != len(ends):
        message = (
            f"there are {len(ends)} --page and {len(starts)} --since; name one earlier page for "
            "each page, in the same order"
        )
        raise InputError(message)
    notes: list[str] = []
    rises: list[Rise] = []
    for number, place in enumerate(ends):
        page = _counters(place, token, "--page")
        before = _counters(starts[number], token, "--since") if starts else None
        rises += _rises(name_of(place), page, before, notes)
        notes += _notes(name_of(place), page, None if starts else begin)
    if len(ends) > 1:
        notes.append(f"the figures of {len(ends)} pages are added up")
    names = ", ".join(map(name_of, ends))
    source = f"{names}, since {', '.join(map(name_of, starts))}" if starts else names
    found = counted(source, rises)
    found.notes += notes
    return found


def _rises(
    place: str, page: _Counters, before: _Counters | None, notes: list[str]
) -> Iterator[Rise]:
    earlier = before.series if before is not None else {}
    fell = [key for key, value in earlier.items() if page.series.get(key, 0.0) < value]
    if fell:
        notes.append(
            f"{len(fell)} counters of {place} fell between the two pages: the service was started "
            "again, its workers do not share their figures, or the pages are in the wrong order; "
            "all are counted from 0, and what was counted before the restart is missing"
        )
    for (name, labels), value in page.series.items():
        base = earlier.get((name, labels), 0.0)
        # After a restart all counters begin at 0, also those that have passed their old value.
        yield Rise(name, dict(labels), value if fell else value - base)


def _notes(place: str, page: _Counters, begin: float | None) -> Iterator[str]:
    if page.workers > 1:
        yield f"{place} adds up the figures of {page.workers} workers"
    if begin is None:
        return
    if page.began is not None and page.began > begin:
        yield (
            f"the process that answered for {place} was started at {utc_text(page.began)}, after "
            "the export begins: earlier calls are on no page, unless this process is a worker that "
            "replaced an earlier one; name a page from before (--since), or use --prometheus"
        )
    else:
        yield (
            f"{place} counts from the service's start to now: make sure that it is the export's "
            "span of time, name a page from before (--since), or use --prometheus"
        )


def _counters(place: str, token: str | None, option: str) -> _Counters:
    if is_address(place):
        question = "is the service running, is this its page?"
        text = read_within(MAX_SECONDS, place, question, lambda: page_text(place, token, option))
    else:
        text = file_text(place, MAX_BYTES, "name a file that exists, or an address with http://")
    try:
        found = within(MAX_SECONDS, lambda: _parsed(text))
    except Exception as error:  # noqa: BLE001 - an untrusted page may make a parser raise anything
        message = (
            f"{name_of(place)} is no metrics page that can be read "
            f"({type(error).__name__}); fetch it again, each page by itself"
        )
        raise InputError(message) from None
    if not any(name == FAULTS for name, _ in found.series):
        raise InputError(not_our_page(place))
    return found


def _parsed(text: str) -> _Counters:
    lines = [line for line in text.split("\n") if _LINES.match(line)]
    parse = text_string_to_metric_families
    if _OPENMETRICS_END in text[-100:].split("\n"):
        lines.append(_OPENMETRICS_END)
        parse = openmetrics_families
    series: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    began = None
    for family in parse("\n".join([*lines, ""])):
        for sample in family.samples:
            value = float(sample.value)
            if sample.name == _START:
                began = value
            if sample.name not in NAMES:
                continue
            key = (sample.name, frozenset(sample.labels.items()))
            if key in series or not math.isfinite(value) or value < 0:
                raise ValueError(sample.name)
            series[key] = value
    return _Counters(series, began, len(set(_PID.findall(text))))
