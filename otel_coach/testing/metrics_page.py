"""A metrics page as Prometheus reads it; to ask it for a name that does not exist is an error."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from otel_coach.configuration.names import hint, nearest
from otel_coach.metrics.catalogue import CATALOGUE, InstrumentKind

if TYPE_CHECKING:
    from collections.abc import Iterable

_SUFFIXES: Final = ("_bucket", "_count", "_sum")
_ASIDE: Final = ("python_", "process_", "otel_coach_", "target_info")
"""Families of the process and of otel-coach itself, which the representation leaves out."""
_DETAILS: Final = ("_bucket", "_created")
_MAX_SHOWN: Final = 20
"""The maximum number of samples in the representation of a page."""


def _catalogue() -> dict[str, frozenset[str]]:
    labels: dict[str, frozenset[str]] = {}
    for metric in CATALOGUE:
        names = [metric.prometheus_name]
        if metric.kind is InstrumentKind.HISTOGRAM:
            names = [f"{metric.prometheus_name}{suffix}" for suffix in _SUFFIXES]
        for name in names:
            more = {"le"} if name.endswith("_bucket") else set[str]()
            labels[name] = frozenset({*metric.labels, *more})
    return labels


_LABELS: Final = _catalogue()
"""The labels of otel-coach's samples, by the samples' names."""


class Page:
    """A metrics page in Prometheus' text format, read with its own parser.

    `samples` and `sum` raise ValueError for a name or a label that is neither otel-coach's nor on
    the page: such a name would find nothing, whatever has been measured.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        """The type of each family, by the family's name."""
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            if family.name in self.types:
                message = f"the family {family.name} is on the page twice"
                raise ValueError(message)
            self.types[family.name] = family.type
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def samples(self, name: str, /, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Returns the labels and value of each sample called `name` that has `labels`.

        Raises:
            ValueError: neither the page nor otel-coach has that name, or that label of it.
        """
        __tracebackhide__ = True  # pytest shows the test's line instead
        self._check(name, labels)
        return [
            (found, value)
            for found, value in self._samples.get(name, ())
            if labels.items() <= found.items()
        ]

    def sum(self, name: str, /, **labels: str) -> float:
        """Returns the sum of the samples called `name` that have `labels`; 0 if there are none.

        Raises:
            ValueError: neither the page nor otel-coach has that name, or that label of it.
        """
        __tracebackhide__ = True
        return sum((value for _, value in self.samples(name, **labels)), 0.0)

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return set(self._samples)

    @property
    def labels(self) -> set[str]:
        """The label names of all samples."""
        rows = (labels for samples in self._samples.values() for labels, _ in samples)
        return {label for labels in rows for label in labels}

    def __repr__(self) -> str:
        shown = [
            f"  {name}{_braced(labels)} {value:g}"
            for name, samples in self._samples.items()
            for labels, value in samples
            if value and not name.startswith(_ASIDE) and not name.endswith(_DETAILS)
        ]
        if not shown:
            return f"<Page of {len(self.types)} families: nothing has been measured>"
        more = len(shown) - _MAX_SHOWN
        lines = shown[:_MAX_SHOWN] + ([f"  and {more} more"] if more > 0 else [])
        return "\n".join([f"<Page of {len(self.types)} families; not 0 are:", *lines]) + ">"

    def _check(self, name: str, labels: Iterable[str]) -> None:
        __tracebackhide__ = True
        if name not in self._samples and name not in _LABELS:
            families = {metric.prometheus_name for metric in CATALOGUE} - _LABELS.keys()
            if name in families:
                suffixes = " or ".join(f"{name}{suffix}" for suffix in _SUFFIXES)
                message = f"{name} is a histogram; its samples are {suffixes}"
                raise ValueError(message)
            known = [*self._samples, *_LABELS]
            message = f"there is no metric {name}{hint(nearest(name, known))}"
            raise ValueError(message)
        known = {label for found, _ in self._samples.get(name, ()) for label in found}
        known |= _LABELS.get(name, frozenset())
        for label in labels:
            if label not in known:
                has = f"; it has {', '.join(sorted(known)) or 'no labels'}"
                message = f"{name} has no label {label}{hint(nearest(label, known)) or has}"
                raise ValueError(message)


def _braced(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
