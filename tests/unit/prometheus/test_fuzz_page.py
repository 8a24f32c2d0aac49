"""Scrapers of any kind: each gets a page that it can read, if it may."""

import gzip
import re

from hypothesis import assume, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

from otel_coach.prometheus.http.http_response import answer, is_allowed
from otel_coach.prometheus.negotiation import accepts_gzip
from otel_coach.settings import Settings
from otel_coach.testing import Page
from tests.support import strategies as some
from tests.support.watching import OPENMETRICS, watching

# The page over HTTP


@given(some.ACCEPT, some.ACCEPT_ENCODING)
def test_any_scraper_gets_a_page_that_it_can_read(accept, encoding):
    with watching() as watched:
        found = answer(watched.page, accept, gzip=accepts_gzip(encoding))
    headers, body = dict(found.headers), found.body
    codings = (one.partition(";") for one in encoding.lower().split(","))
    wants_gzip = any(
        coding.strip() == "gzip" and not re.fullmatch(r"\s*q=0(\.0*)?\s*", quality)
        for coding, _, quality in codings
    )
    assert headers.get("content-encoding") == ("gzip" if wants_gzip else None)
    text = (gzip.decompress(body) if wants_gzip else body).decode()
    assert "\nagent_llm_unmeasured_total{" in text
    if headers["content-type"].startswith(f"{OPENMETRICS}; version=1.0.0;"):
        list(strict(text))
    else:
        assert re.match(r"text/plain; version=(0\.0\.4|1\.0\.0);", headers["content-type"])
        Page(text)


@given(some.VISIBLE, st.binary(max_size=12), st.sampled_from(["Bearer", "bearer"]))
def test_who_bears_the_token_and_nobody_else_is_let_in(token, other, scheme):
    told = Settings.from_env({"OTEL_COACH_METRICS_TOKEN": token}).metrics_token
    bearing = f"{scheme} {token}".encode().decode("latin-1")  # as curl sends and servers read it
    assume(other.decode("latin-1") not in bearing)
    assert not is_allowed(told, f"{scheme} {other.decode('latin-1')}")
    assert not is_allowed(told, bearing.replace(scheme, "Basic"))
    assert is_allowed(told, bearing)


@given(some.ENVIRONMENT_TEXT, st.binary(max_size=12))
def test_no_token_and_no_authorization_raises(token, authorization):
    told = Settings.from_env({"OTEL_COACH_METRICS_TOKEN": token}).metrics_token
    assert is_allowed(told, authorization.decode("latin-1")) == (told is None)
