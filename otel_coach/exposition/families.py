"""Our families and those of prometheus_client's default registry, on one page."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from otel_coach import compatibility
from otel_coach.catalogue import CATALOGUE
from otel_coach.exposition.turns import short_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from prometheus_client.registry import Collector

    from otel_coach.exposition.application_page import ApplicationPage
    from otel_coach.exposition.changes import Changes
    from otel_coach.exposition.snapshot import About

_logger = logging.getLogger("otel_coach")

_COUNT_HERE: Final = ("prometheus_client.", "opentelemetry.exporter.prometheus")
"""Modules of collectors whose figures are counted in their process."""
_ABOUT_THE_PROCESS: Final = (
    "prometheus_client.process_collector",
    "prometheus_client.platform_collector",
    "prometheus_client.gc_collector",
)
"""Modules of the collectors that prometheus_client registers by itself."""
_PROTOCOLS: Final = frozenset({"prometheus_client.registry"})
"""Of these a class may inherit that says nothing of how it counts."""
_OWN_PAGE: Final = "the application's own page"
_SHUT_DOWN: Final = "the application has shut the global meter provider down"

_SAMPLE_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "summary": ("_count", "_sum", "_created"),
    "info": ("_info",),
}
"""What a family's samples may be called beside its own name, by its type (OpenMetrics 1.0)."""


class Reader(Protocol):
    """What our registry is collected by."""

    changes: Changes

    def only_changes(self) -> AbstractContextManager[None]:
        """Meanwhile the registry has only what changed since it was collected so."""
        ...

    def add_exemplars(self, families: Iterable[Metric]) -> None:
        """Put our exemplars on our families."""
        ...


class LocalFamilies:
    """The families of this process: ours, then those of prometheus_client's default registry.

    What prometheus_client itself counts in a process is this process's part of the service. What
    a collector of the application's own reads when it is asked (from Redis, a database) may be
    the same in every process, so it is read by the process that answers, and never added up.

    Args:
        ours: the registry of our reader.
        reader: our reader, which says of which families it handed over a part only.
        measured: what our registry is collected in, so that it has all that was recorded before.
        has_foreign: whether an instrument of the application's was measured.
        multiprocess: whether the application uses prometheus_client's multiprocess mode; what it
            registered is then shared by its own files, and read from them.
    """

    def __init__(
        self,
        ours: CollectorRegistry,
        reader: Reader | None,
        measured: Callable[[], AbstractContextManager[None]],
        has_foreign: Callable[[], bool],
        *,
        multiprocess: bool = False,
    ) -> None:
        compatibility.holds(compatibility.REGISTRY)  # else `_default` says what it does
        self._ours = ours
        self._reader = reader
        self._measured = measured
        self._has_foreign = has_foreign
        self._multiprocess = multiprocess
        self.hidden: set[str] = set()
        """Families that are not shown, because another one has their name."""
        self._said: set[str] = set()

    def collect(self) -> list[Metric]:
        """The families that are this process's part, as they are now; of one name, the first.

        Of those that are `partial` they have only the samples that may have changed. No two
        threads may call it at once.

        Raises:
            OSError: the application has shut our meter provider down.
        """
        reader = self._reader
        with self._measured(), short_turns, reader.only_changes() if reader else nullcontext():
            ours = list(self._collected([self._ours]))
            if reader is not None:
                reader.add_exemplars(ours)
        if not ours:
            raise OSError(_SHUT_DOWN)
        theirs = () if self._multiprocess else self._collected(_default(counts_here=True))
        return [*ours, *self._once_each(theirs, ours)]

    @property
    def partial(self) -> AbstractSet[str]:
        """Families of which `collect` gave only what may have changed."""
        return frozenset() if self._reader is None else self._reader.changes.partial

    def forget(self) -> None:
        """Give all of each family the next time."""
        if self._reader is not None:
            self._reader.changes.forget()

    @property
    def has_others(self) -> bool:
        """Whether the application has figures of its own that count in this process."""
        if self._has_foreign():
            return True
        if self._multiprocess:
            return False
        return any(
            not type(collector).__module__.startswith(_ABOUT_THE_PROCESS)
            for collector in _default(counts_here=True)
            if not isinstance(collector, _TargetInfo)
        )

    def completing(self, known: Sequence[About]) -> Iterator[Metric]:
        """The families, beside those `known`, that are no part of any one process.

        Raises:
            OSError: prometheus_client's shared files cannot be read; without them, counters would
                fall.
        """
        if not self._multiprocess:
            yield from self._once_each(self._collected(_default(counts_here=False)), known)
            return
        registry = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(registry)
        yield from self._once_each(self._collected([registry], lets_pass=OSError), known)

    def beside(self, own: ApplicationPage, shown: Iterable[Metric | About]) -> bytes:
        """What the application's `own` page has beside the families that are `shown`."""
        names = _OUR_NAMES.union(*map(_sample_names, shown))
        rest, left_out = own.without(names)
        if left_out and _OWN_PAGE not in self._said:
            self._said.add(_OWN_PAGE)
            _logger.info(
                "otel-coach: the application's own page is asked first and shown with ours; what "
                "both have is shown once, as otel-coach has it, over all workers: %s",
                ", ".join(sorted(left_out)),
            )
        for name in left_out:
            if name in _OUR_NAMES:
                self._hide(name)
        return rest

    def _collected(
        self, collectors: Iterable[Collector], lets_pass: type[Exception] | tuple[()] = ()
    ) -> Iterator[Metric]:
        for collector in collectors:
            try:
                yield from collector.collect()
            except lets_pass:
                raise
            except Exception as error:  # noqa: BLE001 - a collector of others takes no page away
                if (name := type(error).__name__) not in self._said:
                    self._said.add(name)
                    _logger.warning(
                        "otel-coach: a collector in prometheus_client's registry raised %s; its "
                        "families are not on the page",
                        name,
                    )

    def _once_each(
        self, others: Iterable[Metric], before: Iterable[Metric | About]
    ) -> Iterator[Metric]:
        # Ours are taken before they have a series: no family may change hands later.
        taken = _OUR_NAMES.union(*map(_sample_names, before))
        for family in others:
            names = _sample_names(family)
            if taken.isdisjoint(names):
                taken |= names
                yield family
            else:
                self._hide(family.name)

    def _hide(self, name: str) -> None:
        if name not in self.hidden:
            self.hidden.add(name)
            _logger.warning(
                "otel-coach: the family %s is defined twice in this process; the page "
                "shows the first one only. Rename the other, or remove it.",
                name,
            )


