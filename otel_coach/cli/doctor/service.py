"""What the page of a running service says: losses, overflows, calls without a price, workers."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.cli.doctor import fetch
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.fetch import Fetched, PageError, excerpt, shown
from otel_coach.cli.doctor.traps import page as traps
from otel_coach.cli.doctor.traps.environment import PRICES_OLD
from otel_coach.cli.terminal import within
from otel_coach.configuration.environment_variables import OTEL_COACH_ADMIT_LABELS
from otel_coach.configuration.names import budget_variable
from otel_coach.core import page_comments
from otel_coach.core import traps as logged
from otel_coach.metrics.cardinality import overflow_text
from otel_coach.metrics.catalogue import (
    CATALOGUE,
    DEPENDENCY_UP,
    ERRORS,
    LABEL_OVERFLOW,
    LLM_UNMEASURED,
    LOST,
    PRICE_LIST_AGE,
)
from otel_coach.metrics.labels import (
    DEFAULT_SIZES,
    ENDPOINT,
    ERROR_TYPE,
    EXTRA_FEE,
    LABEL_SET,
    LABEL_SETS_PER_ENDPOINT,
    LIMITS,
    METHOD,
    MODEL,
    NO_PRICE,
    NO_USAGE,
    OTHER,
    OUR_OWN_VALUES,
    SPANS_QUEUE_FULL,
    spoken,
)
from otel_coach.pricing.listed import OLD_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding
    from otel_coach.metrics.catalogue import Metric

_MAX_FINDINGS: Final = 100
_ADMITTED: Final = "INSTRUMENT:LABEL"
_NEARLY_FULL: Final = 0.8
"""The share of a budget from which on it is worth a warning."""
_MIN_SKEW: Final = 5.0
"""The seconds by which clocks must differ for a warning: the header has whole seconds, and whoever
looks at a trace over several machines does not notice less."""
_VALUE: Final = r'"(?:[^"\\\n]|\\.)*"'
_SAMPLE: Final = re.compile(
    rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{((?:[a-zA-Z_]\w*={_VALUE},?)*)\}})? (\S+)(?: \S+)?", re.ASCII
)
_LABEL: Final = re.compile(rf"([a-zA-Z_]\w*)=({_VALUE})", re.ASCII)
_FAMILY: Final = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) \w+", re.ASCII)
_SIZE: Final = re.compile(r"[1-9][0-9]{0,9}")
_ESCAPES: Final = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_OF_UNMEASURED: Final = {
    NO_USAGE: logged.NO_USAGE,
    NO_PRICE: logged.NO_PRICE,
    EXTRA_FEE: logged.EXTRA_FEE,
}
_BY_PROBE: Final = "otel-coach doctor # in the service's environment: it says why"
_BY_LOG: Final = (
    "grep 'is down' SERVICE.LOG # the service's log names the exception of a check by "
    "watch_dependency; one of OTEL_COACH_DEPENDENCIES is probed by `otel-coach doctor` in the "
    "service's environment"
)
_OF_LOSSES: Final = (
    "the back end rejects them, is unreachable or too slow",
    "otel-coach doctor # in the service's environment: it sends a real export; see its log, too",
)
_OF_THE_QUEUE: Final = (
    "spans are made faster than the back end accepts them",
    (
        "export OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.1 # or "
        "raise OTEL_BSP_MAX_QUEUE_SIZE"
    ),
)


class _Known(NamedTuple):
    """What the samples of a page are judged by."""

    sizes: Mapping[str, int]
    token: str | None
    probed: Collection[str]
    """The dependencies that `otel-coach doctor` can probe itself."""


class Sample(NamedTuple):
    """One line of a page."""

    name: str
    labels: Mapping[str, str]
    value: float


def look(examined: Examined, url: str) -> Iterator[Finding | Fact]:
    """Yields what the page at `url` says, or why there is none."""
    token = examined.settings.metrics_token
    try:
        # Parsing takes time, too: a page may be large, and is untrusted.
        probed = examined.settings.dependencies
        yield from within(fetch.MAX_SECONDS, lambda: [*_look(url, token, probed)])
    except PageError as error:
        yield error.finding
    except Exception as error:  # noqa: BLE001 - an untrusted answer may make a parser raise anything
        yield fetch.unreadable(url, error)


def _look(url: str, token: str | None, probed: Collection[str]) -> Iterator[Finding | Fact]:
    page = fetch.fetched(url, token)
    _check_kind(page, url, token)
    all_samples = [*samples(page.text)]
    if not any(sample.name == ERRORS.prometheus_name for sample in all_samples):
        raise PageError(traps.NOT_METRICS.found(url=shown(url), kind="a damaged page"))
    known = _Known(_sizes(page.text), token, probed)
    findings = [*_comments(page.text, token), *_figures(known, all_samples)]
    if page.skew is not None and abs(page.skew) >= _MIN_SKEW:
        direction = "ahead of" if page.skew > 0 else "behind"
        seconds = f"{abs(page.skew):.0f}"
        findings.append(traps.CLOCK.found(url=shown(url), seconds=seconds, direction=direction))
    yield Fact(f"{shown(url)} is otel-coach's page, {len(page.text):,} characters")
    yield from findings[:_MAX_FINDINGS]
    if (more := len(findings) - _MAX_FINDINGS) > 0:
        yield traps.MORE.found(url=shown(url), count=more)


def _check_kind(page: Fetched, url: str, token: str | None) -> None:
    """Checks that it is otel-coach's page.

    Raises:
        PageError: it is another page, or none.
    """
    if fetch.is_ours(page.text):
        return
    where = shown(url)
    families = list(dict.fromkeys(match[1] for match in _FAMILY.finditer(page.text)))
    if families:
        names = excerpt(", ".join(families[:5]), token)
        raise PageError(traps.OTHER_PAGE.found(url=where, families=names))
    begin = page.text[:200].lstrip().lower()
    kind = excerpt(page.content_type.partition(";")[0].strip(), token) or "no content type"
    if begin.startswith(("<!doctype", "<html")) or "html" in kind:
        kind = "HTML"
    elif begin.startswith(("{", "[")) or "json" in kind:
        kind = "JSON"
    elif not begin:
        kind = "nothing"
    raise PageError(traps.NOT_METRICS.found(url=where, kind=kind))


def _comments(text: str, token: str | None) -> Iterator[Finding]:
    rows = (
        (page_comments.ALONE, traps.ALONE, "worker"),
        (page_comments.STALE, traps.STALE, "worker"),
        (page_comments.HIDDEN, traps.HIDDEN, "family"),
    )
    for line in text.split("\n"):
        if line.startswith(page_comments.PREFIX):
            for template, trap, key in rows:
                if (value := page_comments.value(line, template)) is not None:
                    yield trap.found(**{key: excerpt(value, token)})


def _sizes(text: str) -> Mapping[str, int]:
    """Returns the budgets of the service: those that its page states, and else the defaults."""
    sizes = dict(DEFAULT_SIZES)
    for line in text.split("\n"):
        for pair in (page_comments.value(line, page_comments.BUDGETS) or "").split(" "):
            name, _, size = pair.partition("=")
            if name in sizes and _SIZE.fullmatch(size):
                sizes[name] = int(size)
    return sizes


def samples(text: str) -> Iterator[Sample]:
    """Yields the samples of the page, as far as they can be read."""
    for line in text.split("\n"):
        if line.startswith("#") or (match := _SAMPLE.fullmatch(line)) is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = {key: _unescaped(quote) for key, quote in _LABEL.findall(match[2] or "")}
        yield Sample(match[1], labels, value)


def _unescaped(quote: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), quote[1:-1])


def _figures(known: _Known, all_samples: Iterable[Sample]) -> Iterator[Finding]:
    values: dict[str, set[str]] = defaultdict(set)
    combinations: dict[Metric, set[tuple[str, ...]]] = defaultdict(set)
    names = {metric.prometheus_name: metric for metric in CATALOGUE}
    for sample in all_samples:
        base = re.sub("_(?:bucket|count|sum)$", "", sample.name)
        metric = names.get(sample.name) or names.get(base)
        if metric is None:
            continue
        for label, value in sample.labels.items():
            if label not in metric.closed:
                values[label].add(value)
        combinations[metric].add(tuple(sample.labels.get(label, "") for label in metric.labels))
        if (judge := _JUDGES.get(sample.name)) is not None:
            yield from judge(known, sample)
    yield from _budgets(known.sizes, values, combinations)


def _figure(sample: Sample, token: str | None) -> str:
    labels = excerpt(" ".join(f"{key}={value}" for key, value in sample.labels.items()), token)
    return f"{sample.name} {labels}: {sample.value:g}"


def _overflow(known: _Known, sample: Sample) -> Iterator[Finding]:
    if not sample.value:
        return
    label = sample.labels.get(ERROR_TYPE, "")
    if label == OTHER:  # the page does not say which
        yield traps.OVERFLOW.found(
            figure=_figure(sample, known.token),
            text=overflow_text(_ADMITTED),
            variable=OTEL_COACH_ADMIT_LABELS,
            more=f"{_ADMITTED}:N",
        )
        return
    is_budget = label in DEFAULT_SIZES
    size = known.sizes[label] if is_budget else 0
    yield traps.OVERFLOW.found(
        figure=_figure(sample, known.token),
        text=overflow_text(label) if is_budget else "a budget is full",
        variable=budget_variable(label) if is_budget else "OTEL_COACH_BUDGET_...",
        more=2 * size or "N",
    )


def _fault(known: _Known, sample: Sample) -> Iterator[Finding]:
    if sample.value:
        yield traps.FAULTS.found(figure=_figure(sample, known.token))


def _loss(known: _Known, sample: Sample) -> Iterator[Finding]:
    if sample.value:
        is_queue = sample.labels.get(ERROR_TYPE) == SPANS_QUEUE_FULL
        text, cure = _OF_THE_QUEUE if is_queue else _OF_LOSSES
        yield traps.LOST.found(figure=_figure(sample, known.token), text=text, cure=cure)


def _unmeasured(known: _Known, sample: Sample) -> Iterator[Finding]:
    if not sample.value:
        return
    trap = _OF_UNMEASURED.get(sample.labels.get(ERROR_TYPE, ""), traps.UNMEASURED)
    name = excerpt(sample.labels.get(MODEL, ""), known.token)
    calls = f"{sample.value:g} call{'s' * (sample.value != 1)}"
    finding = trap.found(calls=calls, model=spoken(name), label=name, details="")
    yield finding._replace(what=f"{_figure(sample, known.token)}: {finding.what}")


def _down(known: _Known, sample: Sample) -> Iterator[Finding]:
    if sample.value == 0:
        name = next(iter(sample.labels.values()), "")
        cure = _BY_PROBE if name in known.probed else _BY_LOG
        yield traps.DOWN.found(name=excerpt(name, known.token), cure=cure)


def _old_prices(_known: _Known, sample: Sample) -> Iterator[Finding]:
    if sample.value > OLD_DAYS:
        yield PRICES_OLD.found(days=f"{sample.value:.0f}", origin="that of the running service")


_JUDGES: Final[Mapping[str, Callable[[_Known, Sample], Iterator[Finding]]]] = {
    LABEL_OVERFLOW.prometheus_name: _overflow,
    ERRORS.prometheus_name: _fault,
    LOST.prometheus_name: _loss,
    LLM_UNMEASURED.prometheus_name: _unmeasured,
    DEPENDENCY_UP.prometheus_name: _down,
    PRICE_LIST_AGE.prometheus_name: _old_prices,
}


def _budgets(
    sizes: Mapping[str, int],
    values: Mapping[str, set[str]],
    combinations: Mapping[Metric, Iterable[object]],
) -> Iterator[Finding]:
    """Yields the budgets that are nearly full, by the sizes of the service."""
    for label, seen in values.items():
        if label in DEFAULT_SIZES and label not in LIMITS:
            used = len(seen - {OTHER} - OUR_OWN_VALUES.get(label, frozenset()))
            yield from _nearly_full(label, f"label {label}", used, sizes)
    for metric, rows in combinations.items():
        if metric.is_closed:
            continue  # its combinations take no places of the budget
        # The application's routes have places of their own.
        reserved = LABEL_SETS_PER_ENDPOINT * sizes[ENDPOINT] if METHOD in metric.labels else 0
        what = f"the label combinations of {metric.prometheus_name}"
        yield from _nearly_full(LABEL_SET, what, len({*rows}), sizes, reserved)


def _nearly_full(
    budget: str, what: str, used: int, sizes: Mapping[str, int], reserved: int = 0
) -> Iterator[Finding]:
    size = sizes[budget] + reserved
    if used >= _NEARLY_FULL * size:
        yield traps.NEARLY_FULL.found(
            used=used,
            size=size,
            budget=what,
            variable=budget_variable(budget),
            more=2 * sizes[budget],
        )
