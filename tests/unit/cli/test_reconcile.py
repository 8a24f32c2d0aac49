"""`otel-coach reconcile`: what it prints and how it judges, against figures written by hand."""

import json
from decimal import Decimal

import pytest

from tests.support import invoices
from tests.support.invoices import Call, page_text

GPT = Call("gpt-4o-2024-08-06", 1000, 500, read=800, usd=Decimal("0.0075"))
MINI = Call("gpt-4o-mini-2024-07-18", 2000, 40, usd=Decimal("0.0003"))
CLAUDE = Call("claude-sonnet-4-20250514", 900, 100, read=300, written=90, usd=Decimal("0.0042"))
PAGE = page_text(
    {
        "gpt-4o": {"prompt": 1000, "completion": 500},
        "gpt-4o-mini": {"prompt": 2000, "completion": 40},
    },
    {"gpt-4o": 0.0075, "gpt-4o-mini": 0.0003},
)


def by_model(found):
    return {row["model"]: row for row in found["models"]}


def test_all_that_was_billed_was_counted(reconcile):
    exports = [invoices.openai_usage([GPT, MINI]), invoices.openai_costs([GPT, MINI])]
    code, shown, errors = reconcile(exports, page=PAGE)
    assert (code, errors) == (0, "")
    lines = shown.splitlines()
    assert lines[0] == (
        "theirs: OpenAI completions, OpenAI costs, 2026-11-28 00:00 UTC to 2026-11-29 00:00 UTC"
    )
    assert lines[1].startswith("ours: ")
    assert [" ".join(line.split()) for line in lines[3:6]] == [
        "gpt-4o 1,500 1,500 +0 1.0000 0.007500 0.007500 +0.000000 1.0000",
        "gpt-4o-mini 2,040 2,040 +0 1.0000 0.000300 0.000300 +0.000000 1.0000",
        "total 3,540 3,540 +0 1.0000 0.007800 0.007800 +0.000000 1.0000",
    ]
    assert "gpt-4o: theirs gpt-4o-2024-08-06, ours gpt-4o" in lines
    assert lines[-1] == "reconciled: every model and the total differ by at most 1.00%"


def test_a_difference_that_rounds_to_nothing_has_no_minus(reconcile):
    ours = 0.0074999999
    page = page_text({"gpt-4o": {"prompt": 1000, "completion": 500}}, {"gpt-4o": ours})
    _, shown, _ = reconcile([invoices.openai_usage([GPT]), invoices.openai_costs([GPT])], page=page)
    assert "-0.000000" not in shown
    assert "+0.000000" in shown


def test_a_missing_call_is_a_difference_and_a_share(reconcile):
    page = page_text({"gpt-4o": {"prompt": 900, "completion": 450}}, {"gpt-4o": 0.006})
    exports = [invoices.openai_usage([GPT]), invoices.openai_costs([GPT])]
    code, shown, _ = reconcile(exports, page=page)
    assert code == 1
    assert " ".join(shown.splitlines()[3].split()) == (
        "gpt-4o 1,500 1,350 -150 0.9000 0.007500 0.006000 -0.001500 0.8000"
    )
    assert "NOT reconciled: gpt-4o differs by more than 1.00% in tokens and USD" in shown
    assert reconcile(exports, "--tolerance", "0.1", page=page)[0] == 1
    assert reconcile(exports, "--tolerance", "0.2", page=page)[0] == 0


def test_a_share_of_one_means_that_nothing_is_missing(reconcile):
    billed = Call("m", 1_000_000, 0)
    for count, share in ((999_999, "0.9999"), (1_000_001, "1.0001"), (1_000_000, "1.0000")):
        _, shown, _ = reconcile(
            invoices.openai_usage([billed]), page=page_text({"m": {"prompt": count}})
        )
        assert shown.splitlines()[3].split()[4] == share


