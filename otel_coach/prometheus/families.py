"""otel-coach's families and those of prometheus_client's default registry, on one page."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from otel_coach.core import compatibility
from otel_coach.core.guard import belongs_to_host, raised_at
from otel_coach.core.traps import MULTIPROCESS_FOLDER
from otel_coach.metrics.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from prometheus_client.registry import Collector

    from otel_coach.prometheus.application_page import ApplicationPage
    from otel_coach.prometheus.snapshot import FamilyMetadata
    from otel_coach.sdk.changed_points import Changes

_logger = logging.getLogger("otel_coach")

_COUNT_HERE: Final = ("prometheus_client.", "opentelemetry.exporter.prometheus")
"""The modules, as prefixes, of collectors whose values are counted in this process."""
_ABOUT_THE_PROCESS: Final = (
    "prometheus_client.process_collector",
    "prometheus_client.platform_collector",
    "prometheus_client.gc_collector",
)
"""Modules of the collectors that prometheus_client registers by itself."""
_PROTOCOLS: Final = frozenset({"prometheus_client.registry"})
"""Modules of base classes that say nothing about where a collector's values are counted."""
_OWN_PAGE: Final = "the application's own page"
_SHUT_DOWN: Final = "the application has shut the global meter provider down"
_SLOW: Final = "; a callback of the application's observable instruments takes too long"

_SAMPLE_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "summary": ("_count", "_sum", "_created"),
    "info": ("_info",),
}
"""Suffixes that a family's sample names may have, by the family's type (OpenMetrics 1.0)."""


class Reader(Protocol):
    """The metric reader behind otel-coach's registry."""

    changes: Changes

    def only_changes(self) -> AbstractContextManager[None]:
        """Within this context the registry yields only what changed since the last such context."""
        ...

    def add_exemplars(self, families: Iterable[Metric]) -> None:
        """Adds the exemplars to otel-coach's families."""
        ...


class Instruments(Protocol):
    """The instruments that otel-coach did not create."""

    measurements: int
    """About how often synchronous ones were measured."""
    has_observables: bool
    """Whether there is one that is measured only on collection."""


