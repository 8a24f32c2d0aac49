"""Families of one process as bytes, and back: a line of JSON for each family.

A family by itself is small, so that neither direction holds the interpreter for long.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

_YIELD = 0
"""Seconds: a sleep that lets other threads run and waits for nothing."""


@dataclass
class Snapshot:
    """What one worker measured."""

    worker: str
    families: list[Metric]
    lives: bool = True
    stale: bool = False
    """It did not answer: these are the last figures that it wrote."""
    gauge_times: dict[str, dict[tuple[str, ...], float]] = field(
        default_factory=dict[str, dict[tuple[str, ...], float]]
    )
    """Seconds since the epoch at which gauges were measured, by family and label values."""


def to_bytes(snapshot: Snapshot) -> bytes:
    """As a file holds it."""
    return b"\n".join(_lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[bytes]:
    """The snapshot's header, and a line for each family."""
    times = {
        name: [[*labels, at] for labels, at in rows.items()]
        for name, rows in snapshot.gauge_times.items()
    }
    yield json.dumps({"worker": snapshot.worker, "gauge_times": times}).encode()
    for family in snapshot.families:
        sleep(_YIELD)
        yield json.dumps(
            [
                family.name,
                family.documentation,
                family.type,
                family.unit,
                [_to_json(sample) for sample in family.samples],
            ],
            separators=(",", ":"),
        ).encode()


def from_bytes(content: bytes) -> Snapshot:
    """What `to_bytes` made.

    Raises:
        ValueError: it did not make this.
    """
    header, *rest = content.split(b"\n")
    try:
        head: dict[str, Any] = json.loads(header)
        times = {
            name: {tuple(labels): at for *labels, at in rows}
            for name, rows in head["gauge_times"].items()
        }
        return Snapshot(head["worker"], [_family(line) for line in rest], gauge_times=times)
    except (LookupError, TypeError, AttributeError) as error:
        message = "no snapshot of this version"
        raise ValueError(message) from error


def _to_json(sample: Sample) -> list[Any]:
    exemplar = sample.exemplar
    row: list[Any] = [sample.name, sample.labels, sample.value]
    if exemplar is not None:
        row.append([exemplar.labels, exemplar.value, exemplar.timestamp])
    return row


def _family(line: bytes) -> Metric:
    sleep(_YIELD)
    name, documentation, kind, unit, samples = json.loads(line)
    family = Metric(name, documentation, kind, unit)
    for sample_name, labels, value, *exemplar in samples:
        family.samples.append(
            Sample(sample_name, labels, value, None, Exemplar(*exemplar[0]) if exemplar else None)
        )
    return family
