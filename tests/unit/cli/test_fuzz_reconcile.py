"""`otel-coach reconcile`: what is read of an export is what was written into it."""

import json
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_coach.cli.reconciliation import exports
from otel_coach.cli.reconciliation.figures import InputError
from tests.support import invoices
from tests.support.invoices import Call

DAYS = 4
NAMES = st.sampled_from(["gpt-4o-2024-08-06", "gpt-4o", "o3-mini", "claude-opus-4-20250514"]) | (
    st.from_regex(r"[a-z][a-z0-9.:/-]{0,30}", fullmatch=True)
)
COUNTS = st.integers(0, 10**9)
# Costs are JSON numbers, which have the digits of a float.
USD = st.integers(0, 10**9).map(lambda micros: Decimal(micros) / 1_000_000)

NO = st.booleans().map(lambda _: False)


@st.composite
def calls(draw, embeds=NO):
    prompt = draw(COUNTS)
    read = draw(st.integers(0, prompt))
    return Call(
        draw(NAMES),
        prompt,
        draw(COUNTS),
        read=read,
        written=draw(st.integers(0, prompt - read)),
        usd=draw(USD),
        day=draw(st.integers(0, DAYS - 1)),
        embeds=draw(embeds),
    )


LEDGERS = st.lists(calls(), min_size=1, max_size=20).filter(
    lambda made: any(call.prompt or call.completion for call in made)
)


def read(folder, *texts):
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number}")
        paths[-1].write_text(text)
    return exports.read(list(map(str, paths)))


def tokens(ledger):
    sums = Counter()
    for call in ledger:
        sums[call.model] += call.prompt + call.completion
    return dict(sums)


def usd(ledger):
    sums = {}
    for call in ledger:
        sums[call.model] = sums.get(call.model, 0) + call.usd
    return {model: pytest.approx(float(value), rel=1e-12) for model, value in sums.items()}


def tokens_read(invoice):
    return {model: figures.tokens for model, figures in invoice.models.items()}


def usd_read(invoice):
    return {model: float(figures.usd) for model, figures in invoice.models.items()}


fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzzed
@given(LEDGERS)
def test_openai_is_read_as_it_was_billed(tmp_path, ledger):
    found = read(tmp_path, invoices.openai_usage(ledger, DAYS), invoices.openai_costs(ledger, DAYS))
    assert tokens_read(found) == tokens(ledger)
    assert usd_read(found) == usd(ledger)
    assert found.span == (invoices.BEGIN, invoices.BEGIN + DAYS * invoices.DAY)


@fuzzed
@given(st.lists(calls(st.booleans()), min_size=1, max_size=20))
def test_completions_and_embeddings_are_added_up(tmp_path, ledger):
    ledger = [
        call._replace(completion=0, read=0, written=0, prompt=call.prompt + 1)
        if call.embeds
        else call._replace(prompt=call.prompt + 1)
        for call in ledger
    ]
    found = read(
        tmp_path,
        invoices.openai_usage(ledger, DAYS),
        invoices.openai_usage(ledger, DAYS, embeds=True, marker=1),
    )
    assert tokens_read(found) == tokens(ledger)


@fuzzed
@given(LEDGERS)
def test_anthropic_is_read_as_it_was_billed(tmp_path, ledger):
    found = read(
        tmp_path, invoices.anthropic_usage(ledger, DAYS), invoices.anthropic_costs(ledger, DAYS)
    )
    assert tokens_read(found) == tokens(ledger)
    assert usd_read(found) == usd(ledger)


@fuzzed
@given(LEDGERS, st.booleans())
def test_csv_is_read_as_it_was_written(tmp_path, ledger, sums):
    found = read(tmp_path, invoices.table(ledger, sums=sums))
    assert tokens_read(found) == tokens(ledger)
    assert usd_read(found) == usd(ledger)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw):
    """A page of which one value is something else."""
    ledger = [Call("gpt-4o", 5, 5, usd=Decimal(1))]
    writers = ("openai_usage", "openai_costs", "anthropic_usage", "anthropic_costs")
    page = json.loads(getattr(invoices, draw(st.sampled_from(writers)))(ledger))
    places = []

    def walk(value):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(page)
    holder, key = draw(st.sampled_from(places))
    holder[key] = draw(JSON)
    return json.dumps(page)


@fuzzed
@given(damaged() | st.text() | JSON.map(json.dumps))
def test_a_damaged_export_is_read_or_is_one_line(tmp_path, text):
    path = tmp_path / "damaged"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    why = ""
    try:
        found = exports.read([str(path)])
    except InputError as error:
        why = str(error).replace(str(path), "")
    else:
        assert all(figures.tokens >= 0 for figures in found.models.values())
    assert len(why) < 500
