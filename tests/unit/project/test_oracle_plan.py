"""The plan of the random oracle."""

from verification.oracle.endings import ENDINGS
from verification.oracle.matrix import CELLS, LEFT_OUT
from verification.oracle.plan import orders
from verification.oracle.ways import ALL_WAYS


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