def test_no_tolerance_allows_no_token_and_only_the_rounding_of_dollars(reconcile):
    calls = [Call("m", 1, 0, usd=Decimal("0.1")), Call("m", 2, 0, usd=Decimal("0.2"))]
    exports = [invoices.openai_usage(calls), invoices.openai_costs(calls)]
    page = page_text({"m": {"prompt": 3}}, {"m": 0.1 + 0.2})
    assert reconcile(exports, "--tolerance", "0", page=page)[0] == 0
    page = page_text({"m": {"prompt": 2}}, {"m": 0.1 + 0.2})
    assert reconcile(exports, "--tolerance", "0", page=page)[0] == 1


def test_models_of_one_side_only_are_rows_of_their_own(reconcile):
    page = page_text({"gpt-4o": {"prompt": 1000, "completion": 500}, "gpt-5": {"prompt": 7}})
    found = reconcile.json(invoices.openai_usage([GPT, MINI]), page=page)
    rows = by_model(found)
    assert rows["gpt-5"]["their_names"] == []
    assert rows["gpt-5"]["tokens"] == {
        "theirs": 0,
        "ours": 7,
        "difference": 7,
        "captured": None,
    }
    assert rows["gpt-4o-mini-2024-07-18"]["our_names"] == []
    assert rows["gpt-4o-mini-2024-07-18"]["tokens"]["captured"] == 0
    assert [name for name, row in rows.items() if row["beyond_tolerance"]] == [
        "gpt-4o-mini-2024-07-18",
        "gpt-5",
    ]
    _, shown, _ = reconcile(invoices.openai_usage([GPT, MINI]), page=page)
    assert "gpt-5: only ours" in shown
    assert "gpt-4o-mini-2024-07-18: only theirs" in shown


def test_differences_of_two_models_do_not_cancel_out(reconcile):
    page = page_text({"a": {"prompt": 80}, "b": {"prompt": 120}})
    found = reconcile.json(invoices.openai_usage([Call("a", 100, 0), Call("b", 100, 0)]), page=page)
    assert found["total"]["tokens"]["difference"] == 0
    assert not found["reconciled"]


def test_without_costs_dollars_are_shown_and_not_judged(reconcile):
    found = reconcile.json(invoices.openai_usage([GPT, MINI]), page=PAGE)
    assert found["reconciled"]
    assert by_model(found)["gpt-4o"]["usd"] == {
        "theirs": None,
        "ours": 0.0075,
        "difference": None,
        "captured": None,
    }


def test_costs_that_are_not_split_by_model_are_compared_in_the_total(reconcile):
    exports = [
        invoices.openai_usage([GPT, MINI]),
        invoices.openai_costs([GPT, MINI], grouped=False),
    ]
    found = reconcile.json(exports, page=PAGE)
    assert found["reconciled"]
    assert by_model(found)["gpt-4o"]["usd"]["theirs"] is None
    assert found["total"]["usd"]["captured"] == pytest.approx(1)


def test_costs_that_are_split_by_model_for_one_provider_only_say_so(reconcile):
    exports = [
        invoices.openai_usage([GPT]),
        invoices.openai_costs([GPT], grouped=False),
        invoices.anthropic_usage([CLAUDE]),
        invoices.anthropic_costs([CLAUDE]),
    ]
    page = page_text(
        {
            "gpt-4o": {"prompt": 1000, "completion": 500},
            "claude-sonnet-4": {"prompt": 900, "completion": 100},
        },
        {"gpt-4o": 0.0075, "claude-sonnet-4": 0.0042},
    )
    found = reconcile.json(exports, page=page)
    assert found["total"]["usd"]["captured"] == pytest.approx(1)
    (note,) = [note for note in found["notes"] if "US dollars" in note]
    assert note == (
        "the export does not split its US dollars by model for gpt-4o: they are compared in the "
        "total only; export costs by line item (group_by=line_item)"
    )


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_fees_besides_tokens_are_rows_and_count_in_the_total(reconcile, provider):
    fees = [("web search tool calls", Decimal("0.02"))]
    usage = getattr(invoices, f"{provider}_usage")([CLAUDE])
    costs = getattr(invoices, f"{provider}_costs")([CLAUDE], fees=fees)
    page = page_text(
        {"claude-sonnet-4": {"prompt": 900, "completion": 100}}, {"claude-sonnet-4": 0.0042}
    )
    found = reconcile.json([usage, costs], page=page)
    assert found["fees"] == [{"name": "web search tool calls", "usd": 0.02}]
    assert found["models"][0]["usd"]["captured"] == pytest.approx(1)
    assert found["total"]["usd"]["theirs"] == pytest.approx(0.0242)
    assert found["total"]["beyond_tolerance"] == ["usd"]


