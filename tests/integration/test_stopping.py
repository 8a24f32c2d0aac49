"""A server that is stopped: how soon it ends, and that nothing is lost."""

import signal
import time

import pytest

from tests.support.programs import ALONE, free_port
from tests.support.small_service import plain_service, server_spans, small_service
from tests.support.stack import INSTRUMENTED


def test_a_collector_that_is_not_there_costs_the_service_nothing(tmp_path):
    dead = f"http://127.0.0.1:{free_port()}"
    with plain_service(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=dead) as service:
        assert service.client.get("/hello/x").status_code == 200
        started = time.monotonic()
        service.stop()
        assert time.monotonic() - started < 12
        assert service.program.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_no_span_is_lost_when_the_server_is_stopped(tmp_path, how):
    with plain_service(tmp_path, OTEL_BSP_SCHEDULE_DELAY="60000") as service:
        for _ in range(5):
            service.client.get("/hello/x")
        assert service.receiver.spans == []
        service.stop(how)
        assert sum(span.name == "GET /hello/{name}" for span in service.receiver.spans) == 5


@pytest.mark.long
def test_a_back_end_that_hangs_does_not_keep_the_service_from_stopping(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as hanging:
        endpoint = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        }
        # The lifespan's end waits for three seconds. After SIGTERM nothing runs any more; after
        # SIGINT, the end of the process waits for three more. Two are the process's own.
        for how, seconds in ((signal.SIGTERM, 3 + 2), (signal.SIGINT, 3 + 3 + 2)):
            with small_service(tmp_path, **environment) as service:
                service.client.get("/ask/x")
                started = time.monotonic()
                service.stop(how)
                assert time.monotonic() - started < seconds


def test_a_stream_that_a_stopping_server_cuts_off_still_has_its_span(tmp_path):
    command = (*INSTRUMENTED[:2], "--timeout-graceful-shutdown", "1", INSTRUMENTED[2])
    with small_service(tmp_path, command=command, **ALONE) as service:
        with service.client.stream("GET", "/stream?pause=0.5") as response:
            next(response.iter_raw())
            service.program.stop()
        assert [s.name for s in server_spans(service) if "stream" in s.name] == ["GET /stream"]
