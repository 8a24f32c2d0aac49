"""The random oracle, in its short form; `make oracle N=3000 SEED=...` has all cells."""

import pytest

from verification.oracle.__main__ import oracle, run
from verification.oracle.matrix import CELLS
from verification.oracle.plan import orders, short_plan

SEED = 20_260


@pytest.mark.long
@pytest.mark.timeout(400)  # a difference sends its batch again, one by one
def test_each_way_and_each_ending_leaves_no_figure_and_no_span_wrong(database_url):
    with oracle(database_url) as running:
        assert run(running, short_plan(SEED)) == []


def test_the_short_plan_has_each_way_and_each_ending_and_the_long_one_each_cell():
    short = short_plan(SEED)
    assert {order.way for order in short} == {way for way, _ in CELLS}
    assert {order.ending for order in short} == {ending for _, ending in CELLS}
    assert len(short) < len(CELLS) / 5
    long = orders(SEED, len(CELLS))
    assert {(order.way, order.ending) for order in long} == set(CELLS)
