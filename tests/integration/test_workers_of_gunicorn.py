"""Several workers of gunicorn: who serves, probes and answers for the others."""

import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from otel_coach.testing import Page
from tests.support.fleets import plain
from tests.support.otlp import Receiver
from tests.support.programs import free_port
from tests.support.small_service import HTTP
from tests.support.waiting import end, eventually
from verification.soak.clients import Scraper
from verification.soak.servers import SERVERS, running

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


# `make soak` has the other servers too, and more of each.


@pytest.mark.fleet
def test_a_worker_that_hangs_is_read_as_it_last_wrote():
    with running(SERVERS["gunicorn"], workers=2) as service:
        service.wait()
        for _ in range(20):
            httpx.get(f"{service.url}/ask/x")
        scraper = Scraper(service.url)
        scraper.last = {("agent_llm_requests_total", ()): 2.0}
        scraper.read()
        assert len(scraper.fallen) == 1  # what the soak looks for, it finds
        hung = service.workers()[0]
        hung.suspend()
        try:
            answer, seconds = _scrape_by_another(service)
        finally:
            hung.resume()
        assert Page(answer.text).sum("agent_llm_requests_total") == 20
        assert f"# otel-coach: worker {hung.pid} does not answer" in answer.text
        assert seconds < 5  # half a second is waited; without that, as long as it hangs
        assert f"worker {hung.pid} does not answer" in service.program.log.read_text()


def _scrape_by_another(service):
    """A scrape by a worker that is not the one that hangs."""
    while True:
        started = time.monotonic()
        try:
            return httpx.get(f"{service.url}/metrics", timeout=2), time.monotonic() - started
        except httpx.TimeoutException:
            continue  # it met the one that hangs


@pytest.mark.long
@pytest.mark.fleet
def test_one_worker_probes_and_another_takes_over(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as database:
        environment = {
            "OTEL_COACH_DEPENDENCIES": f"db=tcp://127.0.0.1:{database.getsockname()[1]}",
            "OTEL_COACH_DEPENDENCY_INTERVAL": "0.5",
        }
        with running(SERVERS["gunicorn"], environment=environment, workers=2) as service:
            service.wait()

            def probes():
                page = Page(httpx.get(f"{service.url}/metrics").text)
                assert [value for _, value in page.samples("dependency_up")] in ([], [1])
                return page.sum("dependency_latency_seconds_count")

            eventually(lambda: probes() > 0)
            started, before = time.monotonic(), probes()
            time.sleep(3)
            made = probes() - before
            assert made <= (time.monotonic() - started) / 0.5 + 1  # not one for each worker
            assert made >= 3
            prober = _holder(next(service.shared.rglob("probes.task")))
            end(prober, signal.SIGKILL)
            before = probes()
            eventually(lambda: probes() > before + 2)


def _holder(path):
    """The process that holds the lock, as the kernel lists it."""
    inode = str(path.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    raise LookupError(path)


@pytest.mark.fleet
def test_a_port_of_its_own_is_served_once_and_taken_over():
    port = free_port()
    environment = {
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
    }
    with running(plain(SERVERS["uvicorn"]), environment=environment, workers=2) as service:
        service.wait()
        assert httpx.get(f"{service.url}/metrics").status_code == 404
        for _ in range(20):
            httpx.get(f"{service.url}/hello/x")

        def greetings():
            try:
                page = Page(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
            except httpx.HTTPError:
                return -1
            return page.sum(HTTP, endpoint="/hello/{name}")

        assert greetings() == 20
        assert "cannot be used" not in service.program.log.read_text()
        end(_holder(next(service.shared.rglob("port.task"))))
        eventually(lambda: greetings() == 20)


@pytest.mark.long
@pytest.mark.fleet
def test_two_services_of_one_machine_and_two_runs_of_one_know_nothing_of_each_other(tmp_path):
    shared = {"OTEL_COACH_SHARED_DIR": str(tmp_path / "shared")}
    with running(SERVERS["gunicorn"], environment=shared, workers=2) as one:
        for _ in range(5):
            httpx.get(f"{one.url}/ask/x")
        with running(SERVERS["gunicorn"], environment=shared, workers=2) as other:
            httpx.get(f"{other.url}/ask/x")
            page = Page(httpx.get(f"{other.url}/metrics").text)
            assert page.sum("agent_llm_requests_total") == 1
        page = Page(httpx.get(f"{one.url}/metrics").text)
        assert page.sum("agent_llm_requests_total") == 5
        # All at once, as when the machine fails.
        supervisor_process = psutil.Process(one.program.process.pid)
        for process in [supervisor_process, *one.workers()]:
            process.kill()
    assert list((tmp_path / "shared").glob("*"))  # nobody was left to clean up
    with running(SERVERS["gunicorn"], environment=shared, workers=2) as again:
        assert httpx.get(f"{again.url}/ask/x").status_code == 200
        page = Page(httpx.get(f"{again.url}/metrics").text)
        assert page.sum("agent_llm_requests_total") == 1
        assert len(list((tmp_path / "shared").glob("*"))) == 1


@pytest.mark.fleet
def test_a_folder_that_cannot_be_written_is_one_line_and_each_worker_by_itself(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    environment = {"OTEL_COACH_SHARED_DIR": str(place / "below")}
    with running(plain(SERVERS["gunicorn"]), environment=environment, workers=2) as service:
        assert httpx.get(f"{service.url}/health").status_code == 200
        assert httpx.get(f"{service.url}/metrics").status_code == 200
        log = service.program.log.read_text()
        assert "cannot share their figures" in log
        assert "OTEL_COACH_SHARED_DIR" in log
        assert "Traceback" not in log


@pytest.mark.fleet
def test_a_scrape_of_openmetrics_has_exemplars_of_all_workers(tmp_path):
    environment = {"OTEL_TRACES_EXPORTER": "console"}
    with running(plain(SERVERS["gunicorn"]), environment=environment, workers=2) as service:
        for _ in range(20):
            httpx.get(f"{service.url}/health")
        text = httpx.get(f"{service.url}/metrics", headers=OPENMETRICS).text
        exemplars = [
            sample.exemplar
            for family in openmetrics(text)
            if family.name == "http_server_request_duration_seconds"
            for sample in family.samples
            if sample.exemplar is not None
        ]
        assert exemplars
        log = service.program.log.read_text()
        for exemplar in exemplars:
            assert set(exemplar.labels) == {"trace_id", "span_id"}
            assert f"0x{exemplar.labels['trace_id']}" in log  # the console's own words
            assert f"0x{exemplar.labels['span_id']}" in log


@pytest.mark.fleet
def test_each_worker_pushes_as_a_resource_of_its_own_also_after_a_fork():
    with Receiver() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "400",
        }
        with running(SERVERS["gunicorn"], environment=environment, workers=2) as service:
            service.wait()
            answers, workers = 0, set()
            while len(workers) < 2 or answers < 30:
                answer = httpx.get(f"{service.url}/ask/x")
                assert answer.status_code == 200
                workers.add(answer.headers["x-worker"])
                answers += 1
        calls = {}
        for path, body in receiver.requests:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
                    calls[attributes["service.instance.id"]] = sum(
                        point.as_double or point.as_int
                        for scope in resource.scope_metrics
                        for metric in scope.metrics
                        if metric.name == "agent.llm.requests"
                        for point in metric.sum.data_points
                    )
        assert sum(calls.values()) == answers
        assert len([instance for instance, made in calls.items() if made]) == 2
        assert sum(span.name == "GET /ask/{name}" for span in receiver.spans) == answers
