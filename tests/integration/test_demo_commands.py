"""The commands that the demo prints, pasted into a shell."""

import subprocess

import httpx
import pytest

from examples.coaching.demo.commands import commands
from otel_coach.testing import Page
from tests.support.stack import coaching_stack
from tests.support.users import CHAT
from tests.support.waiting import eventually

AI = "app_ai_request_duration_seconds_count"


@pytest.fixture(scope="module")
def stack(database_url):
    with coaching_stack(database_url=database_url) as running:
        yield running


def test_what_is_printed_can_be_pasted_and_its_figures_are_seen(stack):
    def page():
        return Page(httpx.get(f"{stack.url}/metrics").text)

    printed = dict(commands(stack))
    token, chat, leave, refused = (
        printed[what]
        for what in ("a token of the user anna", "chat", "leave in the middle", "be refused")
    )

    def pasted(command):
        done = subprocess.run(
            ["bash", "-c", f"{token}\n{command}"], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    code, answer = pasted(chat)
    assert code == 0
    assert answer.endswith('"content": " Sunday."}\n{"type": "end"}\n')
    assert pasted(leave)[0] == 28  # curl: the time is over
    eventually(lambda: page().sum(AI, endpoint=CHAT, status="aborted") == 1)
    assert "401 Unauthorized" in pasted(refused)[1]
    assert page().sum(AI, endpoint=CHAT, status="ok") == 1
    assert page().sum("auth_failures_total", endpoint=CHAT) == 1

    browser = printed["watch the figures move"].split()[2]
    page = httpx.get(browser, headers={"accept": "text/html"})
    assert "text/html" in page.headers["content-type"]
    top = printed["the same in a terminal"].replace(" top ", " top --once ")
    code, tables = pasted(top)
    assert code == 0
    assert CHAT in tables


def test_the_service_says_what_it_is(stack):
    assert "running coach" in httpx.get(stack.url).json()["service"]
