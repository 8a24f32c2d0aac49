"""The metrics of one process, as bytes that are cheap to write, to add up and to update.

A snapshot is a block: a line with the checksum and the length of what follows, a line that names
the format, and a line of JSON for each part of a family. A worker's file begins with a block of all
its metrics. Blocks of later changes follow, so that the cost of a scrape depends on what changed.
Parts are small, because the interpreter lock is held while a line is encoded or decoded. A sample
is a string and a number in a part, not an object of its own: thousands of objects would cause long
garbage collections.
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
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Exemplar

_FORMAT: Final = 4
_MAX_ROWS: Final = 500
"""The highest number of samples in one part."""
_HEAD: Final = re.compile(rb"[0-9a-f]{8} [0-9]{1,12}")

GaugeTimes = dict[str, dict[tuple[str, ...], float]]
"""The times at which gauges were measured, in seconds, by family and label values."""

KeyedExemplar = tuple[str, "Mapping[str, str]", float, float | None]
"""The key of the sample; labels, value and time (seconds since the epoch) of the exemplar."""

_SEPARATOR: Final = "\x7f"  # a control character that JSON does not have to escape
_ESCAPED: Final = {"\\": "\\\\", _SEPARATOR: "\\s"}
_UNESCAPED: Final = {escaped: plain for plain, escaped in _ESCAPED.items()}


def key_of(sample_name: str, labels: Mapping[str, str]) -> str:
    """Returns one string of a sample's name and, alternately, its label names and values."""
    words = (sample_name, *chain.from_iterable(labels.items()))
    key = _SEPARATOR.join(words)
    if "\\" in key or key.count(_SEPARATOR) != len(words) - 1:
        key = _SEPARATOR.join(re.sub(r"[\\\x7f]", lambda m: _ESCAPED[m[0]], word) for word in words)
    return key


def sample_of(key: str) -> tuple[str, dict[str, str]]:
    """Returns the sample name and the labels from which `key_of` made `key`."""
    words = key.split(_SEPARATOR)
    if "\\" in key:
        words = [re.sub(r"\\[\\s]", lambda m: _UNESCAPED[m[0]], word) for word in words]
    return words[0], dict(zip(words[1::2], words[2::2], strict=True))


class Effect(StrEnum):
    """What a part changes of its family."""

    WHOLE = "whole"
    """It replaces the family: samples that it does not contain are removed."""
    UPDATE = "update"
    """It sets the values of its samples."""
    ADD = "add"
    """It adds to the values of its samples. The next UPDATE or WHOLE includes what it adds."""


class FamilyMetadata(NamedTuple):
    """The metadata of a family."""

    name: str
    documentation: str
    type: str
    unit: str


class Part(NamedTuple):
    """Some samples of a family, in their order and without duplicates."""

    name: str
    documentation: str
    type: str
    unit: str
    keys: Sequence[str]
    values: Sequence[float]
    exemplars: Sequence[KeyedExemplar] = ()
    times: Sequence[float] = ()
    """When each value was measured, in seconds; empty if that does not matter."""
    effect: str = Effect.WHOLE
    summand: int = 0
    """Distinguishes the parts over which exact values are spread (`Sums.folded`); the values that
    they have for one sample are added up."""

    @property
    def metadata(self) -> FamilyMetadata:
        """The metadata of the family."""
        return FamilyMetadata(*self[:4])


@dataclass
class Snapshot:
    """The metrics of one worker, or of several that have ended."""

    parts: list[Part] = field(default_factory=list[Part])


def metadata_of(family: Metric) -> FamilyMetadata:
    """Returns the metadata of `family`."""
    return FamilyMetadata(family.name, family.documentation, family.type, family.unit)


def in_parts(whole: Part, exemplars: Mapping[str, KeyedExemplar]) -> Iterator[Part]:
    """Splits `whole` into small parts, each with the `exemplars` of its own samples."""
    for begin in range(0, len(whole.keys) or 1, _MAX_ROWS):
        rows = slice(begin, begin + _MAX_ROWS)
        keys = whole.keys[rows]
        yield whole._replace(
            keys=keys,
            values=whole.values[rows],
            times=whole.times[rows],
            exemplars=[exemplars[key] for key in keys if key in exemplars] if exemplars else [],
            effect=Effect.UPDATE if begin and whole.effect == Effect.WHOLE else whole.effect,
        )


def label_values(key: str) -> tuple[str, ...]:
    """Returns the label values of the sample with this `key`, in their order."""
    return tuple(sample_of(key)[1].values())


def keyed(key: str, exemplar: Exemplar) -> KeyedExemplar:
    """Returns the `exemplar` of the sample with this `key`, in the form in which parts keep it."""
    at = None if exemplar.timestamp is None else float(exemplar.timestamp)
    return key, exemplar.labels, exemplar.value, at


def to_bytes(snapshot: Snapshot) -> bytes:
    """Encodes `snapshot` as one block."""
    content = b"\n".join(_lines(snapshot))
    return b"%08x %d\n%b\n" % (crc32(content), len(content), content)


def _lines(snapshot: Snapshot) -> Iterator[bytes]:
    # The random token makes each block unique: if a file still begins with the same block, it has
    # not been replaced, but only been appended to.
    yield json.dumps({"format": _FORMAT, "token": token_hex(8)}).encode()
    for part in snapshot.parts:
        yield json.dumps(part, separators=(",", ":")).encode()


def from_bytes(content: bytes, *, is_beginning: bool = True) -> tuple[list[Snapshot], int]:
    """Returns the snapshots in `content`, and the position where the last complete block ends.

    A last block without its end is ignored: it is still being written, or its writer was killed. If
    `is_beginning`, `content` starts where a file starts, and must contain a complete block.

    Raises:
        ValueError: `content` is damaged, not a snapshot, or of another version of otel-coach.
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
        message = "it is not a snapshot"
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
        message = "it is not a snapshot"
        raise ValueError(message) from error
