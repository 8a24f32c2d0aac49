"""Workers that are killed, stopped and reloaded: nothing falls."""

from dataclasses import replace

import pytest

from verification.soak.__main__ import soak
from verification.soak.servers import SERVERS

# `make soak` has the other servers too, and more of each.


@pytest.mark.long
@pytest.mark.fleet
def test_without_a_kill_nothing_is_lost_and_nothing_falls():
    accidents = frozenset({"terminate", "reload", "stop"})
    report = soak(SERVERS["uvicorn"], 5, 1, accidents=accidents)
    assert report.problems == []
    assert report.lost == 0
    assert report.answered > 50
    assert report.scrapes > 10


@pytest.mark.long
@pytest.mark.fleet
def test_a_kill_loses_a_second_at_most_and_nothing_falls():
    report = soak(replace(SERVERS["gunicorn"], stops=True), 8, 2)
    assert report.problems == []
    assert report.left > 0
    assert report.accidents["kill"] > 0
