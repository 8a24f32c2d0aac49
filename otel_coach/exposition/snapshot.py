"""The families of one process, taken apart so that they are cheap to send and to add up.

As bytes: a checksum, a header, then a line of JSON for each part of a family. A part is small, so
that no line holds the interpreter for long. A sample is a string and a number in them, and no
object of its own: thousands of objects would make the garbage collector stop the whole process.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Exemplar

_FORMAT: Final = 3
_MOST_ROWS: Final = 500
"""Of one part."""

GaugeTimes = dict[str, dict[tuple[str, ...], float]]
"""Seconds since the epoch at which gauges were measured, by family and label values."""

KeyedExemplar = tuple[str, "Mapping[str, str]", float, float | None]
"""The key of its sample, its labels, its value, its time in seconds since the epoch."""

_SEPARATOR: Final = "\x7f"  # a control character that JSON needs not escape
_ESCAPED: Final = {"\\": "\\\\", _SEPARATOR: "\\s"}
_UNESCAPED: Final = {escaped: plain for plain, escaped in _ESCAPED.items()}


def key_of(sample_name: str, labels: Mapping[str, str]) -> str:
    """A sample's name, then its labels' names and values in turn, as one string."""
    words = (sample_name, *chain.from_iterable(labels.items()))
    key = _SEPARATOR.join(words)
    if "\\" in key or key.count(_SEPARATOR) != len(words) - 1:
        key = _SEPARATOR.join(re.sub(r"[\\\x7f]", lambda m: _ESCAPED[m[0]], word) for word in words)
    return key


def sample_of(key: str) -> tuple[str, dict[str, str]]:
    """The sample's name and labels of which `key_of` made `key`."""
    words = key.split(_SEPARATOR)
    if "\\" in key:
        words = [re.sub(r"\\[\\s]", lambda m: _UNESCAPED[m[0]], word) for word in words]
    return words[0], dict(zip(words[1::2], words[2::2], strict=True))


class Part(NamedTuple):
    """Some samples of a family, in their order, none of them twice."""

    name: str
    documentation: str
    type: str
    unit: str
    keys: Sequence[str]
    values: Sequence[float]
    exemplars: Sequence[KeyedExemplar]
    place: int = 0
    """Of these numbers among those that each add up to one value."""


@dataclass
class Snapshot:
    """What one worker measured, or several that are dead."""

    parts: list[Part] = field(default_factory=list[Part])
    gauge_times: GaugeTimes = field(default_factory=GaugeTimes)

    @classmethod
    def of(cls, families: Iterable[Metric], gauge_times: GaugeTimes) -> Snapshot:
        """Take `families` apart."""
        return cls([part for family in families for part in _parts(family)], gauge_times)


def _parts(family: Metric) -> Iterator[Part]:
    for begin in range(0, len(family.samples) or 1, _MOST_ROWS):
        samples = family.samples[begin : begin + _MOST_ROWS]
        keys = [key_of(name, labels) for name, labels, *_ in samples]
        yield Part(
            family.name,
            family.documentation,
            family.type,
            family.unit,
            keys,
            [sample.value for sample in samples],
            [
                keyed(key, sample.exemplar)
                for key, sample in zip(keys, samples, strict=True)
                if sample.exemplar is not None
            ],
        )


def keyed(key: str, exemplar: Exemplar) -> KeyedExemplar:
    """`exemplar` of the sample of `key`, as a part has it."""
    at = None if exemplar.timestamp is None else float(exemplar.timestamp)
    return key, exemplar.labels, exemplar.value, at


def to_bytes(snapshot: Snapshot) -> bytes:
    """As a file holds it: a checksum, then the lines."""
    content = b"\n".join(_lines(snapshot))
    return b"%08x\n" % crc32(content) + content


def _lines(snapshot: Snapshot) -> Iterator[bytes]:
    times = {
        name: [[*labels, at] for labels, at in rows.items()]
        for name, rows in snapshot.gauge_times.items()
    }
    yield json.dumps({"format": _FORMAT, "gauge_times": times}).encode()
    for part in snapshot.parts:
        yield json.dumps(part, separators=(",", ":")).encode()


def from_bytes(content: bytes) -> Snapshot:
    """What `to_bytes` made.

    Raises:
        ValueError: it did not make this, or another version of otel-coach did.
    """
    checksum, _, content = content.partition(b"\n")
    if checksum != b"%08x" % crc32(content):
        message = "it is damaged"
        raise ValueError(message)
    header, *lines = content.split(b"\n")
    try:
        head: dict[str, Any] = json.loads(header)
        if head["format"] != _FORMAT:
            message = f"it is of format {head['format']}, not {_FORMAT}"
            raise ValueError(message)
        times = {
            name: {tuple(labels): at for *labels, at in rows}
            for name, rows in head["gauge_times"].items()
        }
        return Snapshot([Part(*json.loads(line)) for line in lines], times)
    except (LookupError, TypeError, AttributeError) as error:
        message = "it is no snapshot"
        raise ValueError(message) from error
