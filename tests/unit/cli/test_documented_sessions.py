"""The sessions of the documentation (`$ COMMAND`, then what it prints) print what they show."""

import shlex
from decimal import Decimal

import pytest

from otel_coach import cli
from otel_coach.cli.reconciliation import prometheus_api
from tests.support import invoices
from tests.support.documentation import blocks
from tests.support.invoices import BEGIN, DAY, Call
from tests.support.query_api import query_api

PROMETHEUS = "http://localhost:9090"
STARTS = BEGIN - DAY
BILLED = [
    Call("gpt-4o-2024-08-06", 900_000, 40_000, usd=Decimal("3.85")),
    Call("gpt-4o-mini-2024-07-18", 50_000, 10_000, usd=Decimal("0.018")),
]
MEASURED = {
    ("agent_llm_tokens_total", "gpt-4o", "mode", "prompt"): 900_000,
    ("agent_llm_tokens_total", "gpt-4o", "mode", "completion"): 40_000,
    ("agent_llm_tokens_total", "gpt-4o-mini", "mode", "prompt"): 45_000,
    ("agent_llm_tokens_total", "gpt-4o-mini", "mode", "completion"): 9_000,
    ("agent_llm_cost_usd_total", "gpt-4o", "job", "coach"): 3.85,
    ("agent_llm_cost_usd_total", "gpt-4o-mini", "job", "coach"): 0.0162,
    ("agent_llm_unmeasured_total", "gpt-4o-mini", "error_type", "no_usage"): 2,
    ("otel_coach_errors_total", "none", "error_type", "OSError"): 0,
}


def scraped():
    """Each figure rises in the middle of the day, and is scraped every quarter of an hour."""
    times = [STARTS - 225 + place * 900 for place in range(98)]
    for (name, model, label, value), figure in MEASURED.items():
        labels = {"__name__": name, "job": "coach", "instance": "a", "model": model, label: value}
        yield labels, [(at, figure if at > STARTS + DAY / 2 else 0) for at in times]


@pytest.mark.parametrize("block", [*blocks("console")], ids=str)
def test_a_session_prints_what_the_page_shows(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prometheus_api.time, "time", lambda: BEGIN + DAY)
    (tmp_path / "usage.json").write_text(invoices.openai_usage(BILLED, begin=STARTS))
    (tmp_path / "costs.json").write_text(invoices.openai_costs(BILLED, begin=STARTS))
    command, _, output = block.text.partition("\n")
    prompt, *words = shlex.split(command)
    assert prompt == "$"
    with query_api([*scraped()]) as (url, _):
        given = [word.replace(PROMETHEUS, url) for word in words]
        monkeypatch.setattr("sys.argv", given)
        cli.main()
    assert capsys.readouterr().out.replace(url, PROMETHEUS) == output


def test_there_is_a_session():
    assert [block.page for block in blocks("console")] == ["docs/reconcile.md"]
