"""Our families and those of prometheus_client's default registry, on one page."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from otel_coach.catalogue import CATALOGUE
from otel_coach.exposition.turns import short_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_logger = logging.getLogger("otel_coach")

_SAMPLE_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "summary": ("_count", "_sum", "_created"),
    "info": ("_info",),
}
"""What a family's samples may be called beside its own name, by its type (OpenMetrics 1.0)."""


class LocalFamilies:
    """The families of this process: ours, then those of prometheus_client's default registry.

    Args:
        ours: the registry of our reader.
        add_exemplars: puts our exemplars on our families.
        before: called at each collection, to bring `ours` up to date.
        multiprocess: whether the application uses prometheus_client's multiprocess mode; what it
            registered is then shared by its own files, and read from them.
    """

    def __init__(
        self,
        ours: CollectorRegistry,
        add_exemplars: Callable[[Iterable[Metric]], None],
        before: Callable[[], None],
        *,
        multiprocess: bool = False,
    ) -> None:
        self._ours = ours
        self._add_exemplars = add_exemplars
        self._before = before
        self._multiprocess = multiprocess
        self.hidden: set[str] = set()
        """Families that are not shown, because another one has their name."""
        self._raised: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def collect(self) -> list[Metric]:
        """The families as they are now; of two with one name, the first."""
        # The stock reader hands its figures to whichever of two scrapes comes first.
        with self._one_at_a_time:
            self._before()
            with short_turns:
                ours = list(self._collected(self._ours))
                self._add_exemplars(ours)
            theirs = () if self._multiprocess else self._collected(REGISTRY)
            return [*ours, *self._once_each(theirs, ours)]

    def with_shared(self, families: Iterable[Metric]) -> Iterable[Metric]:
        """`families` and those that all processes share by prometheus_client's own files.

        Raises:
            OSError: the files cannot be read; without them, counters would fall.
        """
        if not self._multiprocess:
            return families
        registry = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(registry)
        known = list(families)
        shared = self._collected(registry, lets_pass=OSError)
        return [*known, *self._once_each(shared, known)]

    def _collected(
        self, registry: CollectorRegistry, lets_pass: type[Exception] | tuple[()] = ()
    ) -> Iterator[Metric]:
        try:
            yield from registry.collect()
        except lets_pass:
            raise
        except Exception as error:  # noqa: BLE001 - a collector of others takes no page away
            if (name := type(error).__name__) not in self._raised:
                self._raised.add(name)
                _logger.warning(
                    "otel-coach: a collector in prometheus_client's registry raised %s; its "
                    "families and those after it are not on the page",
                    name,
                )

    def _once_each(self, others: Iterable[Metric], before: Iterable[Metric]) -> Iterator[Metric]:
        # Ours are taken before they have a series: no family may change hands later.
        taken = _OUR_NAMES.union(*map(_sample_names, before))
        for family in others:
            names = _sample_names(family)
            if taken.isdisjoint(names):
                taken |= names
                yield family
            elif family.name not in self.hidden:
                self.hidden.add(family.name)
                _logger.warning(
                    "otel-coach: the family %s is defined twice in this process; the page "
                    "shows the first one only. Rename the other, or remove it.",
                    family.name,
                )


def _sample_names(family: Metric) -> frozenset[str]:
    suffixes = ("", *_SAMPLE_SUFFIXES.get(family.type, ()))
    return frozenset(family.name + suffix for suffix in suffixes)


_OUR_NAMES: Final = frozenset[str]().union(
    *(
        _sample_names(Metric(metric.prometheus_name.removesuffix("_total"), "", metric.kind.value))
        for metric in CATALOGUE
    )
)
