"""Lines of the log, as the doctor reports them: what and cure are data, not parts of a text."""

import json
import logging

import pytest

from otel_coach.cli.doctor.log_lines import LogLines, findings
from otel_coach.core.traps import STOPPED_ENDPOINT
from tests.support.doctor import examined


@pytest.fixture
def logged():
    lines = LogLines()
    yield lines.found
    for name in ("otel_coach", "opentelemetry"):
        logging.getLogger(name).removeHandler(lines)


def reported(lines, known=(), **environ):
    """The findings, after the way through JSON from one process to the other."""
    return [*findings(json.loads(json.dumps(lines)), examined(**environ), known)]


ROW = STOPPED_ENDPOINT.found(endpoint="/a. Cure: b", hint="", corrected="/c")


def test_a_row_stays_that_row_whatever_its_values_say(logged):
    logging.getLogger("otel_coach").warning("otel-coach: %s", ROW)
    assert reported(logged) == [ROW]
    assert reported(logged, known=[ROW]) == []
    assert reported(logged, known=[ROW._replace(cure="another")]) == []
    assert reported(logged, known=[ROW._replace(what=f"{ROW.what}, and more")]) == [ROW]


def test_a_line_with_a_cure_of_its_own(logged):
    logging.getLogger("otel_coach").error("otel-coach: %s. Cure: %s", "x. Cure: y", "z")
    (finding,) = reported(logged)
    assert finding[1:] == ("x. Cure: y", "z")


def test_a_line_without_a_cure_is_searched_for_a_variable_and_for_its_value(logged):
    logger = logging.getLogger("opentelemetry.sdk")
    logger.warning("Invalid value for %s", "OTEL_BSP_SCHEDULE_DELAY")
    logger.warning("Couldn't recognize sampler %r.", "sometimes")
    logger.warning("Something else")
    environ = {"OTEL_BSP_SCHEDULE_DELAY": "x", "OTEL_TRACES_SAMPLER": "sometimes"}
    assert [finding.cure for finding in reported(logged, **environ)] == [
        "unset OTEL_BSP_SCHEDULE_DELAY # or correct it",
        "unset OTEL_TRACES_SAMPLER # or correct it",
        "look into the documentation of opentelemetry",
    ]


@pytest.mark.parametrize("name", ["_", "TERM", "USER", "o_b"])
def test_a_part_of_a_word_is_no_variable(logged, name):
    logging.getLogger("opentelemetry.attributes").warning("DETERMINED for USERS: foo_bar _ USER")
    (finding,) = reported(logged, **{name: "x"})
    assert finding.cure == "look into the documentation of opentelemetry"


def test_no_exception_is_kept_for_it_may_have_a_secret(logged):
    logging.getLogger("opentelemetry").error("It failed", exc_info=ValueError("hunter2"))
    assert len(logged) == 1
    assert "hunter2" not in json.dumps(logged)
