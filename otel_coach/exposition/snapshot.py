"""What one process measured, as bytes that are cheap to send, to add up and to bring up to date.

A snapshot is a block: a line with its checksum and its length, a line that names the format, and
a line of JSON for each part of a family. A worker's file begins with a block of everything. Blocks
of what changed since follow it, so that the cost of a scrape follows what changed. A part is
small, so that no line holds the interpreter for long. A sample is a string and a number in it, and
no object of its own: thousands of objects would make the garbage collector stop the process.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Exemplar

_FORMAT: Final = 4
_MOST_ROWS: Final = 500
"""Of one part."""
_HEAD: Final = re.compile(rb"[0-9a-f]{8} [0-9]{1,12}")

GaugeTimes = dict[str, dict[tuple[str, ...], float]]
"""Seconds at which gauges were measured, by family and label values."""

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


class How(StrEnum):
    """What a part does to what was known of its family."""

    WHOLE = "whole"
    """It takes its place: samples that it does not name are gone."""
    UPDATE = "update"
    """Its samples have these values now."""
    ADD = "add"
    """Its samples rose by these values. The next part of another kind has them included."""


class About(NamedTuple):
    """What a family says of itself."""

    name: str
    documentation: str
    type: str
    unit: str


class Part(NamedTuple):
    """Some samples of a family, in their order, none of them twice."""

    name: str
    documentation: str
    type: str
    unit: str
    keys: Sequence[str]
    values: Sequence[float]
    exemplars: Sequence[KeyedExemplar] = ()
    times: Sequence[float] = ()
    """When each was measured, in seconds; empty where that does not matter."""
    how: str = How.WHOLE
    place: int = 0
    """Of these numbers among those that each add up to one value."""

    @property
    def about(self) -> About:
        """Its family."""
        return About(*self[:4])


@dataclass
class Snapshot:
    """What one worker measured, or several that are dead."""

    parts: list[Part] = field(default_factory=list[Part])

    @classmethod
    def of(cls, families: Iterable[Metric], gauge_times: GaugeTimes) -> Snapshot:
        """Take `families` apart."""
        return cls([part for family in families for part in _parts(family, gauge_times)])


def _parts(family: Metric, gauge_times: GaugeTimes) -> Iterator[Part]:
    keys = [key_of(name, labels) for name, labels, *_ in family.samples]
    values = [sample.value for sample in family.samples]
    exemplars = {
        key: keyed(key, sample.exemplar)
        for key, sample in zip(keys, family.samples, strict=True)
        if sample.exemplar is not None
    }
    known = gauge_times.get(family.name)
    times = [] if known is None else [known.get(label_values(key), 0.0) for key in keys]
    yield from in_parts(Part(*about(family), keys, values, [], times), exemplars)


def about(family: Metric) -> About:
    """What `family` says of itself."""
    return About(family.name, family.documentation, family.type, family.unit)


def in_parts(whole: Part, exemplars: Mapping[str, KeyedExemplar]) -> Iterator[Part]:
    """`whole`, which may be large, in small parts, each with its own of the `exemplars`."""
    for begin in range(0, len(whole.keys) or 1, _MOST_ROWS):
        rows = slice(begin, begin + _MOST_ROWS)
        keys = whole.keys[rows]
        yield whole._replace(
            keys=keys,
            values=whole.values[rows],
            times=whole.times[rows],
            exemplars=[exemplars[key] for key in keys if key in exemplars] if exemplars else [],
            how=How.UPDATE if begin and whole.how == How.WHOLE else whole.how,
        )


def label_values(key: str) -> tuple[str, ...]:
    """Of the sample of `key`, in their order."""
    return tuple(sample_of(key)[1].values())


def keyed(key: str, exemplar: Exemplar) -> KeyedExemplar:
    """`exemplar` of the sample of `key`, as a part has it."""
    at = None if exemplar.timestamp is None else float(exemplar.timestamp)
    return key, exemplar.labels, exemplar.value, at


def to_bytes(snapshot: Snapshot) -> bytes:
    """As one block."""
    content = b"\n".join(_lines(snapshot))
    return b"%08x %d\n%b\n" % (crc32(content), len(content), content)


def _lines(snapshot: Snapshot) -> Iterator[bytes]:
    # The token tells this block from all others: of two files that begin alike, one goes on the
    # other.
    yield json.dumps({"format": _FORMAT, "token": token_hex(8)}).encode()
    for part in snapshot.parts:
        yield json.dumps(part, separators=(",", ":")).encode()


def from_bytes(content: bytes, *, is_beginning: bool = True) -> tuple[list[Snapshot], int]:
    """The blocks in `content`, and where the last complete one ends.

    A block that has no end yet is being written, or its writer was killed over it; where `content`
    `is_beginning`, the first of a file is there as a whole.

    Raises:
        ValueError: it is none of ours, or of another version of otel-coach.
    """
    found: list[Snapshot] = []
    begin = 0
    while (end := content.find(b"\n", begin)) >= 0:
        head = content[begin:end]
        if not _HEAD.fullmatch(head):
            message = "it is damaged"
            raise ValueError(message)
        checksum, length = head.split()
        last = end + 1 + int(length)
        if len(content) <= last:
            break
        block = content[end + 1 : last]
        if crc32(block) != int(checksum, 16) or content[last : last + 1] != b"\n":
            message = "it is damaged"
            raise ValueError(message)
        found.append(_snapshot(block))
        begin = last + 1
    if is_beginning and not begin:
        message = "it is no snapshot"
        raise ValueError(message)
    return found, begin


def _snapshot(block: bytes) -> Snapshot:
    header, *lines = block.split(b"\n")
    try:
        head: dict[str, Any] = json.loads(header)
        if head["format"] != _FORMAT:
            message = f"it is of format {head['format']}, not {_FORMAT}"
            raise ValueError(message)
        return Snapshot([Part(*json.loads(line)) for line in lines])
    except (LookupError, TypeError, AttributeError) as error:
        message = "it is no snapshot"
        raise ValueError(message) from error
