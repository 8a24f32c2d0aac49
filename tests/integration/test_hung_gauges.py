"""A service whose own gauge hangs in its callback, as that of a pool whose database is gone."""

import time
from contextlib import suppress

import httpx
import pytest

from tests.support.small_service import plain_service
from tests.support.waiting import eventually

UVICORN = ("opentelemetry-instrument", "uvicorn", "--timeout-graceful-shutdown", "1", "app")
HYPERCORN = ("opentelemetry-instrument", "hypercorn", "--workers", "2", "--graceful-timeout", "1")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(UVICORN, id="uvicorn"),
        pytest.param((*HYPERCORN, "app"), id="workers", marks=pytest.mark.long),
    ],
)
def test_it_ends_when_it_is_told_to_and_exports_its_spans(tmp_path, command):
    with plain_service(tmp_path, command, SMALL_APP="has a gauge that hangs") as service:
        for _ in range(6):  # some worker collects for the second time
            with suppress(httpx.TimeoutException):
                service.client.get("/metrics", timeout=1)
        for number in range(20):
            assert service.client.get(f"/hello/{number}").status_code == 200
        began = time.monotonic()
        service.stop()
        assert not service.program.was_killed
        assert time.monotonic() - began < 30
        eventually(lambda: _spans(service.receiver) == 20)


def _spans(receiver):
    return sum(span.name == "GET /hello/{name}" for span in receiver.spans)
