"""`otel-coach reconcile`, run as a person runs it, against the page of a real service."""

import json

import httpx
import pytest

from tests.support import invoices
from tests.support.cli import otel_coach
from tests.support.stack import INSTRUMENTED, coaching_stack
from tests.support.users import Users
from tests.support.waiting import eventually

SNAPSHOTS = {"gpt-3.5-turbo": "gpt-3.5-turbo-0125"}


def export(stack, path):
    path.write_text(
        invoices.openai_usage(list(invoices.of_ledger(stack.provider.ledger, SNAPSHOTS)))
    )
    return str(path)


@pytest.mark.long
@pytest.mark.fleet
def test_the_page_of_all_workers_is_the_invoice_but_for_calls_that_pass_by(database_url, tmp_path):
    command = (INSTRUMENTED[0], INSTRUMENTED[1], "--workers", "2", *INSTRUMENTED[2:])
    environment = {"OTEL_COACH_METRICS_TOKEN": "sesame"}
    with coaching_stack(
        command=command, environment=environment, database_url=database_url
    ) as stack:
        page = f"{stack.url}/metrics"
        users = Users(stack)
        for number in range(6):
            users.chat(f"[tool:weather] [cached:{number}] How was my week?")
            users.plan("[reasoning:3] A marathon")
        users.close()
        token = {"OTEL_COACH_METRICS_TOKEN": "sesame"}
        path = tmp_path / "usage.json"

        def reconciled():
            given = ("reconcile", export(stack, path), "--page", page, "--tolerance", "0")
            return otel_coach(*given, "--json", **token)

        eventually(lambda: reconciled().returncode == 0)
        (row,) = json.loads(reconciled().stdout)["models"]
        assert row["their_names"] == ["gpt-3.5-turbo-0125"]
        assert row["tokens"]["captured"] == 1
        counted = row["tokens"]["theirs"]
        body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "[tokens:900]"}]}
        httpx.post(f"{stack.provider.base_url}/chat/completions", json=body).raise_for_status()
        answer = reconciled()
        assert answer.returncode == 1
        tokens = json.loads(answer.stdout)["models"][0]["tokens"]
        billed = sum(
            entry.prompt_tokens + entry.completion_tokens for entry in stack.provider.ledger
        )
        assert tokens["theirs"] == billed > counted + 900
        assert tokens["captured"] == pytest.approx(counted / billed)
        refused = otel_coach("reconcile", str(path), "--page", page)
        assert refused.returncode == 2
        assert "export OTEL_COACH_METRICS_TOKEN" in refused.stderr
        assert refused.stdout == ""


def test_help_has_an_example():
    answer = otel_coach("reconcile", "--help")
    assert answer.returncode == 0
    assert "otel-coach reconcile usage.json --prometheus" in answer.stdout


def test_no_output_reaches_a_terminal_raw(tmp_path):
    usage, page = tmp_path / "usage.json", tmp_path / "page.txt"
    usage.write_text(invoices.openai_usage([invoices.Call("gpt\x1b[2Jmüde", 5, 5)]))
    page.write_text(invoices.page_text({"gpt\x1b[2Jmüde": {"prompt": 10}}))
    answer = otel_coach(
        "reconcile", str(usage), "--page", str(page), PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert "gpt\\x1b[2Jm\\xfcde" in answer.stdout
