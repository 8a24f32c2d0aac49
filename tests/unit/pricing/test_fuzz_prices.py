"""Price files of any kind: used as a hand would, or one line."""

import json
import logging
import os
from contextlib import contextmanager
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from otel_coach.pricing.price_list import PriceList
from tests.support import strategies as some
from tests.support.price_lists import usd

# The price file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("prices")


def written(folder, content, kind):
    path = folder / f"prices.{kind}"
    path.write_bytes(content)
    return str(path)


@contextmanager
def log_lines():
    """What otel-coach logs inside."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("otel_coach")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def in_toml(rows):
    tables = (
        (json.dumps(model, ensure_ascii=False), ", ".join(f"{key} = {row[key]}" for key in row))
        for model, row in rows.items()
    )
    return "\n".join(f"{model} = {{{row}}}" for model, row in tables)


@given(st.dictionaries(some.VISIBLE, some.PRICES, max_size=3), some.blocks())
def test_a_price_file_prices_as_a_hand_does(folder, rows, block):
    _, usage = block
    for kind, text in (("json", json.dumps(rows)), ("toml", in_toml(rows))):
        prices = PriceList.from_file(written(folder, text.encode(), kind))
        for model, row in rows.items():
            exact = {key: Fraction(value) for key, value in row.items()}
            write = exact.get("cache_write_mtok", exact["input_mtok"])
            dollars = (
                (usage.prompt - usage.cached - usage.cache_write) * exact["input_mtok"]
                + usage.cached * exact.get("cache_read_mtok", exact["input_mtok"])
                + (usage.cache_write - usage.cache_write_1h) * write
                + usage.cache_write_1h * exact.get("cache_write_1h_mtok", write)
                + usage.completion * exact["output_mtok"]
            ) / 1_000_000
            assert usd(prices, usage, (model,), None) == pytest.approx(float(dollars), rel=1e-9)


@given(some.price_files(), st.sampled_from(["json", "toml"]))
@example(b'{"m": {"input_mtok": 1%b, "output_mtok": 1}}' % (b"0" * 400), "json")
@example(b'{"two\\nlines": 3}', "json")
@example(b"[" * 50_000, "json")
def test_any_price_file_is_used_or_is_one_line(folder, content, kind):
    with log_lines() as lines:
        PriceList.from_file(written(folder, content, kind))
    assert len(lines) <= 1
    assert "\n" not in "".join(lines)


@given(some.TEXT)
def test_a_path_without_a_price_file_is_one_line(path):
    assume(not os.path.exists(path))  # noqa: PTH110 - for some texts a Path raises
    with log_lines() as lines:
        PriceList.from_file(path)
    assert len(lines) == 1
