"""Finds out by how much otel-coach's counters rose, by Prometheus' query API.

`increase()` extrapolates to the ends of its range, so it is no exact count. The samples
themselves are read instead (an instant query of a range selector), and their rises are added up.
"""

from __future__ import annotations

import json
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from otel_coach.cli.reconciliation.counters import FAULTS, NAMES, Rise, counted
from otel_coach.cli.reconciliation.figures import InputError, utc_text
from otel_coach.cli.reconciliation.over_http import (
    MAX_BYTES,
    PROMETHEUS_OPTION,
    read_within,
    reply,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.cli.reconciliation.figures import Counted

MAX_SECONDS: Final = 300.0
"""Seconds in which all answers must have been read."""
_STEP: Final = 6 * 3600.0
"""Seconds of samples that one query asks for: some 1,500 of each series."""
_MAX_QUERIES: Final = 400
_LOOKBACK: Final = 300.0
"""Seconds that a sample may be older than the span and still be a counter's value at the span's
beginning; Prometheus' own default."""
_MAX_TEXT: Final = 200

_Key = frozenset[tuple[str, str]]


class _Series:
    """What is known of one series while its samples are read in order."""

    __slots__ = ("is_new", "resets", "rise", "value", "when")

    def __init__(self, *, is_new: bool) -> None:
        self.is_new = is_new
        """Whether it has no sample before the span of time."""
        self.when, self.value = -math.inf, 0.0
        """Those of the last sample."""
        self.rise = 0.0
        self.resets = 0

    def add(self, when: float, value: float, *, counts: bool) -> None:
        if when <= self.when:  # the end of one query and the beginning of the next
            return
        if counts:
            fell = value < self.value
            self.resets += fell
            self.rise += value if fell else value - self.value
        self.when, self.value = when, value


def read(url: str, selector: str, begin: float, end: float) -> Counted:
    """Returns what the counters rose by from `begin` to `end`, in Unix seconds.

    `selector` has further label matchers: `job="coach"`.

    Raises:
        InputError: Prometheus does not answer, rejects the query or has no such series.
    """
    end = min(end, time.time())
    if not begin < end:
        message = (
            f"the span of time from {utc_text(begin)} to {utc_text(end)} is empty; --from comes "
            "before --to, and both before now"
        )
        raise InputError(message)
    if (end - begin) / _STEP > _MAX_QUERIES:
        message = f"{(end - begin) / 86400:.0f} days are too many; export at most 100 days at once"
        raise InputError(message)
    question = "does Prometheus run there?"
    series = read_within(MAX_SECONDS, url, question, lambda: _samples(url, selector, begin, end))
    if not any(("__name__", FAULTS) in key for key in series):
        wanted = f" with {selector}" if selector else ""
        message = (
            f"{shown(url)} has no metrics of otel-coach{wanted} from {utc_text(begin)} to "
            f"{utc_text(end)}; does it scrape the service, and does its data reach back so far?"
        )
        raise InputError(message)
    source = f"{shown(url)}, {utc_text(begin)} to {utc_text(end)}"
    found = counted(source, _rises(series))
    found.notes += _notes(series)
    return found


def _rises(series: dict[_Key, _Series]) -> Iterator[Rise]:
    for key, one in series.items():
        labels = dict(key)
        yield Rise(labels.pop("__name__", ""), labels, one.rise)


def _notes(series: dict[_Key, _Series]) -> Iterator[str]:
    jobs = _values(series, "job")
    if len(jobs) > 1:
        yield (
            f"the figures of {len(jobs)} jobs are added up ({', '.join(jobs)}): if they are the "
            f"same service, choose one with --selector 'job=\"{jobs[0]}\"'"
        )
    if len(instances := _values(series, "instance")) > 1:
        yield f"the figures of {len(instances)} instances are added up"
    if resets := sum(one.resets > 0 for one in series.values()):
        yield (
            f"{resets} series fell in this time, because a service was started again; they are "
            "counted on from 0, and what was counted between the last scrape and the end of a "
            "process is missing"
        )
    if begun := sum(one.is_new and one.rise > 0 for one in series.values()):
        yield (
            f"{begun} series have no sample in the {_LOOKBACK / 60:g} minutes before this time, "
            "and are counted from 0: if Prometheus began to scrape a service that ran already, "
            "they have too much"
        )


def _values(series: dict[_Key, _Series], label: str) -> list[str]:
    return sorted({value for key in series for name, value in key if name == label})


def _samples(url: str, selector: str, begin: float, end: float) -> dict[_Key, _Series]:
    """Reads all samples, beginning with those before `begin`, from which the counters rise."""
    series: dict[_Key, _Series] = {}
    names = f'__name__=~"{"|".join(NAMES)}"'
    matchers = ",".join(filter(None, (names, selector.strip().strip("{},"))))
    until, width = begin, _LOOKBACK
    while True:
        query = f"{{{matchers}}}[{math.ceil(width * 1000)}ms]"
        for metric, values in _matrix(url, query, until):
            key = frozenset((str(name), str(value)) for name, value in metric.items())
            one = series.setdefault(key, _Series(is_new=until > begin))
            for sample_time, text in values:
                value = float(text)
                if not math.isfinite(value) or value < 0:
                    raise ValueError(text)
                one.add(float(sample_time), value, counts=until > begin)
        if until >= end:
            return series
        width = min(_STEP, end - until)
        until = min(until + _STEP, end)


def _matrix(url: str, query: str, when: float) -> list[tuple[dict[str, str], Sequence[Any]]]:
    """Returns the labels and the samples of each series that `query` finds at that time."""
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/api/v1/query"
    asked = urlunsplit(parts._replace(path=path, query=f"query={quote(query)}&time={when:.3f}"))
    status, body = reply(asked, PROMETHEUS_OPTION, MAX_SECONDS)
    if len(body) > MAX_BYTES:
        message = (
            f"{shown(url)} answers with more than {MAX_BYTES >> 20} MB; name the service's job "
            "with --selector"
        )
        raise InputError(message)
    try:
        answer = json.loads(body)
        refusal = answer.get("error") if answer.get("status") != "success" else None
    except (ValueError, AttributeError, RecursionError):
        answer, refusal = None, None
    if status != HTTPStatus.OK or answer is None or refusal is not None:
        why = f"{status}: {str(refusal)[:_MAX_TEXT]}" if refusal else f"{status} and no JSON"
        message = (
            f"{shown(url)} answers with {why}; give --prometheus the address whose /api/v1/query "
            "is Prometheus' query API, and --selector label matchers"
        )
        raise InputError(message)
    return [(one["metric"], one["values"]) for one in answer["data"]["result"]]
