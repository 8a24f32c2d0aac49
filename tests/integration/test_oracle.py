"""The random oracle, in its short form; `make oracle N=10000 SEED=...` is the long one."""

import pytest

from verification.oracle.__main__ import oracle, run
from verification.oracle.matrix import CELLS
from verification.oracle.plan import orders

SEED = 20_260


@pytest.mark.timeout(400)  # a difference sends its batch again, one by one
def test_each_cell_of_the_matrix_leaves_no_figure_and_no_span_wrong(database_url):
    with oracle(database_url) as running:
        assert run(running, orders(SEED, len(CELLS))) == []
