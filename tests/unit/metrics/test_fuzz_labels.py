"""Label values of any kind: themselves or `other`."""

import json
from contextlib import suppress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from otel_coach.core.request_context import stated_mode
from otel_coach.metrics.catalogue import LLM_REQUESTS, RATE_LIMIT_HITS, TOOL_CALLS
from otel_coach.metrics.mode_label import labelled_mode, labels
from otel_coach.settings import Settings, effective
from otel_coach.setup.installation import Installation
from tests.support import strategies as some
from tests.support.watching import shown

# Labels


def texts(value):
    """As what a value may be shown."""
    allowed = {"other"}
    for text in (str.__str__,) if isinstance(value, str) else (str, json.dumps):
        with suppress(Exception):
            allowed.add(text(value))
    return allowed


@given(st.lists(some.RECORDED, max_size=8), st.lists(some.WORDS, unique=True, max_size=5))
def test_any_label_is_itself_or_other_and_nothing_is_lost(recorded, words):
    installation = Installation(replace(effective(Settings(), {}), shares_figures=False))
    recorder = installation.providers.recorder
    try:
        for metric, values in recorded:
            recorder.record(metric, 1, values)
        for word in words:
            recorder.record(LLM_REQUESTS, 1, (word, "invoke", "ok", ""))
        page = shown(installation.page)
    finally:
        installation.uninstrument()
    for metric in (RATE_LIMIT_HITS, TOOL_CALLS):
        rows = [[*map(texts, row)] for about, row in recorded if about is metric]
        samples = page.samples(metric.prometheus_name)
        assert sum(value for _, value in samples) == len(rows)
        for told, _ in samples:
            values = [told[label] for label in metric.labels]
            assert any(all(map(set.__contains__, row, values)) for row in rows)
    told = {told["model"]: value for told, value in page.samples("agent_llm_requests_total")}
    assert told == dict.fromkeys(words, 1)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"


@given(some.STRANGE_VALUES | st.text(ALPHABET) | st.text(ALPHABET, min_size=40, max_size=41))
def test_a_stated_mode_is_a_short_identifier_or_other(mode):
    if isinstance(mode, str) and 1 <= len(mode) <= 40 and set(mode) <= set(ALPHABET):
        assert stated_mode(mode) == mode
        with labels(mode="outer"):
            with labels(mode=mode):
                assert labelled_mode() == mode
            assert labelled_mode() == "outer"
    else:
        assert stated_mode(mode) is None
        with labels(mode=mode):
            assert labelled_mode() == "other"
    assert labelled_mode() is None
