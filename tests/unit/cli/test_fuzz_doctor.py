"""Pages and commands of any kind: the doctor says something printable about each, and ends."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_coach.cli.doctor import fetch, service
from otel_coach.cli.doctor.command_line import CommandError, environment_of, served
from otel_coach.cli.doctor.fetch import Fetched
from otel_coach.cli.doctor.otlp_targets import targets
from otel_coach.cli.terminal import printable
from otel_coach.core.traps import Finding
from otel_coach.metrics.catalogue import CATALOGUE
from tests.support.doctor import ERRORS, diagnosis, examined

NAMES = st.sampled_from([metric.prometheus_name for metric in CATALOGUE])
LABELS = st.text(st.sampled_from('{}="ab,\\'), max_size=30)
LINES = st.one_of(
    st.text(max_size=40),
    st.builds("{}{} {}".format, NAMES, LABELS, st.text("1.eE+-NaInf", max_size=5)),
    st.builds('{}{{model="{}"}} {}'.format, NAMES, st.text(max_size=9), st.floats()),
    st.builds('{}{{error_type="{}"}} {}'.format, NAMES, st.text(max_size=9), st.floats()),
    st.builds("# otel-coach: {}".format, st.text(max_size=40)),
)


@given(st.lists(LINES, max_size=20), st.text(max_size=20), st.one_of(st.none(), st.floats(-9, 9)))
def test_about_any_page_something_printable_is_said(lines, content_type, skew):
    text = "\n".join([f'{ERRORS}{{error_type="a"}} 0', *lines])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "fetched", lambda *_: Fetched(text, content_type, skew))
        results = [*service.look(examined(), "http://h/metrics")]
    assert results
    for result in results:
        assert printable(str(result)).isprintable()
        assert not isinstance(result, Finding) or result.cure


WORDS = st.sampled_from(
    ["uvicorn", "gunicorn", "fastapi", "run", "a:b", "a", "-m", "--", "--app", "--chdir", "=", ""]
)


@given(st.lists(WORDS | st.text(max_size=9), max_size=8))
def test_any_command_names_an_application_or_none(command):
    with suppress(CommandError):  # and nothing else
        assert served(command).program in {"uvicorn", "gunicorn", "fastapi"}
    assert all(isinstance(value, str) for value in environment_of(command, {}).values())


ADDRESSES = st.text(st.sampled_from("htps:/.[]@?#=%, 1a\n\x00ü"), min_size=1, max_size=20)


@given(ADDRESSES, st.text(max_size=20))
def test_any_endpoint_has_an_address_to_show(endpoint, headers):
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": headers,
    }
    for target in targets(examined(**environ)):
        assert target.url
        assert isinstance(target.uses_tls, bool)
        assert target.port is None or target.port >= 0


@pytest.mark.parametrize(
    "endpoint", ["http://", "http://[::1", "http://h:port", "https:///x", "http://\x00"]
)
def test_an_endpoint_that_is_no_address_is_a_finding(endpoint):
    found = diagnosis(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="coach")
    assert found
    assert "look-failed" not in found
