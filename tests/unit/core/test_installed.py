"""Modules that are there, that are not, and whose packages are not."""

import pytest

from otel_coach.core.compatibility import PARTS, PrivatePart
from otel_coach.core.installed import is_installed


def test_what_can_be_imported_is_installed():
    assert is_installed("otel_coach.core.guard")


@pytest.mark.parametrize(
    "name", ["otel_coach.nothing", "nothing", "nothing.below.it", "otel_coach.core.guard.below"]
)
def test_what_cannot_be_imported_is_not(name):
    assert not is_installed(name)


def test_a_part_of_a_package_that_is_not_there_is_not_there():
    part = PrivatePart("nothing.exporter.otlp", "a name", "nothing:trial", "nothing")
    assert not part.is_there


def test_every_part_says_whether_it_is_there():
    assert {part.is_there for part in PARTS} <= {True, False}
