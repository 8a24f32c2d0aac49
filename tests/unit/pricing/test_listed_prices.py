"""How the list is read: what is needed, nothing else, and nothing that was changed."""

import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal, Inexact, localcontext

import pytest

from otel_coach.pricing import listed as module
from otel_coach.pricing.listed import ListedPrices, ListOrigin, UnusableListError, is_newer
from otel_coach.pricing.own_prices import OwnPrice
from otel_coach.pricing.price_list import PriceList, Usage
from tests.support.price_lists import changed_list, usd

MTOK = 1_000_000
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def written(path, *replacements, **header):
    path.write_bytes(changed_list(*replacements, **header))
    return path


def cost(model, counts, provider=None, when=NOW, **context):
    return ListedPrices().find(model, provider).cost(counts, when, context)


# Prices, as their providers publish them, multiplied out by hand


def test_a_tier_is_paid_for_all_tokens_of_a_call():
    at_most = cost("gemini-2.5-pro", {"input_tokens": 200_000, "output_tokens": 1000}, "google")
    past = cost("gemini-2.5-pro", {"input_tokens": 200_001, "output_tokens": 1000}, "google")
    assert at_most == (200_000 * Decimal("1.25") + 1000 * 10) / MTOK
    assert past == (200_001 * Decimal("2.5") + 1000 * 15) / MTOK


def test_service_tiers_have_prices_of_their_own_except_at_a_provider_that_only_offers_the_model():
    counts = {"input_tokens": MTOK}
    assert cost("gpt-5-mini", counts, "openai") == Decimal("0.25")
    assert cost("gpt-5-mini", counts, "openai", service_tier="flex") == Decimal("0.125")
    assert cost("gpt-5-mini", counts, "openai", service_tier="priority") == Decimal("0.45")
    assert cost("gpt-5-mini", counts, "openai", service_tier="unheard-of") == Decimal("0.25")
    long_ago = datetime(2026, 10, 11, 23, 59, tzinfo=UTC)
    assert cost("gpt-5-mini", counts, "openai", long_ago, service_tier="flex") == Decimal("0.25")
    found = ListedPrices().find("gpt-5-mini", "azure")
    assert (found.provider, found.owner) == ("azure", "openai")
    assert found.cost(counts, NOW, {"service_tier": "flex"}) == Decimal("0.25")


def test_groq_bills_ten_seconds_of_audio_at_least():
    a_second, ten, twenty = (
        cost("whisper-large-v3", {"audio_seconds": n, "input_audio_seconds": n}, "groq")
        for n in (1, 10, 20)
    )
    assert a_second == ten == Decimal("0.111") * 10 / 3600
    assert twenty == Decimal("0.111") * 20 / 3600
    assert cost("whisper-large-v3", {"audio_seconds": 0}, "groq") == 0


def test_a_price_holds_between_the_times_of_a_day():
    counts = {"input_tokens": MTOK}
    at = {
        hour: cost("deepseek-v4-pro", counts, "deepseek", NOW.replace(hour=hour))
        for hour in (0, 1, 3, 4, 6, 9, 10)
    }
    assert at[1] == at[3] == at[6] == at[9] != at[0] == at[4] == at[10]


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"cache_read_tokens": 5}, "input_tokens is not given"),
        ({"input_tokens": 4, "cache_read_tokens": 5}, "is less than its parts"),
        ({"input_tokens": -1}, "no count"),
        ({"input_tokens": True}, "no count"),
        ({"input_tokens": float("nan")}, "no count"),
        ({"input_tokens": "5"}, "no count"),
        ({"input_token": 5}, "does not know what input_token is"),
        ({"requests": 5}, "does not know what requests is"),
    ],
)
def test_counts_that_cannot_be_priced_are_an_error(counts, why):
    with pytest.raises(ValueError, match=why):
        cost("gpt-4o", counts, "openai")


@pytest.mark.parametrize(
    ("model", "provider"), [("gpt-4o", "nobody"), ("nothing", "openai"), ("nothing", None)]
)
def test_what_is_not_on_the_list_is_not_found(model, provider):
    with pytest.raises(LookupError, match="the price list has no"):
        ListedPrices().find(model, provider)


def test_the_address_of_an_api_tells_its_provider():
    found = ListedPrices().find("deepseek-v4-pro", api_url="https://api.deepseek.com/v1")
    assert found.provider == "deepseek"
    with pytest.raises(LookupError, match="address"):
        ListedPrices().find("deepseek-v4-pro", api_url="http://127.0.0.1:11434")


