"""Our families and those of prometheus_client's default registry, on one page."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

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
        self._named: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def collect(self) -> list[Metric]:
        """The families as they are now; of two with one name, the first."""
        # The stock reader hands its figures to whichever of two scrapes comes first.
        with self._one_at_a_time:
            self._before()
            families = list(self._collected(self._ours))
            self._add_exemplars(families)
            if not self._multiprocess:
                families += self._collected(REGISTRY)
        return list(self._once_each(families))

    def with_shared(self, families: Iterable[Metric]) -> list[Metric]:
        """`families` and those that all processes share by prometheus_client's own files."""
        shared: list[Metric] = []
        if self._multiprocess:
            registry = CollectorRegistry(auto_describe=False)
            MultiProcessCollector(registry)
            shared.extend(self._collected(registry))
        return list(self._once_each([*families, *shared]))

    def _collected(self, registry: CollectorRegistry) -> Iterator[Metric]:
        try:
            yield from registry.collect()
        except Exception as error:  # noqa: BLE001 - a collector of others takes no page away
            if (name := type(error).__name__) not in self._named:
                self._named.add(name)
                _logger.warning(
                    "otel-coach: a collector in prometheus_client's registry raised %s; its "
                    "families and those after it are not on the page",
                    name,
                )

    def _once_each(self, families: Iterable[Metric]) -> Iterator[Metric]:
        taken: set[str] = set()
        for family in families:
            suffixes = ("", *_SAMPLE_SUFFIXES.get(family.type, ()))
            names = {family.name + suffix for suffix in suffixes}
            if taken.isdisjoint(names):
                taken |= names
                yield family
            elif family.name not in self._named:
                self._named.add(family.name)
                _logger.warning(
                    "otel-coach: the family %s is defined twice in this process; the page "
                    "shows the first one only. Rename the other, or remove it.",
                    family.name,
                )
