"""Figures of workers, whole and broken: hypothesis' strategies."""

import json
from contextlib import suppress

from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from otel_coach.prometheus.snapshot import to_bytes
from tests.support.snapshots import snapshot_of
from tests.support.strategies import (
    COUNTS,
    DEEP,
    JSON,
    TEXT,
    WORDS,
    damaged,
    damaged_bytes,
    encoded,
)

_MAX_FLOAT = 1.7976931348623157e308
NUMBERS = (
    st.floats(0, 1000)
    | st.floats()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from([0.1, 5e-324, 1e16, _MAX_FLOAT, -_MAX_FLOAT, float("inf"), -float("inf")])
)
_SUFFIXES = {
    ("c", "counter"): ["_total"],
    ("h", "histogram"): ["_count", "_sum"],
    ("s", "summary"): ["_count", "_sum"],
    ("g", "gauge"): [""],
}


@st.composite
def families(draw, numbers=NUMBERS, label_values=st.sampled_from("ab") | TEXT, *, without=""):
    """Some families of a worker; those with one name are of one kind in all workers."""
    made = []
    kinds = [(name, kind) for name, kind in _SUFFIXES if kind != without]
    for name, kind in draw(st.lists(st.sampled_from(kinds), unique=True)):
        family = Metric(name, draw(st.text(max_size=10)), kind)
        for value in draw(st.lists(label_values, unique=True, max_size=4)):
            for suffix in _SUFFIXES[name, kind]:
                exemplar = Exemplar({"trace_id": "1"}, draw(numbers), draw(st.none() | COUNTS))
                labels = {"who": value, "where": "here"}
                has_one = suffix == "_total" and draw(st.booleans())
                sample = Sample(
                    name + suffix, labels, draw(numbers), None, exemplar if has_one else None
                )
                family.samples.append(sample)
        made.append(family)
    return made


TIMES = st.dictionaries(
    st.just("dependency_up") | TEXT,
    st.dictionaries(st.tuples(TEXT), st.floats(0, 1e12), max_size=3),
    max_size=2,
)


@st.composite
def broken_snapshots(draw):
    """What stands where a worker's snapshot is expected."""
    # A strict parser wants a histogram to be right in itself.
    found = draw(families(st.integers(0, 9), WORDS, without="histogram"))
    whole = to_bytes(snapshot_of(found, draw(TIMES)))
    lines = whole.split(b"\n")
    number = draw(st.integers(0, len(lines) - 1))
    others = JSON.map(encoded) | DEEP
    with suppress(ValueError):  # a line that is no JSON
        others |= damaged(json.loads(lines[number])).map(encoded)
    lines[number] = draw(others)
    return draw(st.just(b"\n".join(lines)) | damaged_bytes(whole) | st.binary(max_size=40))
