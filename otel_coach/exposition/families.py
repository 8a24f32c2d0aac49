"""Our families and those of prometheus_client's default registry, on one page."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.registry import Collector

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


class _OnePage(Collector):
    """Collects several registries in order; the first family of a name is the one shown."""

    def __init__(self, registries: Iterable[CollectorRegistry], before: Callable[[], None]) -> None:
        self._registries = tuple(registries)
        self._before = before
        self._named: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        # The stock reader hands its figures to whichever of two scrapes comes first.
        with self._one_at_a_time:
            self._before()
            families = [f for registry in self._registries for f in self._collected(registry)]
        return self._once_each(families)

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


def one_page(registry: CollectorRegistry, before: Callable[[], None]) -> CollectorRegistry:
    """A registry that shows `registry` first and prometheus_client's default one after it.

    `before` is called at each collection, to bring `registry` up to date.
    """
    page = CollectorRegistry(auto_describe=False)
    page.register(_OnePage([registry, REGISTRY], before))
    return page
