import json

import pytest

from otel_coach.pricing.own_prices import OwnPrice
from otel_coach.pricing.price_list import FAST_MODE, CallDetails, PriceList, Usage
from tests.support.price_lists import changed_list, usd

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
    assert usd(PriceList(), usage, (model,), provider) == pytest.approx(dollars, abs=1e-9)


def test_a_model_alone_is_enough_for_whoever_looks_it_up():
    assert usd(PriceList(), Usage(MTOK, 0), ("gpt-3.5-turbo",), None) == pytest.approx(0.5)


# The provider that was really asked


@pytest.mark.parametrize(
    ("model", "provider", "api_url", "asked"),
    [
        ("gpt-4o", "openai", None, "openai"),
        ("gpt-4o", "openai", "https://api.openai.com/v1", "openai"),
        # Other providers that speak OpenAI's protocol, and have models of the same names.
        ("deepseek-chat", "openai", "https://api.deepseek.com/v1", "deepseek"),
        ("openai/gpt-4o", "openai", "https://openrouter.ai/api/v1", "openrouter"),
        # Servers of one's own.
        ("gpt-4o", "openai", "http://127.0.0.1:8000/v1", None),
        ("gpt-4o", "openai", "https://llm.example.com/v1", None),
        ("gpt-3.5-turbo", "some-proxy", None, None),
        ("gpt-4o", "", None, None),
        ("deepseek-r1", "ollama", None, None),
        ("mistral-nemo", "ollama", "http://localhost:11434", None),
        ("command-r", "ollama", None, None),
        # Names with a hyphen or underscore, as the integrations have them.
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic-bedrock", None, "aws"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic-mantle", None, "aws"),
        ("mistral-large-latest", "mistral", None, "mistral"),
        ("mistral-large-latest", "mistralai", None, "mistral"),
    ],
)
def test_a_price_is_that_of_the_provider_that_was_asked(model, provider, api_url, asked):
    priced = PriceList().priced(Usage(MTOK, 0), (model,), CallDetails(provider, api_url))
    assert (priced and priced.entry.provider) == asked


@pytest.mark.parametrize(
    ("api_url", "dollars"),
    [
        ("https://llm.example.com/v1", 2.5),
        ("https://user:secret@LLM.example.com:443/v1", 2.5),
        ("http://10.0.0.7:4000", 2.5),
        ("http://10.0.0.7:4001", None),
        ("https://llm.example.com.evil/v1", None),
    ],
)
def test_behind_a_gateway_of_ones_own_a_provider_has_its_price(api_url, dollars):
    prices = PriceList(gateways={"llm.example.com": "openai", "10.0.0.7:4000": "openai"})
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai", api_url=api_url) == dollars


@pytest.mark.parametrize(
    ("model", "provider", "tier", "dollars"),
    [
        ("gpt-5", "openai", None, 1.25),
        ("gpt-5", "openai", "flex", 0.625),
        ("gpt-5", "openai", "priority", 2.5),
        ("gpt-5", "openai", "unheard-of", None),
        ("gpt-3.5-turbo", "openai", "flex", None),
        ("claude-haiku-4-5", "anthropic", "batch", 0.5),
    ],
)
def test_a_service_tier_has_its_own_price_or_none(model, provider, tier, dollars):
    assert usd(PriceList(), Usage(MTOK, 0), (model,), provider, tier=tier) == dollars


def test_fees_are_paid_where_the_list_has_them_and_named_where_not():
    call = CallDetails("anthropic", fees={"web_searches": 3, "images": 1})
    priced = PriceList().priced(Usage(MTOK, 0), ("claude-haiku-4-5",), call)
    assert priced.usd == pytest.approx(1 + 3 * 10 / 1000)
    assert priced.unpaid == ("images",)
    own = PriceList({"m": OwnPrice(1, 2)}).priced(Usage(MTOK, 0), ("m",), call)
    assert (own.usd, sorted(own.unpaid)) == (1, ["images", "web_searches"])


def test_no_price_is_none_and_never_a_guess():
    assert usd(PriceList(), Usage(10, 10), ("a-model-of-our-own",), "openai") is None


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
def test_parts_have_their_own_prices(model, provider, usage, dollars):
    cost = usd(PriceList(), usage, (model,), provider)
    assert cost == pytest.approx(dollars, abs=1e-9)


def test_cached_tokens_that_may_be_audio_have_no_price():
    usage = Usage(1_000, 100, cached=400, input_audio=300)
    assert usd(PriceList(), usage, ("gemini-2.5-flash",), "google_genai") is None


