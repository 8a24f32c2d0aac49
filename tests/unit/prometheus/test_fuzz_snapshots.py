"""Snapshots of workers: exact together, and refused where they are broken."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_coach.prometheus.merge import Merged
from otel_coach.prometheus.snapshot import from_bytes, sample_of, to_bytes
from otel_coach.prometheus.sums import exact_sum
from otel_coach.workers.worker_metrics import WorkerMetrics
from tests.support import strategies_of_figures as some
from tests.support.snapshots import snapshot_of
from tests.support.watching import shown, watching

# Snapshots of workers, and what they make together


def sent(snapshot):
    """As another worker reads it."""
    ((found,), _) = from_bytes(to_bytes(snapshot))
    return found


def taken_apart(snapshot):
    """Its samples and exemplars as texts: nothing is rounded, and NaN is itself."""
    samples = [
        (part.name, part.documentation, part.type, *sample_of(key), repr(float(value)))
        for part in snapshot.parts
        for key, value in zip(part.keys, part.values, strict=True)
    ]
    return samples, [repr([*one]) for part in snapshot.parts for one in part.exemplars]


def test_an_infinite_value_among_those_that_overflow_is_the_sum():
    assert exact_sum([1e308, math.inf, 1e308]) == math.inf
    assert exact_sum([1e308, -math.inf, 1e308]) == -math.inf
    assert exact_sum([1e308, 1e308]) == math.inf
    assert exact_sum([1e308, 1e308, -1e308]) == 1e308


@given(some.families(), some.TIMES)
def test_a_snapshot_comes_back_as_it_was(families, times):
    before = snapshot_of(families, times)
    again = sent(before)
    samples, exemplars = taken_apart(again)
    assert samples == [
        (family.name, family.documentation, family.type, name, labels, repr(float(value)))
        for family in families
        for name, labels, value, *_ in family.samples
    ]
    assert exemplars == taken_apart(before)[1]
    assert [part.times for part in again.parts] == [part.times for part in before.parts]


@given(some.broken_snapshots())
def test_a_broken_snapshot_is_refused_or_can_be_added_up(content):
    try:
        snapshots, _ = from_bytes(content)
    except ValueError:
        return
    merged = Merged()
    for snapshot in snapshots:
        merged.add(snapshot, "1-a")
    list(merged.tables({"1-a"}))
    from_bytes(to_bytes(merged.folded()))


@given(some.broken_snapshots(), st.booleans())
def test_a_page_with_a_broken_snapshot_is_none_or_valid_and_shows_the_others(content, lives):
    with watching() as watched:
        mine = WorkerMetrics(
            "1-a", watched.local_metrics.measure(whole=True), lives=True, stale=False
        )
        broken = WorkerMetrics("2-b", content, lives=lives, stale=not lives)
        watched.page.show_all(lambda _: [mine, broken])
        if not is_snapshot(content):
            for made in (
                lambda: shown(watched.page),
                lambda: watched.local_metrics.fold([mine.content, content]),
            ):
                with pytest.raises(OSError, match="cannot be read"):
                    made()
            return
        page = shown(watched.page)
        ((retired,), _) = from_bytes(watched.local_metrics.fold([mine.content, content]))
    assert page.samples("agent_llm_unmeasured_total", error_type="no_usage")
    assert "agent_llm_unmeasured" in {part.name for part in retired.parts}


def is_snapshot(content):
    try:
        from_bytes(content)
    except ValueError:
        return False
    return True


def rounded_once(numbers):
    """The exact sum as the nearest float, by IEEE 754."""
    if not all(map(math.isfinite, numbers)):
        return sum(numbers)
    exact = sum(map(Fraction, numbers))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(st.lists(st.tuples(some.families(label_values=st.just("a")), st.booleans()), max_size=9))
def test_counts_of_all_workers_add_up_exactly_also_when_some_are_retired(workers):
    merged, dead, numbers = Merged(), Merged(), {}
    for number, (families, lives) in enumerate(workers):
        snapshot = sent(snapshot_of(families, {}))
        if lives:
            merged.add(snapshot, f"{number}-x")
        else:
            dead.add(snapshot, "dead")
            buried = sent(dead.folded())  # one funeral after another
            dead = Merged()
            dead.add(buried, "retired")
        for name, labels_, value, *_ in (one for family in families for one in family.samples):
            numbers.setdefault((name, labels_["who"]), []).append(value)
    merged.add(sent(dead.folded()), "retired")
    found = {}
    for table in merged.tables(set()):
        for key, value in zip(table.keys, table.values, strict=True):
            name, labels_ = sample_of(key)
            found[name, labels_["who"]] = value
    truth = {key: rounded_once(values) for key, values in numbers.items() if key[0] != "g"}
    assert {key: repr(value + 0) for key, value in found.items()} == {
        key: repr(float(value) + 0) for key, value in truth.items()
    }
