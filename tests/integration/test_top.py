"""`otel-coach top` in a real terminal, of 80 columns."""

import re
import shutil
from functools import partial

import pytest

from tests.support import waiting
from tests.support.cli import otel_coach
from tests.support.overview_truth import FIGURES, differences
from tests.support.page_port import served
from tests.support.programs import free_port
from tests.support.small_service import HTTP, plain_service, send_one_of_each, small_service
from tests.support.stack import bin_path
from tests.support.terminal import Terminal, tables_of
from tests.support.whole_pages import Drawn, Pages

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: apt install tmux")
eventually = partial(waiting.eventually, every=0.05)  # each look at a screen starts a program
TOP = (bin_path("otel-coach"), "top", "--every", "0.5")


@pytest.fixture
def terminals(tmp_path):
    made = [Terminal(tmp_path / "tmux"), Terminal(tmp_path / "other")]
    yield made
    for one in made:
        one.run("kill-server")


@pytest.fixture
def terminal(terminals):
    return terminals[0]


def seconds_in(screen):
    found = re.search(r"rates and quantiles of the last (\d+) s", " ".join(screen.split()))
    return int(found[1]) if found else 0


def paused(terminal, seconds):
    """The screen as it stays, when its rates are those of at least so many seconds."""
    eventually(lambda: seconds_in(terminal.screen) >= seconds)
    terminal.run("send-keys", "p")
    eventually(lambda: "paused" in terminal.screen)
    seen = [terminal.screen]

    def is_still():
        seen.append(terminal.screen)
        return seen[-1] == seen[-2]

    eventually(is_still)
    return seen[-1]


def test_every_figure_in_80_columns_is_that_of_the_page(terminal):
    drawn = Drawn(seed=1)
    before, now = drawn.page(), drawn.page()
    with served(Pages(before, now)) as port:
        terminal.start(*TOP, f"http://127.0.0.1:{port}/metrics", lines=150)
        screen = paused(terminal, seconds=3)
    shown = tables_of(screen)
    assert shown.keys() == FIGURES.keys()
    assert not differences(shown, now, before, seconds_in(screen)), screen
    assert max(map(len, screen.splitlines())) <= 80


def test_printed_once_every_figure_is_that_of_the_page_since_the_start():
    page = Drawn(seed=2).page()
    with served(Pages(page)) as port:
        answer = otel_coach("top", "--once", f"http://127.0.0.1:{port}/metrics", COLUMNS="80")
    assert (answer.returncode, answer.stderr) == (0, "")
    shown = tables_of(answer.stdout)
    assert shown.keys() == FIGURES.keys()
    assert not differences(shown, page), answer.stdout


def test_without_colour_it_uses_those_of_the_terminal_only(terminals):
    plain, coloured = terminals
    with served(Pages(Drawn(seed=3).page())) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        plain.start(*TOP, url, NO_COLOR="1")
        coloured.start(*TOP, url)
        eventually(lambda: "AI requests" in plain.screen)
        eventually(lambda: coloured.colours)  # they would be found
        assert not plain.colours


def test_one_of_two_services_that_is_down_is_named_and_the_other_shown(terminal):
    dead = f"http://127.0.0.1:{free_port()}/metrics"
    page = Drawn(seed=4).page()
    with served(Pages(page)) as port:
        alive = f"http://127.0.0.1:{port}/metrics"
        terminal.start(*TOP, dead, alive, lines=150)
        screen = paused(terminal, seconds=1)
        answer = otel_coach("top", "--once", alive, dead, COLUMNS="80")
    said = " ".join(screen.split())
    assert f"{dead} cannot be read" in said
    assert f"Cure: curl {dead} # is the service running" in said
    assert not differences(tables_of(screen), page, page, seconds_in(screen)), screen
    assert answer.returncode == 1
    assert not differences(tables_of(answer.stdout), page), answer.stdout
    assert f"{dead} cannot be read" in answer.stderr


def test_the_terminal_shows_the_figures_of_a_service_pauses_sorts_and_ends(tmp_path, terminal):
    with small_service(tmp_path) as service:
        send_one_of_each(service)
        terminal.start(*TOP, f"{service.client.base_url}/metrics", lines=150)
        screen = paused(terminal, seconds=1)
        page = service.page()
        assert not differences(tables_of(screen), page.text, page.text, seconds_in(screen)), screen
        terminal.run("send-keys", "p")
        service.client.get("/ask/anna")
        now = str(int(page.sum(HTTP, endpoint="/ask/{name}")) + 1)
        eventually(lambda: terminal.row("/ask/{name}")[1:2] == [now])
        terminal.run("send-keys", "p")
        eventually(lambda: "paused" in terminal.screen)
        service.client.get("/ask/anna")
        assert terminal.row("/ask/{name}")[1] == now
        terminal.run("send-keys", "p")
        eventually(lambda: terminal.row("/ask/{name}")[1:2] == [str(int(now) + 1)])
        eventually(lambda: "all▼" in terminal.screen)
        terminal.run("send-keys", "s", "s", "s")
        eventually(lambda: "5xx▼" in terminal.screen)
        assert next(iter(tables_of(terminal.screen)["HTTP requests"])) == "/broken"
        terminal.run("send-keys", "q")
        eventually(lambda: not terminal.screen)


def test_a_service_that_stops_is_said_with_the_cure(tmp_path, terminal):
    with plain_service(tmp_path) as service:
        url = f"{service.client.base_url}/metrics"
        terminal.start(*TOP, url)
        eventually(lambda: seconds_in(terminal.screen) >= 1)
        service.stop()
        eventually(lambda: "Cure:" in terminal.screen)
        assert "HTTP requests" in terminal.screen  # what was known is still there
