"""Slow work with its notes, and otel-coach as it stops that of clients who have left."""

import pytest

from tests.support.abandoned_models import Notes
from tests.support.abandoned_work import Work, stopping_at_once


@pytest.fixture
def notes():
    return Notes(pause=0.01)


@pytest.fixture
def work(notes):
    return Work(notes)


@pytest.fixture(params=[{}], ids=["default"])
def stopping(request):
    with stopping_at_once(**request.param) as measured:
        yield measured
