"""Our prices beside those that genai-prices itself calculates, to the last digit.

A sample by default; `make prices-equivalence` compares every way of naming every model, twice.
"""

import os
import sys
from collections import Counter
from decimal import Decimal

import pytest

from otel_coach.pricing import equivalence
from otel_coach.pricing.convert import UnknownMeaningError, installed_list, installed_version
from otel_coach.pricing.equivalence import (
    DifferentPricesError,
    RandomCalls,
    genai_prices_cost,
    write_proven_list,
)
from otel_coach.pricing.listed import SHIPPED, ListedPrices, is_newer
from tests.support.price_lists import changed_list
from tools.prices.__main__ import out_of_date

SHARE, SEEDS = (1.0, (1, 2)) if os.environ.get("ALL_PRICES") else (1 / 60, (1,))
SHIPPED_VERSION = ListedPrices().about.version

pytestmark = pytest.mark.skipif(
    is_newer(SHIPPED_VERSION, installed_version() or ""), reason="genai-prices is an older one"
)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """The list of the genai-prices that is installed, which may be newer than ours."""
    if installed_version() == SHIPPED_VERSION:
        return ListedPrices()
    path = tmp_path_factory.mktemp("prices") / "prices.tsv"
    path.write_bytes(installed_list())
    return ListedPrices(path)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_prices_and_errors_are_those_of_genai_prices(listed, seed):
    results, differences = Counter(), []
    for call in RandomCalls(seed).all(SHARE):
        theirs, ours = equivalence.genai_prices_cost(call), equivalence.listed_cost(listed, call)
        kind = ours if isinstance(ours, str) else "price" if ours else "nothing"
        results[kind] += 1
        if theirs != ours:
            differences.append((call, theirs, ours))
    sys.stdout.write(f"{results.total():,} comparisons: {dict(results)}\n")
    assert not differences
    assert min(results[kind] for kind in ("price", "nothing", "LookupError", "ValueError")) > 20
    assert SHARE < 1 or results.total() > 50_000


def test_the_list_that_comes_with_otel_coach_is_that_of_the_installed_genai_prices():
    assert [*out_of_date()] == []


def test_a_list_that_gives_other_prices_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "prices.tsv"
    wrong = changed_list((b'"input_mtok":2.5,', b'"input_mtok":2.6,'))
    monkeypatch.setattr(equivalence, "installed_list", lambda _: wrong)
    with pytest.raises(DifferentPricesError, match="the first: RandomCall"):
        write_proven_list(path)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_written_where_something_is_not_known(tmp_path, monkeypatch):
    def refuse(_):
        raise UnknownMeaningError("openai/gpt-9", "a ClauseXor")

    monkeypatch.setattr(equivalence, "installed_list", refuse)
    with pytest.raises(UnknownMeaningError):
        write_proven_list(tmp_path / "prices.tsv")
    assert [*tmp_path.iterdir()] == []


def test_what_is_written_is_what_comes_with_otel_coach(tmp_path):
    path = tmp_path / "prices.tsv"
    calls = RandomCalls(seed=1).one_for_each_model()
    priced = [call for call in calls if isinstance(genai_prices_cost(call), Decimal)]
    assert write_proven_list(path, ListedPrices().about.day) == len(priced)
    assert len(priced) > 1500
    assert [*tmp_path.iterdir()] == [path]
    if installed_version() == SHIPPED_VERSION:
        assert path.read_bytes() == SHIPPED.read_bytes()