def test_several_providers_are_compared_at_once(reconcile):
    page = page_text(
        {
            "gpt-4o": {"prompt": 1000, "completion": 500},
            "claude-sonnet-4-20250514": {"prompt": 1000},
        }
    )
    exports = [invoices.openai_usage([GPT]), invoices.anthropic_usage([CLAUDE])]
    found = reconcile.json(exports, page=page)
    assert found["theirs"] == ["Anthropic usage", "OpenAI completions"]
    assert found["total"]["tokens"]["captured"] == 1


def test_of_several_providers_one_can_be_compared_alone(reconcile):
    page = page_text({"gpt-4o": {"prompt": 1000, "completion": 500}, "claude-x": {"prompt": 9}})
    usage = invoices.openai_usage([GPT])
    assert reconcile(usage, page=page)[0] == 1
    found = reconcile.json(usage, "--models", "gpt-*", page=page)
    assert found["reconciled"]
    assert list(by_model(found)) == ["gpt-4o"]


def test_embeddings_have_a_report_of_their_own(reconcile):
    embedding = Call("text-embedding-ada-002-v2", 70, 0, embeds=True)
    calls = [GPT, embedding]
    exports = [invoices.openai_usage(calls), invoices.openai_usage(calls, embeds=True)]
    page = page_text(
        {
            "gpt-4o": {"prompt": 1000, "completion": 500},
            "text-embedding-ada-002": {"embedding": 70},
        }
    )
    found = reconcile.json(exports, page=page)
    assert found["theirs"] == ["OpenAI completions", "OpenAI embeddings"]
    assert by_model(found)["text-embedding-ada-002"]["tokens"]["captured"] == 1


def test_unmeasured_calls_are_shown_beside_their_model(reconcile):
    page = page_text(
        {"gpt-4o": {"prompt": 900, "completion": 500}},
        unmeasured=[("gpt-4o", "no_usage", 3), ("gpt-4o", "no_price", 1), ("gpt-9", "no_usage", 2)],
    )
    _, shown, _ = reconcile(invoices.openai_usage([GPT]), page=page)
    assert "gpt-4o: unmeasured calls: 1 no_price, 3 no_usage" in shown.splitlines()
    assert "gpt-9: unmeasured calls: 2 no_usage" in shown.splitlines()


def test_models_past_the_budget_are_said(reconcile):
    page = page_text({"gpt-4o": {"prompt": 1000}, "other": {"prompt": 500}}, overflows=4)
    _, shown, _ = reconcile(invoices.openai_usage([GPT]), page=page)
    assert "other: only ours" in shown
    assert "note: the label model has the value other" in shown
    assert "raise OTEL_COACH_BUDGET_MODEL" in shown
    assert "OTEL_COACH_BUDGET_MODEL" not in reconcile(invoices.openai_usage([GPT]), page=PAGE)[1]


def test_models_that_are_all_past_the_budget_are_compared_by_their_sum(reconcile):
    page = page_text({"other": {"prompt": 1000, "completion": 500}})
    found = reconcile.json(invoices.openai_usage([GPT]), page=page)
    assert found["reconciled"]
    assert not by_model(found)[GPT.model]["beyond_tolerance"]


