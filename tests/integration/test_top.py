"""`otel-coach top` in a real terminal, of 80 columns."""

import os
import shutil
import subprocess

import pytest

from tests.support.small_service import HTTP, send_one_of_each, small_service
from tests.support.stack import bin_path
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: apt install tmux")


class Terminal:
    def __init__(self, socket):
        self._tmux = ("tmux", "-S", str(socket))

    def run(self, *arguments):
        return subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=False
        ).stdout

    def start(self, *command):
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
        for size in ("COLUMNS", "LINES"):  # of the terminal in which the tests run
            environment.pop(size, None)
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-x", "80", "-y", "60", *map(str, command)],
            env=environment,
            check=True,
        )

    @property
    def screen(self):
        return self.run("capture-pane", "-p")

    def row(self, name):
        """The words of the last line that begins with that name."""
        lines = [line.split() for line in self.screen.splitlines()]
        return next((words for words in reversed(lines) if words[:1] == [name]), [])


@pytest.fixture
def terminal(tmp_path):
    made = Terminal(tmp_path / "tmux")
    yield made
    made.run("kill-server")


def test_the_terminal_shows_the_pages_figures_pauses_sorts_and_ends(tmp_path, terminal):
    with small_service(tmp_path) as service:
        send_one_of_each(service)
        url = f"{service.client.base_url}/metrics"
        terminal.start(bin_path("otel-coach"), "top", "--every", "0.5", url)
        eventually(lambda: "rates and quantiles of the last" in terminal.screen, within=30)
        page = service.page()
        assert terminal.row("/stream")[1] == f"{page.sum(HTTP, endpoint='/stream'):g}"
        assert terminal.row("unmatched")[1:2] == ["1"], terminal.screen
        service.client.get("/ask/anna")
        now = str(int(page.sum(HTTP, endpoint="/ask/{name}")) + 1)
        eventually(lambda: terminal.row("/ask/{name}")[1] == now, within=30)
        terminal.run("send-keys", "p")
        eventually(lambda: "paused" in terminal.screen, within=30)
        service.client.get("/ask/anna")
        assert terminal.row("/ask/{name}")[1] == now
        terminal.run("send-keys", "p")
        eventually(lambda: terminal.row("/ask/{name}")[1] == str(int(now) + 1), within=30)
        terminal.run("send-keys", "q")
        eventually(lambda: not terminal.screen, within=30)


def test_a_service_that_stops_is_said_and_its_return_seen(tmp_path, terminal):
    with small_service(tmp_path) as service:
        url = f"{service.client.base_url}/metrics"
        terminal.start(bin_path("otel-coach"), "top", "--every", "0.5", url)
        eventually(lambda: "rates and quantiles of the last" in terminal.screen, within=30)
        service.stop()
        eventually(lambda: "Cure:" in terminal.screen, within=30)
        assert "HTTP requests" in terminal.screen  # what was known is still there
