"""OTEL_COACH_TRUST_INCOMING: which callers it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_coach.configuration.trust import Trust, trust_of
from otel_coach.settings import Settings

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"


# Those who extract by themselves


def test_what_cannot_be_told_is_not_trusted():
    only_here = trust_of(HERE, [])
    for client in (None, (), ("", 0), ("testclient", 5), ("::ffff:127.0.0.1", 0)):
        assert not only_here.includes({"client": client, "headers": []})
    for client in ((HERE, 5), [HERE, 5], ("::ffff:127.0.0.1", 5)):
        assert only_here.includes({"client": client, "headers": []})


# The setting


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("perhaps", "entry 1 is no address"),
        ("10.0.0.0/8, 10.0.0.0/99", "entry 2 is no address"),
        ("10.0.0.1/8", "entry 1 is no address"),
        ("localhost", "entry 1 is no address"),
        ("header:", "name of a header"),
        ("header:X-G", "no secret"),
        ("header:X-G= ", "no secret"),
        ("header:X G=hush", "name of a header"),
        ("Header:X-G=hush", "entry 1 is no address"),
        ("10.0.0.0/8,header:=hush", "name of a header"),
    ],
)
def test_a_bad_value_is_one_line_with_its_cure_and_trusts_nobody(text, problem):
    found = Settings.from_env({"OTEL_COACH_TRUST_INCOMING": text})
    assert found.trust_incoming == Trust(everybody=False)
    (line,) = found.problems
    assert line.startswith("OTEL_COACH_TRUST_INCOMING: ")
    assert problem in line
    assert "nobody is trusted" in line
    assert "hush" not in line


@given(st.text(max_size=20) | st.text("0123456789./:,haedr=", max_size=30))
def test_no_text_is_taken_for_everybody(text):
    problems = []
    found = trust_of(text.strip(), problems)
    assert found.everybody == (text.strip().lower() in {"", "true", "1"})
    assert len(problems) <= 1
    if problems:
        assert not found.networks
        assert not found.secret