def test_a_row_is_not_beyond_the_tolerance_in_what_it_does_not_have(reconcile):
    exports = [invoices.openai_usage([GPT]), invoices.openai_costs([GPT, Call("o-dollars", 9, 9)])]
    found = reconcile.json(exports, page=page_text({"other": {"prompt": 7}}, {"other": 0.1}))
    rows = by_model(found)
    assert "tokens" in rows[GPT.model]["beyond_tolerance"]
    assert rows["o-dollars"]["tokens"]["theirs"] is None
    assert "tokens" not in rows["o-dollars"]["beyond_tolerance"]


def test_faults_of_our_own_are_said(reconcile):
    _, shown, _ = reconcile(
        invoices.openai_usage([GPT]), page=page_text({"gpt-4o": {"prompt": 1}}, faults=2)
    )
    assert "note: otel-coach counted 2 faults of its own" in shown


def test_an_alias_is_what_the_operator_says(reconcile):
    page = page_text({"coach": {"prompt": 1000, "completion": 500}})
    usage = invoices.openai_usage([GPT])
    assert "gpt-4o-2024-08-06" in reconcile.error(usage, page=page)
    found = reconcile.json(usage, "--alias", "coach=gpt-4o-2024-08-06", page=page)
    assert found["reconciled"]
    assert found["models"][0]["model"] == "coach"
    assert found["models"][0]["their_names"] == ["gpt-4o-2024-08-06"]


@pytest.mark.parametrize("ends", ["has_more", "last"])
def test_an_export_whose_last_page_is_missing_is_said(reconcile, ends):
    exports = [invoices.openai_usage([GPT], has_more=True, next_page="page_A")]
    if ends == "last":
        exports.append(invoices.openai_usage([MINI], begin=invoices.BEGIN + invoices.DAY))
    found = reconcile.json(exports, page=PAGE)
    assert [("has_more" in note) for note in found["notes"][:1]] == [ends == "has_more"]


