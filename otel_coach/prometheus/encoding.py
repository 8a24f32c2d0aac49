"""Encodes the page with prometheus_client's encoders, and caches the line of each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from otel_coach.prometheus.snapshot import KeyedExemplar, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.registry import Collector

    from otel_coach.prometheus.table import Table

    Encode = Callable[[Collector], bytes]

EOF: Final = b"# EOF\n"


class Encoded:
    """Encodes families in one text format.

    A line depends on one sample only, not on the rest of its family. So the lines of a table are
    cached, and a line is encoded again only if its sample has changed.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._lines: dict[str, _Lines] = {}

    def table(self, table: Table) -> bytes:
        """Returns the lines of `table`."""
        lines = self._lines.get(table.metadata.name)
        if lines is None or not lines.is_prefix_of(table):
            lines = self._lines[table.metadata.name] = _Lines()
        changed = lines.changed(table)
        if changed or not lines.head:
            text = self.family(_family(table, changed))
            if not lines.take(changed, table, text):
                del self._lines[table.metadata.name]
                if len(changed) < len(table.keys):
                    text = self.family(_family(table, range(len(table.keys))))
                return text
        return b"".join((*lines.head, *lines.lines))

    def family(self, family: Metric) -> bytes:
        """Returns the lines of `family`."""
        return self._encode(_Only([family])).removesuffix(EOF)


class _Lines:
    """The cached lines of one table, and the samples that they show."""

    def __init__(self) -> None:
        self.head: list[bytes] = []
        self.lines: list[bytes] = []
        self._keys: list[str] = []
        self._values: list[float] = []
        self._exemplars: dict[str, KeyedExemplar] = {}

    def is_prefix_of(self, table: Table) -> bool:
        """Whether `table` begins with the cached samples, in the same order."""
        return self._keys == table.keys[: len(self._keys)]

    def changed(self, table: Table) -> Sequence[int]:
        """Returns the indices of the samples whose lines have to be encoded."""
        known = len(self._keys)
        indices = [
            index
            for index, (old, new) in enumerate(zip(self._values, table.values, strict=False))
            if old != new
        ]
        if table.exemplars:
            before, now = self._exemplars, table.exemplars
            keys = {key for key, exemplar in now.items() if before.get(key) is not exemplar}
            if keys:
                also = {index for index in range(known) if self._keys[index] in keys}
                indices = sorted(also.union(indices))
        return [*indices, *range(known, len(table.keys))]

    def take(self, changed: Sequence[int], table: Table, text: bytes) -> bool:
        """Stores the lines of `text` at the indices `changed`; False if they do not match."""
        found = [line + b"\n" for line in text.split(b"\n")[:-1]]
        lines = [line for line in found if not line.startswith(b"#")]
        head = found[: len(found) - len(lines)]
        if len(lines) != len(changed) or not self._continues(head):
            return False
        self.lines.extend([b""] * (len(table.keys) - len(self.lines)))
        for index, line in zip(changed, lines, strict=True):
            self.lines[index] = line
        self.head = head
        self._keys, self._values = [*table.keys], [*table.values]
        self._exemplars = {**table.exemplars}
        return True

    def _continues(self, head: list[bytes]) -> bool:
        """Whether `head` consists of comments only, and is the cached one if there is one.

        A comment after a sample, or another head, begins another family.
        """
        return all(line.startswith(b"#") for line in head) and self.head in ([], head)


def _family(table: Table, indices: Iterable[int]) -> Metric:
    """Returns a family with the samples of `table` at `indices`."""
    family = Metric(*table.metadata)
    exemplars = table.exemplars
    for index in indices:
        key = table.keys[index]
        name, labels = sample_of(key)
        known = exemplars.get(key)
        exemplar = None if known is None else Exemplar(dict(known[1]), known[2], known[3])
        family.samples.append(Sample(name, labels, table.values[index], None, exemplar))
    return family


class _Only(CollectorRegistry):
    """A registry that contains the given families only."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__(auto_describe=False)
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
