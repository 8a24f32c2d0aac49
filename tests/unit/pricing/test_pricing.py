import json

import pytest

from otel_coach.pricing.price_list import PriceList, Usage
from tests.support.versions import LIST_HAS_PARTS

MTOK = 1_000_000


@pytest.mark.parametrize(
    ("model", "provider", "usage", "dollars"),
    [
        # Published prices, US dollars for a million tokens, multiplied out by hand.
        ("gpt-3.5-turbo", "openai", Usage(1_000, 500), (1_000 * 0.5 + 500 * 1.5) / MTOK),
        (
            "gpt-4o",
            "openai",
            Usage(1_000, 100, cached=400),
            (600 * 2.5 + 400 * 1.25 + 100 * 10) / MTOK,
        ),
        (
            "claude-sonnet-4-5",
            "anthropic",
            Usage(1_000, 100, cached=300, cache_write=200),
            (500 * 3 + 300 * 0.3 + 200 * 3.75 + 100 * 15) / MTOK,
        ),
    ],
)
def test_listed_prices(model, provider, usage, dollars):
    assert PriceList().cost(usage, (model,), provider) == pytest.approx(dollars, abs=1e-9)


def test_the_provider_is_found_without_being_named():
    assert PriceList().cost(Usage(MTOK, 0), ("gpt-3.5-turbo",), None) == pytest.approx(0.5)
    assert PriceList().cost(Usage(MTOK, 0), ("gpt-3.5-turbo",), "some-proxy") == pytest.approx(0.5)


def test_no_price_is_none_and_never_a_guess():
    assert PriceList().cost(Usage(10, 10), ("a-model-of-our-own",), "openai") is None


@pytest.mark.parametrize(
    ("model", "provider", "usage", "dollars"),
    [
        (
            "claude-sonnet-4-5",
            "anthropic",
            Usage(1_000, 100, cache_write=200, cache_write_1h=50),
            (800 * 3 + 150 * 3.75 + 50 * 6 + 100 * 15) / MTOK,
        ),
        (
            "gemini-2.5-flash",
            "google_genai",
            Usage(1_000, 100, input_audio=300),
            (700 * 0.3 + 300 * 1 + 100 * 2.5) / MTOK,
        ),
    ],
)
def test_a_kind_of_tokens_that_the_installed_list_lacks_is_no_price(
    model, provider, usage, dollars
):
    cost = PriceList().cost(usage, (model,), provider)
    assert cost == (pytest.approx(dollars, abs=1e-9) if LIST_HAS_PARTS else None)


def test_cached_tokens_that_may_be_audio_have_no_price():
    usage = Usage(1_000, 100, cached=400, input_audio=300)
    assert PriceList().cost(usage, ("gemini-2.5-flash",), "google_genai") is None


def test_the_first_model_with_a_price_counts():
    cost = PriceList().cost(Usage(MTOK, 0), ("our-deployment", "gpt-4o"), "azure")
    assert cost == pytest.approx(2.5)


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_own_prices_come_first(tmp_path, kind):
    path = tmp_path / f"prices.{kind}"
    path.write_text(
        json.dumps({"gpt-4o": {"input_mtok": 1, "output_mtok": 2, "cache_read_mtok": 0.5}})
        if kind == "json"
        else '["gpt-4o"]\ninput_mtok = 1\noutput_mtok = 2\ncache_read_mtok = 0.5\n'
    )
    prices = PriceList.from_file(str(path))
    usage = Usage(1_000, 10, cached=100, cache_write=50)
    expected = (850 * 1 + 100 * 0.5 + 50 * 1 + 10 * 2) / MTOK
    assert prices.cost(usage, ("gpt-4o",), "openai") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"m": 3}',
        '{"m": {"input_mtok": 1}}',
        '{"m": {"input_mtok": 1, "output_mtok": "2"}}',
        '{"m": {"input_mtok": -1, "output_mtok": 2}}',
        '{"m": {"input_mtok": true, "output_mtok": 2}}',
        '{"m": {"input_mtok": 1, "output_mtok": 2, "per_call": 3}}',
    ],
)
def test_a_broken_price_file_is_one_line_with_the_cure(tmp_path, caplog, text):
    path = tmp_path / "prices.json"
    path.write_text(text)
    prices = PriceList.from_file(str(path))
    (record,) = caplog.records
    assert "OTEL_COACH_PRICES" in record.getMessage()
    assert str(path) in record.getMessage()
    assert prices.cost(Usage(MTOK, 0), ("gpt-4o",), "openai") == pytest.approx(2.5)


def test_a_missing_price_file_is_one_line(caplog):
    PriceList.from_file("/no/such/file.json")
    (record,) = caplog.records
    assert "/no/such/file.json" in record.getMessage()