def test_nothing_of_an_export_reaches_a_terminal_raw(reconcile):
    evil = "\x1b]0;owned\x07\u202e\x9b31m"
    _, shown, _ = reconcile(invoices.openai_usage([Call(f"gpt-4o{evil}", 5, 0), GPT]), page=PAGE)
    assert all(one.isprintable() for one in shown.replace("\n", ""))
    assert "\\x1b]0;owned\\x07" in shown
    line = reconcile.error(invoices.openai_usage([Call(f"x{evil}", 5, 0)]), page=PAGE)
    assert line.isprintable()
    long = reconcile.error(invoices.openai_usage([Call("x" * 100_000, 5, 0)]), page=PAGE)
    assert len(long) < 400


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ((), "either --page"),
        (("--page", "p", "--prometheus", "http://h"), "either --page"),
        (("--prometheus", "http://h", "--since", "p"), "--from and --to"),
        (("--page", "p", "--from", "2026-11-28"), "use --since"),
    ],
)
def test_a_call_that_makes_no_sense_says_what_does(reconcile, arguments, cure):
    assert cure in reconcile.error(invoices.openai_usage([GPT]), *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tolerance", "-1"),
        ("--tolerance", "nan"),
        ("--from", "yesterday"),
        ("--to", "1e400"),
        ("--alias", "coach"),
    ],
)
def test_a_value_that_cannot_be_read_is_named(reconcile, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        reconcile("{}", *arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_costs_alone_are_compared_in_dollars(reconcile, provider):
    costs = getattr(invoices, f"{provider}_costs")([GPT, MINI])
    found = reconcile.json(costs, page=PAGE)
    assert found["reconciled"]
    row = by_model(found)["gpt-4o"]
    assert row["tokens"]["theirs"] is None
    assert row["usd"]["captured"] == pytest.approx(1)


def test_a_model_is_judged_only_by_what_its_provider_has_exported(reconcile):
    claude = Call("claude-x", 1000, 500)
    exports = [
        invoices.openai_usage([GPT]),
        invoices.openai_costs([GPT]),
        invoices.anthropic_usage([claude]),
    ]
    page = page_text(
        {
            "gpt-4o": {"prompt": 1000, "completion": 500},
            "claude-x": {"prompt": 1000, "completion": 500},
        },
        {"gpt-4o": 0.0075, "claude-x": 0.25},
    )
    found = reconcile.json(exports, page=page)
    assert found["reconciled"]
    rows = by_model(found)
    assert rows["claude-x"]["usd"]["theirs"] is None
    assert rows["claude-x"]["usd"]["ours"] == 0.25
    assert rows["claude-x"]["tokens"]["captured"] == 1
    assert found["total"]["usd"]["captured"] == pytest.approx(1)
    assert found["total"]["tokens"]["ours"] == 3000
    (note,) = [note for note in found["notes"] if "US dollars" in note]
    assert note.startswith("the export has no US dollars of claude-x: neither compared nor")
    # What is missing of what was exported is found all the same.
    found = reconcile.json(exports, page=page.replace(" 1000", " 900"))
    assert not found["reconciled"]
    assert [row["beyond_tolerance"] for row in found["models"]] == [["tokens"]] * 2


@pytest.mark.parametrize("space", [" ", "\n", "\r\n\t"])
def test_space_before_an_export_is_nothing(reconcile, space):
    exports = [space + invoices.openai_usage([GPT, MINI]), invoices.openai_costs([GPT, MINI])]
    assert reconcile.json(exports, page=PAGE)["reconciled"]


@pytest.mark.parametrize(
    ("line_item", "model"),
    [
        ("gpt-4o-2024-08-06, input", "gpt-4o-2024-08-06"),
        ("priority | gpt-5, output, long context", "gpt-5"),
        ("ft:gpt-4o-2024-08-06:org::id, cached input", "ft:gpt-4o-2024-08-06:org::id"),
        ("gpt-4o", "gpt-4o"),
        ("web search tool calls", None),
        ("Assistants API | file search", None),
        (None, None),
    ],
)
def test_a_line_item_names_a_model_or_a_fee(reconcile, line_item, model):
    costs = invoices.openai_costs([], fees=[(line_item, 1)])
    found = reconcile.json(costs, "--alias", f"ours={model}", page=page_text({}, {"ours": 1}))
    assert found["total"]["usd"]["captured"] == 1
    assert [row["their_names"] for row in found["models"]] == [[model] if model else []]
    fees = [] if model else [{"name": line_item or "(no model named)", "usd": 1}]
    assert found["fees"] == fees


def test_an_empty_cell_of_a_table_is_not_known(reconcile):
    text = "model,day,input_tokens,output_tokens,usd\ngpt-4o,2026-11-28,1000,500,\n"
    found = reconcile.json(text, page=PAGE)
    row = by_model(found)["gpt-4o"]
    assert row["usd"]["theirs"] is None
    assert row["tokens"]["captured"] == 1


def test_a_last_page_without_lines_is_the_last_one(reconcile):
    first = json.loads(invoices.openai_usage([GPT, MINI]))
    first["has_more"] = True
    last = {**first, "has_more": False}
    last["data"] = [{**bucket, "results": []} for bucket in first["data"]]
    for bucket in last["data"]:
        bucket["start_time"], bucket["end_time"] = bucket["end_time"], bucket["end_time"] + 86400
    for pages in ([first, last], [last, first]):
        found = reconcile.json([json.dumps(page) for page in pages], page=PAGE)
        assert not [note for note in found["notes"] if "has_more" in note]
    found = reconcile.json([json.dumps(first)], page=PAGE)
    assert [note for note in found["notes"] if "has_more" in note]