class LocalFamilies:
    """The families of this process: otel-coach's, then those of prometheus_client's registry.

    prometheus_client counts its own metrics in each process, so the page merges them over the
    workers. A collector class of the application may read its values elsewhere (Redis, a database)
    when it is collected. These values may be the same in every process, so only the process that
    serves the page collects them, and they are never added up over the workers.

    Args:
        own_registry: the registry of otel-coach's reader.
        reader: that reader, which knows of which families it returned only a part.
        measured: returns a context manager. Inside it, a collection of the registry includes all
            that was recorded before.
        instruments: those of the application and of other instrumentations.
        multiprocess: the folder of prometheus_client's multiprocess mode, if the application uses
            that; its metrics are then shared through the files there, and the page reads these.
    """

    def __init__(
        self,
        own_registry: CollectorRegistry,
        reader: Reader | None,
        measured: Callable[[], AbstractContextManager[None]],
        instruments: Instruments,
        *,
        multiprocess: str | None = None,
    ) -> None:
        compatibility.holds(compatibility.REGISTRY)  # `_default` says what happens if it does not
        self._own_registry = own_registry
        self._reader = reader
        self._measured = measured
        self._instruments = instruments
        self._multiprocess = multiprocess
        self.hidden: set[str] = set()
        """Names of families that are not shown, because another has one of their sample names."""
        self._logged: set[str] = set()

    def collect(self) -> list[Metric]:
        """Returns the current families whose values are counted in this process.

        Of families that share a sample name, only the first is returned. A family in `partial` has
        only the samples that may have changed. Must not be called by two threads at the same time.

        Raises:
            OSError: the application has shut otel-coach's meter provider down, or a callback of its
                gauges keeps the SDK from collecting.
        """
        reader = self._reader
        with self._measured(), reader.only_changes() if reader else nullcontext():
            try:
                own = list(self._own_registry.collect())
            except Exception as error:  # the SDK's own, or what a callback makes it raise
                if belongs_to_host(error):
                    raise
                kind = type(error).__name__
                slow = _SLOW * ("Timeout" in kind)
                message = f"the SDK cannot collect them: {kind} in {raised_at(error)}{slow}"
                raise OSError(message) from error
            if reader is not None:
                reader.add_exemplars(own)
        if not own:
            raise OSError(_SHUT_DOWN)
        others = () if self._multiprocess else self._collected(_default(counts_here=True))
        return [*own, *self._once_each(others, own)]

    @property
    def partial(self) -> AbstractSet[str]:
        """Names of the families of which `collect` returned only what may have changed."""
        return frozenset() if self._reader is None else self._reader.changes.partial

    def forget(self) -> None:
        """Makes the next `collect` return each family in full."""
        if self._reader is not None:
            self._reader.changes.forget()

    @property
    def has_others(self) -> bool:
        """Whether the application has metrics of its own that are counted in this process."""
        return self.measurements > 0 or self.change_unnoticed

    @property
    def change_unnoticed(self) -> bool:
        """Whether some of them may have changed without being counted in `measurements`."""
        return self._instruments.has_observables or self.has_client_metrics

    @property
    def measurements(self) -> int:
        """About how often instruments that otel-coach did not create were measured."""
        return self._instruments.measurements

    @property
    def has_client_metrics(self) -> bool:
        """Whether the application has metrics of prometheus_client that this process counts."""
        return not self._multiprocess and any(
            not type(collector).__module__.startswith(_ABOUT_THE_PROCESS)
            for collector in _default(counts_here=True)
            if not isinstance(collector, _TargetInfo)
        )

    def completing(self, known: Sequence[FamilyMetadata]) -> Iterator[Metric]:
        """Yields the families that belong to no single process, except those already `known`.

        Raises:
            OSError: prometheus_client's shared files cannot be read; without them, counters would
                drop.
        """
        if not self._multiprocess:
            yield from self._once_each(self._collected(_default(counts_here=False)), known)
            return
        registry = CollectorRegistry(auto_describe=False)
        try:
            MultiProcessCollector(registry, self._multiprocess)
        except ValueError:  # the folder is not there, so the application has no metrics in it
            if MULTIPROCESS_FOLDER.name not in self._logged:
                self._logged.add(MULTIPROCESS_FOLDER.name)
                line = MULTIPROCESS_FOLDER.found(path=self._multiprocess)
                _logger.error("otel-coach: %s", line)  # noqa: TRY400 - one line with the cure
            return
        yield from self._once_each(self._collected([registry], lets_pass=OSError), known)

    def beside(self, own: ApplicationPage, shown: Iterable[Metric | FamilyMetadata]) -> bytes:
        """Returns the text of the families on the application's `own` page that are not shown yet.

        `shown` are the families that otel-coach's page already has.
        """
        names = _OUR_NAMES.union(*map(_sample_names, shown))
        rest, left_out = own.without(names)
        if left_out and _OWN_PAGE not in self._logged:
            self._logged.add(_OWN_PAGE)
            _logger.info(
                "otel-coach: the application's own page is requested first and shown together with "
                "otel-coach's; families on both pages are shown once, as otel-coach merges them "
                "over all workers: %s",
                ", ".join(sorted(left_out)),
            )
        for name in left_out:
            if name in _OUR_NAMES:
                self._hide(name, is_ours=True)
        return rest

    def _collected(
        self, collectors: Iterable[Collector], lets_pass: type[Exception] | tuple[()] = ()
    ) -> Iterator[Metric]:
        for collector in collectors:
            try:
                yield from collector.collect()
            except lets_pass:
                raise
            except Exception as error:  # a failing collector must not cost the page
                if belongs_to_host(error):
                    raise
                kind = type(collector)
                if (name := f"{kind.__module__}.{kind.__qualname__}") not in self._logged:
                    self._logged.add(name)
                    _logger.warning(
                        "otel-coach: the collector %s in prometheus_client's registry raised %s in "
                        "%s; the families that it had not returned by then are not on the page",
                        name,
                        type(error).__name__,
                        raised_at(error),
                    )

    def _once_each(
        self, families: Iterable[Metric], before: Iterable[Metric | FamilyMetadata]
    ) -> Iterator[Metric]:
        # otel-coach's names are reserved even before they have a series. Otherwise another family
        # with such a name would be shown at first, and be replaced later.
        taken = _OUR_NAMES.union(*map(_sample_names, before))
        for family in families:
            names = _sample_names(family)
            if taken.isdisjoint(names):
                taken |= names
                yield family
            else:
                self._hide(family.name, is_ours=not _OUR_NAMES.isdisjoint(names))

    def _hide(self, name: str, *, is_ours: bool) -> None:
        if name in self.hidden:
            return
        self.hidden.add(name)
        text = (
            "otel-coach: the application's family %s is not on the page, because otel-coach has a "
            "metric of that name; rename it"
            if is_ours
            else "otel-coach: the family %s is defined twice in this process; the page shows the "
            "first one only. Rename the other, or remove it."
        )
        _logger.warning(text, name)


def knows_collectors() -> bool:
    """Whether the collectors of prometheus_client's registry can be listed."""
    registry, collector = CollectorRegistry(), _TargetInfo()
    registry.register(cast("Collector", collector))
    return tuple(getattr(registry, "_collector_to_names", ())) == (collector,)


def _default(*, counts_here: bool) -> Iterable[Collector]:
    """Returns collectors of the default registry: those that count in this process, or the others.

    If the collectors cannot be listed, the values of the whole registry are taken to be counted in
    this process.
    """
    # Copied below: a collector may be registered while others are collected.
    names: Any = getattr(REGISTRY, "_collector_to_names", ())
    known: list[Collector] = list(names)
    if not known:
        return [REGISTRY] if counts_here else []
    found = [collector for collector in known if _counts_here(collector) is counts_here]
    return [_TargetInfo(), *found] if counts_here else found


class _TargetInfo:
    """Collects the target info of prometheus_client's registry, which has no collector for it."""

    def collect(self) -> Iterable[Metric]:
        about = REGISTRY.get_target_info()
        return [InfoMetricFamily("target", "Target metadata", about)] if about else []


def _counts_here(collector: Collector) -> bool:
    """Whether the values of `collector` are counted in this process, judging by its classes."""
    return any(
        cls.__module__.startswith(_COUNT_HERE) and cls.__module__ not in _PROTOCOLS
        for cls in type(collector).__mro__
    )


def _sample_names(family: Metric | FamilyMetadata) -> frozenset[str]:
    suffixes = ("", *_SAMPLE_SUFFIXES.get(family.type, ()))
    return frozenset(family.name + suffix for suffix in suffixes)


_OUR_NAMES: Final = frozenset[str]().union(
    *(
        _sample_names(Metric(metric.prometheus_name.removesuffix("_total"), "", metric.kind.value))
        for metric in CATALOGUE
    )
)
