"""The random oracle, in its short form; `make oracle N=10000 SEED=...` is the long one."""

import pytest
from conftest import alone

from oracle.__main__ import oracle, run
from oracle.abandoned import growth, kept_for_each
from oracle.matrix import ALL_WAYS, CELLS, ENDINGS, LEFT_OUT
from oracle.plan import orders

SEED = 20_260


@pytest.mark.timeout(400)  # a difference sends its batch again, one by one
def test_each_cell_of_the_matrix_leaves_no_figure_and_no_span_wrong(database_url):
    with oracle(database_url) as running:
        assert run(running, orders(SEED, len(CELLS))) == []


def test_a_plan_is_its_seeds_and_draws_every_cell():
    assert orders(1, 50) == orders(1, 50)
    assert orders(1, 50) != orders(2, 50)
    drawn = {(order.way.path, order.ending.name) for order in orders(1, len(CELLS))}
    assert len(drawn) == len(CELLS)


def test_what_is_left_out_exists():
    ways, endings = {way.name for way in ALL_WAYS}, {ending.name for ending in ENDINGS}
    for left_out in LEFT_OUT:
        assert left_out.ways <= ways
        assert left_out.endings <= endings


def kept_of_abandoned_runs():
    return kept_for_each(list(growth(4_000)))  # `make abandoned` is the long form


def test_memory_stays_flat_while_runs_are_abandoned():
    assert alone(kept_of_abandoned_runs) < 20  # bytes; one that is kept costs over a thousand
