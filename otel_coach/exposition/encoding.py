"""The page as text, by prometheus_client's encoders: each sample once, until it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from otel_coach.exposition.snapshot import KeyedExemplar, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.registry import Collector

    from otel_coach.exposition.table import Table

    Encode = Callable[[Collector], bytes]

EOF: Final = b"# EOF\n"


class Encoded:
    """Families in one format.

    A line says one sample, whatever else is in its family. So the lines of a table are kept, and
    those of samples that changed are written anew.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._lines: dict[str, _Lines] = {}

    def table(self, table: Table) -> bytes:
        """The lines of `table`."""
        lines = self._lines.get(table.about.name)
        if lines is None or not lines.goes_on_with(table):
            lines = self._lines[table.about.name] = _Lines()
        changed = lines.changed(table)
        if changed or not lines.head:
            text = self.family(_family(table, changed))
            if not lines.take(changed, table, text):
                del self._lines[table.about.name]
                if len(changed) < len(table.keys):
                    text = self.family(_family(table, range(len(table.keys))))
                return text
        return b"".join((*lines.head, *lines.lines))

    def family(self, family: Metric) -> bytes:
        """The lines of `family`."""
        return self._encode(_Only([family])).removesuffix(EOF)


class _Lines:
    """Those of one table, and what they say."""

    def __init__(self) -> None:
        self.head: list[bytes] = []
        self.lines: list[bytes] = []
        self._keys: list[str] = []
        self._values: list[float] = []
        self._exemplars: dict[str, KeyedExemplar] = {}

    def goes_on_with(self, table: Table) -> bool:
        """Whether `table` has the same samples in the same order, and perhaps more after them."""
        return self._keys == table.keys[: len(self._keys)]

    def changed(self, table: Table) -> Sequence[int]:
        """The places of the samples of which the line has to be written."""
        known = len(self._keys)
        places = [
            place
            for place, (old, new) in enumerate(zip(self._values, table.values, strict=False))
            if old != new
        ]
        if table.exemplars:
            before, now = self._exemplars, table.exemplars
            keys = {key for key, exemplar in now.items() if before.get(key) is not exemplar}
            if keys:
                also = {place for place in range(known) if self._keys[place] in keys}
                places = sorted(also.union(places))
        return [*places, *range(known, len(table.keys))]

    def take(self, changed: Sequence[int], table: Table, text: bytes) -> bool:
        """Put the lines of `text` in the places `changed`; False where they are not one each."""
        found = [line + b"\n" for line in text.split(b"\n")[:-1]]
        lines = [line for line in found if not line.startswith(b"#")]
        if len(lines) != len(changed) or not _is_head(found[: len(found) - len(lines)]):
            return False
        self.lines.extend([b""] * (len(table.keys) - len(self.lines)))
        for place, line in zip(changed, lines, strict=True):
            self.lines[place] = line
        self.head = found[: len(found) - len(lines)]
        self._keys, self._values = [*table.keys], [*table.values]
        self._exemplars = {**table.exemplars}
        return True


def _is_head(lines: Iterable[bytes]) -> bool:
    """Whether all comments come first: else the samples after another one are another family's."""
    return all(line.startswith(b"#") for line in lines)


def _family(table: Table, places: Iterable[int]) -> Metric:
    """A family of the samples of `table` at `places`."""
    family = Metric(*table.about)
    exemplars = table.exemplars
    for place in places:
        key = table.keys[place]
        name, labels = sample_of(key)
        known = exemplars.get(key)
        exemplar = None if known is None else Exemplar(dict(known[1]), known[2], known[3])
        family.samples.append(Sample(name, labels, table.values[place], None, exemplar))
    return family


class _Only(CollectorRegistry):
    """A registry of the families given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__(auto_describe=False)
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
