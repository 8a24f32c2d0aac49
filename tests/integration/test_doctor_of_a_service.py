"""`otel-coach doctor --url`, run as a person runs it."""

import time
from itertools import repeat

import pytest
from fastapi import FastAPI

from otel_coach.cli import doctor
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.cli import otel_coach
from tests.support.doctor import ERRORS, OK, hostile, page
from tests.support.serving import serving

# A person's command


def test_a_page_that_drips_ends_the_doctor_in_time_with_one_line():
    with hostile([OK, b"\r\n", *repeat(b"#", 1000)], pause=0.1) as (url, _):
        started = time.monotonic()
        answer = otel_coach("doctor", "--url", url)
    assert time.monotonic() - started < 60
    assert answer.returncode == 1
    (finding,) = [line for line in answer.stdout.splitlines() if line.startswith("to mend: ")]
    assert "within 10 s" in finding
    assert answer.stderr == ""


def test_what_a_server_says_reaches_no_terminal_raw():
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\u2028\x9b31m"
    text = f'{ERRORS}{{error_type="{evil}"}} 1\n{ERRORS}{{error_type="b\\nto mend: c"}} 1\n'
    with hostile(page(text)) as (url, _):
        answer = otel_coach("doctor", "--url", url, PYTHONUTF8="1")
    assert answer.returncode == 1
    assert answer.stderr == ""
    assert all(one.isprintable() for one in answer.stdout.replace("\n", ""))
    findings = [line for line in answer.stdout.splitlines() if line.startswith("to mend: ")]
    assert len(findings) == 2
    assert "\\x1b]0;owned\\x07" in findings[0]


def test_a_terminal_without_the_letters_gets_their_escapes():
    with hostile(page(f'{ERRORS}{{error_type="müde"}} 1\n')) as (url, _):
        answer = otel_coach("doctor", "--url", url, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "error_type=m\\xfcde" in answer.stdout
    assert answer.stderr == ""


# Servers that mean ill


@pytest.mark.parametrize(
    ("token", "cure"),
    [
        (None, "set OTEL_COACH_METRICS_TOKEN"),
        ("other", "has another OTEL_COACH_METRICS_TOKEN"),
        ("sesame", None),
    ],
)
def test_a_closed_page_is_opened_by_the_token_of_the_environment(token, cure):
    with measuring(Settings(metrics_token="sesame")), serving(FastAPI()) as client:
        found = doctor._reported(f"{client.base_url}/metrics", token)
    assert [cure in one for one in found] == ([True] if cure else [])
