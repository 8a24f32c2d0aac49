"""`otel-coach reconcile`: exports that cannot be used are one line that names the cure."""

import json
import os
import threading

import psutil
import pytest

from otel_coach.cli.reconciliation import exports
from tests.support import invoices
from tests.support.invoices import BEGIN, DAY, Call, page_text

GPT = Call("gpt-4o-2024-08-06", 1000, 500)
PAGE = page_text({"gpt-4o": {"prompt": 1000, "completion": 500}})


def openai_page(*results, begin=BEGIN, end=BEGIN + DAY):
    bucket = {"object": "bucket", "start_time": begin, "end_time": end, "results": list(results)}
    return json.dumps({"object": "page", "data": [bucket], "has_more": False})


def completions(**more):
    kind = "organization.usage.completions.result"
    return {"object": kind, "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1, **more}


def costs(**more):
    amount = {"value": 1, "currency": "usd"}
    return {
        "object": "organization.costs.result",
        "amount": amount,
        "line_item": "m, input",
        **more,
    }


def anthropic_page(*results):
    times = {"starting_at": "2026-11-28T00:00:00Z", "ending_at": "2026-11-29T00:00:00Z"}
    return json.dumps({"data": [{**times, "results": list(results)}], "has_more": False})


UNUSABLE = {
    "nothing": ("", "no known export"),
    "a word": ("hello", "no known export"),
    "another CSV": ("model,cost\nm,1\n", "begins with model,day,input_tokens,output_tokens,usd"),
    "half a page": (openai_page(completions())[:-30], "is no JSON"),
    "an infinite number": (openai_page(completions(input_tokens=float("inf"))), "is no JSON"),
    "another JSON": ('{"object": "list", "data": []}', "no known export"),
    "a number": ("[1, 2]", "no known export"),
    "an error of OpenAI": ('{"error": {"message": "no"}}', "with an admin key"),
    "an error of Anthropic": ('{"type": "error", "error": {"type": "x"}}', "with an admin key"),
    "no buckets": ('{"object": "page", "data": []}', "has no lines"),
    "a bucket without times": (
        '{"object": "page", "data": [{"results": []}]}',
        "without start_time",
    ),
    "a bucket of text": ('{"object": "page", "data": ["x"]}', "without start_time"),
    "a time out of range": (openai_page(completions(), begin=10**30), "without start_time"),
    "a span that ends first": (openai_page(completions(), end=BEGIN), "ends before it begins"),
    "no usage": (openai_page(), "export the span of time in which the calls were made"),
    "usage of 0": (openai_page(completions(input_tokens=0, output_tokens=0)), "has no usage"),
    "a result of text": (openai_page("x"), "have no tokens to compare"),
    "a result of a list": (openai_page({"object": []}), "have no tokens to compare"),
    "images": (
        openai_page({"object": "organization.usage.images.result", "images": 3}),
        "export /v1/organization/usage/completions",
    ),
    "no models": (openai_page(completions(model=None)), "group_by=model"),
    "no tokens": (openai_page({"object": completions()["object"], "model": "m"}), "input_tokens"),
    "tokens below 0": (
        openai_page(completions(input_tokens=-5)),
        "input_tokens is -5, which is no",
    ),
    "half a token": (openai_page(completions(input_tokens=0.5)), "is '0.5', which is no number"),
    "tokens of text": (openai_page(completions(input_tokens="5")), "is '5', which is no number"),
    "tokens of truth": (openai_page(completions(output_tokens=True)), "is True, which is no"),
    "tokens without end": (openai_page(completions(input_tokens=10**20)), "is no number of tokens"),
    "an exponent": (openai_page(completions()).replace(": 1,", ": 1e999999999,"), "is no number"),
    "euros": (openai_page(costs(amount={"value": 1, "currency": "eur"})), "only costs in USD"),
    "dollars of text": (
        openai_page(costs(amount={"value": "x", "currency": "usd"})),
        "no amount of",
    ),
    "dollars of nan": (openai_page(costs(amount={"value": "NaN", "currency": "usd"})), "no amount"),
    "Anthropic's: no models": (
        anthropic_page({"uncached_input_tokens": 1, "model": None}),
        "group_by[]=model",
    ),
    "Anthropic's: another report": (anthropic_page({"actor": {}}), "/usage_report/messages"),
    "Anthropic's: euros": (anthropic_page({"amount": "1", "currency": "EUR"}), "only costs in USD"),
    "Anthropic's: half a time": (
        '{"data": [{"starting_at": "2026", "ending_at": "x", "results": []}], "has_more": false}',
        "without starting_at",
    ),
    "CSV: both kinds of tokens": ("model,day,tokens,input_tokens\n", "keep either the sum"),
    "CSV: the last day": ("model,day,tokens\nm,9999-12-31,1\n", "line 2: day is '9999-12-31'"),
    "CSV: no day": ("model,day,tokens\nm,28.11.2026,1\n", "line 2: day is '28.11.2026'"),
    "CSV: no model": ("model,day,tokens\n,2026-11-28,1\n", "line 2 names no model"),
    "CSV: tokens of text": ("model,day,tokens\nm,2026-11-28,many\n", "line 2: tokens is 'many'"),
    "CSV: dollars of text": ("model,day,usd\nm,2026-11-28,$1\n", "line 2: usd is '$1'"),
    "CSV: a quote without end": ('model,day,tokens\n"m,2026-11-28,1\n', "is no CSV"),
    "CSV: a cell without end": (f"model,day,tokens\n{'m' * 200_000},2026-11-28,1\n", "is no CSV"),
    "CSV: no lines": ("model,day,tokens\n", "has no lines"),
    "bytes": (b"\xff\xfe\x00", "no text in UTF-8"),
    "brackets": ("[" * 100_000, "is no JSON"),
    "digits": (openai_page(completions()).replace(": 1,", f": {'1' * 10_000},"), "is no JSON"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_an_export_that_cannot_be_used_is_one_line_with_a_cure(reconcile, what):
    text, cure = UNUSABLE[what]
    line = reconcile.error(text, page=PAGE)
    assert cure in line
    assert len(line) < 500


def test_a_file_that_is_not_there_is_named(reconcile, tmp_path):
    line = reconcile.error([], str(tmp_path / "no.json"), page=PAGE)
    assert "no.json cannot be read (No such file or directory)" in line
    assert "cannot be read" in reconcile.error([], str(tmp_path), page=PAGE)
    assert "cannot be read" in reconcile.error([], "a\0b", page=PAGE)


def test_a_huge_file_takes_no_memory(reconcile, monkeypatch, tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(10 << 30)  # a hole: no block of it is on the disk
    before = psutil.Process().memory_info().rss
    line = reconcile.error([], str(path), page=PAGE)
    assert "has more than 64 MB; name a file of a shorter span of time" in line
    assert psutil.Process().memory_info().rss - before < 200 << 20


def test_a_pipe_that_nobody_writes_to_is_left(reconcile, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "MAX_SECONDS", 0.3)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert "was not read within 0.3 s" in reconcile.error([], str(path), page=PAGE)
    # The thread that still waits ends with the first writer.
    threading.Thread(target=path.write_bytes, args=(b"",)).start()


def test_the_same_page_twice_is_not_counted_twice(reconcile):
    page = invoices.openai_usage([GPT])
    assert "name each page once" in reconcile.error([page, page], page=PAGE)
    assert "name each page once" in reconcile.error(page + page, page=PAGE)
    table = invoices.table([GPT])
    assert "name each page once" in reconcile.error([table, table], page=PAGE)


def test_pages_of_the_same_time_are_said(reconcile):
    pages = [invoices.openai_usage([call]) for call in (GPT, Call("gpt-4o", 5, 5))]
    _, shown, _ = reconcile(pages, page=PAGE)
    assert "note: two pages of OpenAI completions have lines of 2026-11-28 00:00 UTC" in shown


def test_usage_and_costs_of_different_times_are_not_compared(reconcile):
    usage = invoices.openai_usage([GPT])
    later = invoices.openai_costs([GPT._replace(usd=1)], begin=BEGIN + DAY)
    line = reconcile.error([usage, later], page=PAGE)
    assert "OpenAI costs from 2026-11-29 00:00 UTC to 2026-11-30 00:00 UTC" in line
    assert "export the same span of each" in line


def test_an_empty_bucket_belongs_to_the_time_of_its_report(reconcile):
    usage = invoices.openai_usage([GPT], days=3)
    two_days = invoices.openai_costs([GPT._replace(usd=1)], days=2)
    assert "export the same span" in reconcile.error([usage, two_days], page=PAGE)
    third_day = invoices.openai_costs([], begin=BEGIN + 2 * DAY)
    assert reconcile([usage, two_days, third_day], page=PAGE)[0] == 1


def test_the_export_of_another_provider_is_said(reconcile):
    usage = invoices.anthropic_usage([Call("claude-sonnet-4-20250514", 5, 5)])
    line = reconcile.error(usage, page=PAGE)
    assert "no model of the export (claude-sonnet-4-20250514)" in line
    assert "those that were counted (gpt-4o)" in line
    assert "--alias" in line


def test_a_pattern_that_no_model_has_is_said(reconcile):
    line = reconcile.error(invoices.openai_usage([GPT]), "--models", "gemini-*", page=PAGE)
    assert "no model has the form gemini-*" in line


def test_pages_may_be_in_one_file(reconcile):
    later = invoices.openai_usage([GPT], begin=BEGIN + DAY)
    page = page_text({"gpt-4o": {"prompt": 2000, "completion": 1000}})
    both = [invoices.openai_usage([GPT]), later]
    for text in ("\n".join(both), f"[{','.join(both)}]", "\ufeff" + "".join(both)):
        assert reconcile(text, page=page)[0] == 0


def test_a_csv_of_a_spreadsheet_is_read(reconcile):
    text = '\ufeffDay, Model ,Tokens,Remark\r\n2026-11-28,gpt-4o-2024-08-06,"1500",a\r\n\r\n'
    found = reconcile.json(text, page=PAGE)
    assert found["reconciled"]
    assert found["to"] - found["from"] == DAY