def knows_collectors() -> bool:
    """Whether prometheus_client's registry tells which collectors it has."""
    registry, collector = CollectorRegistry(), _TargetInfo()
    registry.register(cast("Collector", collector))
    return tuple(getattr(registry, "_collector_to_names", ())) == (collector,)


def _default(*, counts_here: bool) -> Iterable[Collector]:
    """Of prometheus_client's default registry, the collectors that count in this process.

    Or the others. All of them count here where prometheus_client does not say which there are.
    """
    # One that counts nothing may be registered while others are asked.
    names: Any = getattr(REGISTRY, "_collector_to_names", ())
    known: tuple[Collector, ...] = tuple(names)
    if not known:
        return [REGISTRY] if counts_here else []
    found = [collector for collector in known if _counts_here(collector) is counts_here]
    return [_TargetInfo(), *found] if counts_here else found


class _TargetInfo:
    """What the application says of itself to prometheus_client, which is no collector there."""

    def collect(self) -> Iterable[Metric]:
        about = REGISTRY.get_target_info()
        return [InfoMetricFamily("target", "Target metadata", about)] if about else []


def _counts_here(collector: Collector) -> bool:
    """Whether `collector` is, or comes from, a class of a library that counts in the process."""
    return any(
        cls.__module__.startswith(_COUNT_HERE) and cls.__module__ not in _PROTOCOLS
        for cls in type(collector).__mro__
    )


def _sample_names(family: Metric | About) -> frozenset[str]:
    suffixes = ("", *_SAMPLE_SUFFIXES.get(family.type, ()))
    return frozenset(family.name + suffix for suffix in suffixes)


_OUR_NAMES: Final = frozenset[str]().union(
    *(
        _sample_names(Metric(metric.prometheus_name.removesuffix("_total"), "", metric.kind.value))
        for metric in CATALOGUE
    )
)