def test_the_first_model_with_a_price_counts():
    cost = usd(PriceList(), Usage(MTOK, 0), ("our-deployment", "gpt-4o"), "azure")
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
    assert usd(prices, usage, ("gpt-4o",), "openai") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1 column 2"),
        ("[]", "it is not a table of models"),
        ('{"m": 3}', "'m' has no table of prices, but 3"),
        ('{"m": {"input_mtok": 1}}', "'m' lacks input_mtok or output_mtok"),
        ('{"m": {"input_mtok": 1, "output_mtok": "2"}}', "'m': output_mtok='2' is not a number"),
        ('{"m": {"input_mtok": -1, "output_mtok": 2}}', "'m': input_mtok=-1 is not a number of 0"),
        ('{"m": {"input_mtok": true, "output_mtok": 2}}', "'m': input_mtok=True is not a number"),
        (
            '{"m": {"input_mtok": 1, "output_mtok": 2, "per_call": 3}}',
            "'m': there is no price 'per_call', but input_mtok, output_mtok, cache_read_mtok, ",
        ),
    ],
)
def test_a_broken_price_file_is_one_line_with_the_cure(tmp_path, caplog, text, reason):
    path = tmp_path / "prices.json"
    path.write_text(text)
    prices = PriceList.from_file(str(path))
    (record,) = caplog.records
    assert "OTEL_COACH_PRICES" in record.getMessage()
    assert str(path) in record.getMessage()
    assert reason in record.getMessage()
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") == pytest.approx(2.5)


def test_a_missing_price_file_is_one_line(caplog):
    PriceList.from_file("/no/such/file.json")
    (record,) = caplog.records
    assert "/no/such/file.json" in record.getMessage()


def in_folder(folder, **files):
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return str(folder / "own.toml")


NEWER = changed_list((b'"input_mtok":2.5,', b'"input_mtok":2.6,'), genai_prices="99.0")
OLDER = changed_list(genai_prices="0.0.1")


def test_a_whole_list_replaces_the_one_that_comes_with_otel_coach(tmp_path, caplog):
    path = tmp_path / "any-name"
    path.write_bytes(NEWER)
    prices = PriceList.from_file(str(path))
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") == 2.6
    assert prices.listed.about.version == "99.0"
    assert not caplog.records


def test_own_prices_may_name_a_list_beside_them(tmp_path):
    own = b'list = "newer.tsv"\n["my.model"]\ninput_mtok = 1\noutput_mtok = 2\n'
    prices = PriceList.from_file(in_folder(tmp_path, own_toml=own, newer_tsv=NEWER))
    assert usd(prices, Usage(MTOK, 0), ("my.model",), "openai") == 1
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") == 2.6


def test_a_model_of_ones_own_may_be_called_list(tmp_path):
    own = b"[list]\ninput_mtok = 1\noutput_mtok = 2\n"
    prices = PriceList.from_file(in_folder(tmp_path, own_toml=own))
    assert usd(prices, Usage(MTOK, 0), ("list",), None) == 1


def test_an_older_list_is_used_and_is_one_line(tmp_path, caplog):
    own = b'list = "old.tsv"\n'
    prices = PriceList.from_file(in_folder(tmp_path, own_toml=own, old_tsv=OLDER))
    assert prices.listed.about.version == "0.0.1"
    (record,) = caplog.records
    assert "0.0.1" in record.getMessage()
    assert "otel-coach prices --update" in record.getMessage()


@pytest.mark.parametrize("content", [NEWER[:-1], changed_list(otel_coach_prices=2)])
def test_a_list_that_is_damaged_or_of_another_version_is_one_line(tmp_path, caplog, content):
    own = b'list = "x.tsv"\n["my.model"]\ninput_mtok = 1\noutput_mtok = 2\n'
    prices = PriceList.from_file(in_folder(tmp_path, own_toml=own, x_tsv=content))
    (record,) = caplog.records
    assert "x.tsv" in record.getMessage()
    assert usd(prices, Usage(MTOK, 0), ("gpt-4o",), "openai") == 2.5


def test_which_entry_a_price_is_by_is_told():
    priced = PriceList().priced(Usage(MTOK, 0), ("gpt-4o",), CallDetails("azure"))
    assert (priced.usd, priced.entry.owner, priced.entry.model.id) == (2.5, "openai", "gpt-4o")


def test_the_age_of_the_list_is_on_the_page(measured):
    import langchain_core.callbacks.manager  # noqa: F401 - where the list is used

    assert measured.page().sum("otel_coach_price_list_age_days") == PriceList().age_days()


def test_a_tier_of_openai_and_a_mode_of_claude_may_both_be_called_fast():
    prices, usage = PriceList(), Usage(1000, 100)
    address = "https://api.openai.com/v1"
    of_tier = [
        prices.priced(usage, ("gpt-5",), CallDetails("openai", address, tier)).usd
        for tier in (None, "priority", "fast")
    ]
    assert of_tier[0] < of_tier[1] == of_tier[2]  # platform.openai.com/docs/pricing
    claude = CallDetails("anthropic", tier=FAST_MODE)
    assert prices.priced(usage, ("claude-opus-4-8",), claude).usd == pytest.approx(
        (1000 * 10 + 100 * 50) / 1e6
    )


@pytest.mark.parametrize("protocol", ["openai/v1", "anthropic"])
def test_bedrocks_other_host_has_bedrocks_prices(protocol):
    url = f"https://bedrock-mantle.us-east-1.api.aws/{protocol}"
    call = CallDetails("amazon_bedrock", url)
    by_provider = CallDetails("amazon_bedrock")
    model = ("global.anthropic.claude-sonnet-4-5-20250929-v1:0",)
    usage = Usage(1_000_000, 0)
    found = PriceList().priced(usage, model, call)
    assert found.usd == PriceList().priced(usage, model, by_provider).usd == 3.0