def test_the_applications_decimal_context_changes_no_price():
    counts = {"input_tokens": 123_457}
    expected = cost("gpt-4o", counts, "openai")
    with localcontext() as context:
        context.prec = 2
        context.clear_flags()
        assert cost("gpt-4o", counts, "openai") == expected
        assert not context.flags[Inexact]


# What is read, and kept


def test_own_prices_need_no_list():
    class Unread(ListedPrices):
        def find(self, *_):
            pytest.fail("a list was read")

    prices = PriceList({"m": OwnPrice(1, 2)}, Unread())
    assert usd(prices, Usage(MTOK, 0), ("m",), None) == 1


def test_one_lookup_reads_the_models_of_one_provider_and_one_price(monkeypatch):
    prices = ListedPrices()
    read, entry = [], prices._entry
    monkeypatch.setattr(prices, "_entry", lambda who, name: read.append(who.id) or entry(who, name))
    made = []
    monkeypatch.setattr(module, "Model", lambda *args: made.append(args[0]) or "the entry")
    for _ in range(3):
        prices.find("gpt-4o", "openai")
    assert (read, made) == (["openai"], ["gpt-4o"])


def test_what_is_kept_is_bounded_also_of_what_is_not_found():
    prices = PriceList()
    for number in range(module._MAX_FOUND * 2):
        usd(prices, Usage(1, 1), (f"junk-{number}",), "typesafe")
    assert prices.listed._found.cache_info().currsize == module._MAX_FOUND


def test_memory_with_one_provider_in_use_is_small():
    ListedPrices().find("gpt-4o", "openai")  # what re and json keep
    for provider, model in (("openai", "gpt-4o"), ("openrouter", "z-ai/glm-5")):
        tracemalloc.start()
        try:
            prices = ListedPrices()
            prices.find(model, provider)
            kept, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 150_000
        assert most < 800_000


# A file that is not as it should be


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no list of prices"),
        (b"{}\n", "is no list of prices"),
        (b"[]\n", "is no list of prices"),
        (b"\xff\n", "is no list of prices"),
        (b'{"otel_coach_prices":1}\n', "is no list of prices"),
        (changed_list(otel_coach_prices=2), "another version of otel-coach"),
        (changed_list()[:-1000], "is damaged"),
        (changed_list(crc32="0"), "is damaged"),
    ],
)
def test_a_file_that_is_no_list_is_an_error_with_its_path(tmp_path, content, why):
    path = tmp_path / "prices.tsv"
    path.write_bytes(content)
    with pytest.raises(UnusableListError, match=why) as error:
        ListedPrices(path).find("gpt-4o")
    assert str(path) in str(error.value)


def test_a_list_that_is_replaced_while_it_is_in_use_is_not_mixed_with_the_old_one(tmp_path, caplog):
    path = written(tmp_path / "prices.tsv")
    prices = PriceList(listed=ListedPrices(path))
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") == 2.5
    written(path, (b'"input_mtok":2.5,', b'"input_mtok":2.6,'))
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") == 2.5
    for model in ("gpt-4o-mini", "o3"):
        assert usd(prices, Usage(MTOK, 0), (model,), "openai") is None
    (record,) = caplog.records
    assert "replaced" in record.getMessage()
    assert usd(PriceList(listed=ListedPrices(path)), Usage(MTOK, 0), ("gpt-4o",), "openai") == 2.6


def test_a_list_that_is_gone_has_no_prices_and_no_age(tmp_path, caplog):
    prices = PriceList(listed=ListedPrices(tmp_path / "prices.tsv"))
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") is None
    assert prices.age_days() is None
    (record,) = caplog.records
    assert "cannot be read (No such file" in record.getMessage()


# Its age


def test_its_age_is_counted_from_its_day():
    about = ListOrigin("0.2.3", date(2026, 11, 9))
    assert about.age_days(date(2026, 11, 28)) == 19
    assert about.age_days(date(2026, 11, 1)) == 0
    assert PriceList().age_days() >= 0


@pytest.mark.parametrize(
    ("one", "other", "newer"),
    [("0.2.10", "0.2.9", True), ("0.2.3", "0.2.3", False), ("0.2", "0.2.1", False)],
)
def test_versions_are_compared_by_their_numbers(one, other, newer):
    assert is_newer(one, other) is newer
