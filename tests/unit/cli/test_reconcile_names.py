"""Which of the provider's names is which value of the label `model`."""

import pytest

from otel_coach.cli.reconciliation.model_names import matches


def rows(theirs, ours):
    return [(row.name, set(row.theirs), set(row.ours)) for row in matches(theirs, ours)]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("gpt-4-0613", "gpt-4"),
        ("o3-2025-04-16", "o3"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-latest"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("mistral-large-2411", "mistral-large-latest"),
        ("command-r-08-2024", "command-r"),
        ("text-embedding-ada-002-v2", "text-embedding-ada-002"),
        ("gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-08-06", "openai/gpt-4o-2024-08-06"),
    ],
)
def test_two_names_of_one_model_are_one_row(theirs, ours):
    assert rows([theirs], [ours]) == [(ours, {theirs}, {ours})]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gpt-4o-mini", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20"),
        ("gpt-3.5-turbo-16k", "gpt-3.5-turbo"),
        ("gpt-4-turbo", "gpt-4"),
        ("gpt-4-1106-preview", "gpt-4"),
        ("ft:gpt-4o-2024-08-06:org::1", "gpt-4o"),
        ("text-embedding-3-large", "text-embedding-3-small"),
        ("claude-opus-4-20250514", "claude-sonnet-4-20250514"),
        ("model-1399", "model"),
        ("model-2024-13-06", "model"),
        ("deepseek-v2", "deepseek"),
    ],
)
def test_two_models_are_two_rows(theirs, ours):
    assert {name for name, *_ in rows([theirs], [ours])} == {theirs, ours}


def test_snapshots_that_an_alias_stood_for_are_added_up():
    billed = ["gpt-4o-2024-08-06", "gpt-4o-2024-11-20"]
    assert rows(billed, ["gpt-4o"]) == [("gpt-4o", set(billed), {"gpt-4o"})]


def test_an_alias_and_its_snapshot_cannot_be_told_apart_where_the_provider_names_the_snapshot():
    asked = ["gpt-4o", "gpt-4o-2024-08-06"]
    assert rows(["gpt-4o-2024-08-06"], asked) == [("gpt-4o", {"gpt-4o-2024-08-06"}, set(asked))]


def test_equal_names_stay_apart_where_both_sides_have_all_aliases():
    both = ["gpt-4o", "gpt-4o-2024-08-06"]
    assert rows(both, both) == [(name, {name}, {name}) for name in both]


def test_snapshots_that_were_asked_for_by_name_stay_apart():
    billed = ["gpt-4o-2024-08-06", "gpt-4o-2024-11-20"]
    assert rows(billed, billed[:1]) == [
        ("gpt-4o-2024-08-06", {billed[0]}, {billed[0]}),
        ("gpt-4o-2024-11-20", {billed[1]}, set()),
    ]
