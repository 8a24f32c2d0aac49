"""The random oracle, in its short form; `make oracle N=10000 SEED=...` is the long one."""

from oracle.__main__ import oracle, run
from oracle.plan import CELLS, orders

SEED = 20_260


def test_three_hundred_random_requests_leave_no_figure_wrong(database_url):
    with oracle(database_url) as running:
        assert run(running, orders(SEED, 300), progress=False) == []


def test_a_plan_is_its_seeds_and_draws_every_cell():
    assert orders(1, 50) == orders(1, 50)
    assert orders(1, 50) != orders(2, 50)
    drawn = {(order.way.path, order.ending.name) for order in orders(1, len(CELLS))}
    assert len(drawn) == len(CELLS)
