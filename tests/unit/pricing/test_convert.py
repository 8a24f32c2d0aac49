"""What the list is made of; what is not known is refused."""

from dataclasses import dataclass, field, make_dataclass
from datetime import date, time, timedelta, timezone
from decimal import Decimal

import pytest

types = pytest.importorskip("genai_prices.types")
data_units = pytest.importorskip("genai_prices.data_units")

from otel_coach.pricing import convert  # noqa: E402
from otel_coach.pricing.convert import UnknownMeaningError, as_file  # noqa: E402
from otel_coach.pricing.listed import ListedPrices  # noqa: E402

D = Decimal
EQUALS = types.ClauseEquals(equals="m-1")
PRICES = types.ModelPrice(input_mtok=D(1), output_mtok=D("2.5"))


def model(match=EQUALS, prices=PRICES, **others):
    return types.ModelInfo(id="m-1", match=match, prices=prices, **others)


def provider(*models, api_pattern=r"https://api\.p\.com", **others):
    return types.Provider(id="p", name="P", api_pattern=api_pattern, models=[*models], **others)


def as_list(tmp_path, *providers, units=data_units.unit_data):
    path = tmp_path / "prices.tsv"
    path.write_bytes(as_file([*providers], units, "9.9", date(2026, 1, 2)))
    return ListedPrices(path)


def refused(*providers, units=data_units.unit_data):
    with pytest.raises(UnknownMeaningError) as error:
        as_file([*providers], units, "9.9", date(2026, 1, 2))
    return str(error.value)


def test_all_clauses_mean_what_they_meant(tmp_path):
    clauses = [
        (types.ClauseEquals(equals="M-1"), "M-1", "m-12"),
        (types.ClauseEquals(equals="Other"), "oTHER", "m-1"),
        (types.ClauseStartsWith(starts_with="Abc"), "ABCD", "xabc"),
        (types.ClauseEndsWith(ends_with="Abc"), "XABC", "abcd"),
        (types.ClauseContains(contains="Abc"), "xABCx", "ab-c"),
        (types.ClauseRegex(regex=r"^a\d+$"), "A12", "a12b"),
        (types.ClauseOr(or_=[EQUALS, types.ClauseEquals(equals="x")]), "x", "m-1x"),
        (
            types.ClauseAnd(
                and_=[types.ClauseContains(contains="a"), types.ClauseContains(contains="b")]
            ),
            "ba",
            "a",
        ),
    ]
    for clause, fits, does_not in clauses:
        listed = as_list(tmp_path, provider(model(clause)))
        assert listed.find(fits, "p").model.id == "m-1"
        with pytest.raises(LookupError):
            listed.find(does_not, "p")


def test_times_of_day_are_written_in_utc(tmp_path):
    zone = timezone(timedelta(hours=3))
    night = types.TimeOfDateConstraint(time(2, 0, tzinfo=zone), time(4, 30, tzinfo=zone))
    rows = [
        types.ConditionalPrice(prices=PRICES),
        types.ConditionalPrice(night, prices=types.ModelPrice(input_mtok=D("0.5"))),
    ]
    content = as_file([provider(model(prices=rows))], data_units.unit_data, "1", date(2026, 1, 2))
    assert b'["23:00:00","01:30:00"]' in content


class ClauseXor:
    """A clause that nobody knows yet."""


@dataclass
class WeekdayConstraint:
    weekday: int = 1


@dataclass
class OddPrice:
    base: int = 1


TIERED = types.TieredPrices(base=D(1), tiers=[types.Tier(start=10, price=D(2))])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (model(match=ClauseXor()), "ClauseXor"),
        (model(match=types.ClauseOr(or_=[ClauseXor()])), "ClauseXor"),
        (model(match=types.ClauseContains(contains="")), "empty ClauseContains"),
        (model(match=types.ClauseRegex(regex="(")), "regular expression '('"),
        (model(prices=[]), "no prices"),
        (model(prices=[types.ConditionalPrice(WeekdayConstraint(), prices=PRICES)]), "Weekday"),
        (model(prices=types.ModelPrice(per_smile=D(1))), "per_smile"),
        (model(prices=types.ModelPrice(input_mtok=OddPrice())), "OddPrice"),
        (model(prices=types.ModelPrice(input_mtok=D(-1))), "a price of Decimal('-1')"),
        (model(prices=types.ModelPrice(input_mtok=D("0.1234567890123456789"))), "a price of"),
        (model(prices=OddPrice()), "OddPrice"),
    ],
)
def test_what_is_not_known_is_refused_by_its_name_and_place(changed, named):
    message = refused(provider(changed))
    assert named in message
    assert "p/m-1" in message


@pytest.mark.parametrize(
    ("thing", "build"),
    [
        (provider(model()), lambda it: it),
        (model(), provider),
        (EQUALS, lambda it: provider(model(match=it))),
        (TIERED, lambda it: provider(model(prices=types.ModelPrice(input_mtok=it)))),
        (
            types.ConditionalPrice(prices=PRICES),
            lambda it: provider(model(prices=[it])),
        ),
        (
            types.PriceVariant(when={"tier": "flex"}, prices=PRICES),
            lambda it: provider(model(price_variants=[it])),
        ),
        (
            types.StartDateConstraint(start_date=date(2026, 1, 1)),
            lambda it: provider(model(prices=[types.ConditionalPrice(it, prices=PRICES)])),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_new_field_of_a_known_class_is_refused(thing, build):
    assert as_file([build(thing)], data_units.unit_data, "1", date(2026, 1, 2))
    grown = make_dataclass(
        type(thing).__name__,
        [("surcharge", int, field(default=0))],
        bases=(type(thing),),
        kw_only=True,
    )
    larger = object.__new__(grown)
    larger.__dict__.update(vars(thing), surcharge=1)
    message = refused(build(larger))
    assert "surcharge" in message
    assert type(thing).__name__ in message


def test_units_that_are_not_known_are_refused():
    units = data_units.unit_data
    assert "rounding" in refused(
        units={**units, "smiles": {"per": 1, "price_key": "x", "dimensions": {}, "rounding": "up"}}
    )
    assert "same dimensions" in refused(units={**units, "again": units["input_tokens"]})
    without = {key: unit for key, unit in units.items() if key != "cache_read_tokens"}
    assert "none for cache_read_tokens" in refused(units=without)


def test_a_genai_prices_of_another_shape_is_refused(monkeypatch):
    monkeypatch.setattr(convert, "import_module", lambda _: object())
    with pytest.raises(UnknownMeaningError, match="genai-prices"):
        convert.installed_list()


def test_its_day_is_the_youngest_one_that_is_not_in_the_future():
    prices = [
        types.ConditionalPrice(prices=PRICES),
        types.ConditionalPrice(types.StartDateConstraint(date(2026, 5, 1)), prices=PRICES),
        types.ConditionalPrice(types.StartDateConstraint(date(2999, 1, 1)), prices=PRICES),
    ]
    of_it = provider(model(prices=prices, price_comments="As of 2026-05-07, 1 USD per 2026-15-77."))
    assert convert._youngest_day([of_it], date(2026, 11, 28)) == date(2026, 5, 7)
    assert convert._youngest_day([of_it], date(2026, 5, 6)) == date(2026, 5, 1)
