"""The pytest plugin: the fixture `measured`. pytest loads it by its entry point `otel_coach`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.testing import Measured


@pytest.fixture
def measured() -> Iterator[Measured]:
    """Measures this process during the test; see `otel_coach.testing.Measured`."""
    from otel_coach.testing import measuring  # noqa: PLC0415 - imported only where it is used

    with measuring() as measurements:
        yield measurements
