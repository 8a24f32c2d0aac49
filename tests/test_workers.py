"""Several workers of one service show one page."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import eventually
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from demo.otlp import Receiver
from demo.programs import free_port
from demo.stack import coaching_stack
from demo.users import Users as CoachingUsers
from otel_coach.resource import process_resource
from otel_coach.testing import Page
from otel_coach.workers.base_folder import FolderError, base_folder
from otel_coach.workers.doorbell import Doorbell, ring
from otel_coach.workers.folder import Folder
from otel_coach.workers.group import Group
from otel_coach.workers.supervisor import (
    Supervisor,
    start_time,
    supervisor,
    supervisor_of_this_process,
)
from soak.__main__ import soak
from soak.clients import Scraper
from soak.servers import SERVERS, WORKERS, running

HTTP = "http_server_request_duration_seconds_count"
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


# Real servers


@pytest.mark.fleet
def test_a_scrape_has_all_that_was_answered_before_it_whoever_answers():
    with running(SERVERS["uvicorn"]) as service:
        service.wait()
        for number in range(60):
            assert httpx.get(f"{service.url}/ask/x").status_code == 200
            page = Page(httpx.get(f"{service.url}/metrics").text)
            assert page.sum(HTTP, endpoint="/ask/{name}") == number + 1
        assert page.sum("agent_llm_requests_total") == 60
        assert page.sum("agent_llm_latency_seconds_bucket", le="+Inf") == 60
        assert page.sum("otel_coach_errors_total") == 0
        assert page.sum("process_open_fds") > 3 * WORKERS
        assert [value for _, value in page.samples("python_info")] == [1]


@pytest.mark.fleet
def test_what_a_collector_of_the_applications_reads_is_added_up_over_no_workers_nor_the_dead():
    environment = {"SMALL_APP": "reads what all share"}
    with running(SERVERS["uvicorn"], environment=environment, workers=2) as service:
        service.wait()
        asked = 1  # by whoever waited until the server was ready
        for _ in range(3):
            for _ in range(5):
                httpx.get(f"{service.url}/ask/x")
            asked += 5
            page = Page(httpx.get(f"{service.url}/metrics").text)
            assert page.samples("shop_queue") == [({}, 100)]
            assert page.samples("shop_sold_total") == [({}, 1000)]
            assert page.sum("shop_asked_total") >= asked
            workers = {worker.pid for worker in service.workers()}
            os.kill(workers.copy().pop(), signal.SIGTERM)
            eventually(lambda old=workers: len({w.pid for w in service.workers()} - old), within=30)
            service.wait()


@pytest.mark.fleet
def test_a_worker_that_takes_otel_coach_off_leaves_its_counts_and_nothing_else():
    environment = {"SMALL_APP": "takes otel-coach off", "OTEL_COACH_DEPENDENCIES": "x=tcp://h:9"}
    with running(SERVERS["uvicorn"], environment=environment, workers=2) as service:
        service.wait()
        for _ in range(20):
            assert httpx.get(f"{service.url}/ask/x").status_code == 200
        threads, pid = httpx.post(f"{service.url}/uninstrument").json()
        assert [name for name in threads if name.startswith("otel")] == []
        opened = {Path(file.path).name for file in psutil.Process(pid).open_files()}
        assert {name for name in opened if name.endswith((".lock", ".task", ".sock"))} == set()
        (folder,) = service.shared.iterdir()
        assert list(folder.glob(f"{pid}-*.sock")) == []

        def page_of_the_other():
            answer = httpx.get(f"{service.url}/metrics")
            return Page(answer.text) if answer.status_code == 200 else None

        eventually(lambda: (page := page_of_the_other()) and page.sum(HTTP, endpoint="/ask/{name}"))
        page = next(page for page in iter(page_of_the_other, 0) if page)
        assert page.sum(HTTP, endpoint="/ask/{name}") == 20


# `make soak` has the other servers too, and more of each.


@pytest.mark.fleet
def test_without_a_kill_nothing_is_lost_and_nothing_falls():
    accidents = frozenset({"terminate", "reload", "stop"})
    report = soak(SERVERS["uvicorn"], 5, 1, accidents=accidents)
    assert report.problems == []
    assert report.lost == 0
    assert report.answered > 50
    assert report.scrapes > 10


@pytest.mark.fleet
def test_a_kill_loses_a_second_at_most_and_nothing_falls():
    report = soak(SERVERS["gunicorn"], 8, 2)
    assert report.problems == []
    assert report.accidents["kill"] > 0


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
            os.kill(prober, signal.SIGKILL)
            before = probes()
            eventually(lambda: probes() > before + 2, within=10)


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
    with running(SERVERS["uvicorn"], environment=environment, workers=2) as service:
        service.wait()
        assert httpx.get(f"{service.url}/metrics").status_code == 404
        for _ in range(20):
            httpx.get(f"{service.url}/ask/x")

        def calls():
            try:
                page = Page(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
            except httpx.HTTPError:
                return -1
            return page.sum("agent_llm_requests_total")

        assert calls() == 20
        assert "cannot be used" not in service.program.log.read_text()
        os.kill(_holder(next(service.shared.rglob("port.task"))), signal.SIGTERM)
        eventually(lambda: calls() == 20, within=10)


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
    with running(SERVERS["gunicorn"], environment=environment, workers=2) as service:
        assert httpx.get(f"{service.url}/ask/x").status_code == 200
        assert httpx.get(f"{service.url}/metrics").status_code == 200
        log = service.program.log.read_text()
        assert "cannot share their figures" in log
        assert "OTEL_COACH_SHARED_DIR" in log
        assert "Traceback" not in log


@pytest.mark.fleet
def test_a_scrape_of_openmetrics_has_exemplars_of_all_workers(tmp_path):
    environment = {"OTEL_TRACES_EXPORTER": "console"}
    with running(SERVERS["gunicorn"], environment=environment, workers=2) as service:
        for _ in range(20):
            httpx.get(f"{service.url}/ask/x")
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


def test_a_service_with_metrics_of_its_own_shows_both_on_one_valid_page():
    command = ("opentelemetry-instrument", "uvicorn", "--workers", "2", "app_with_metrics:app")
    environment = {"OTEL_COACH_DEPENDENCIES": "", "COACH_PLAN_LIMIT": "1000/minute"}
    with coaching_stack(command=command, environment=environment) as stack:
        users = CoachingUsers(stack)
        for _ in range(10):
            assert users.plan("Ten kilometres").status_code == 200
            users.plan("Ten kilometres", key="wrong")
        users.close()
        for _ in range(6):
            text = httpx.get(f"{stack.url}/metrics").text
            page = Page(text)
            strict = httpx.get(f"{stack.url}/metrics", headers=OPENMETRICS).text
            assert len({family.name for family in openmetrics(strict)}) > 20
            assert page.sum("coach_plans_total") == 20  # theirs, of both workers
            assert page.sum("auth_failures_total") == 10  # ours, of both
            assert {"reason", "path"}.isdisjoint(page.labels)  # theirs of our names
            pids = {labels["pid"] for labels, _ in page.samples("coach_requests_in_progress")}
            assert len(pids) == 2
        assert "another family auth_failures of this process is not shown" in text
        log = stack.program.log.read_text()
        assert "the family auth_failures is defined twice" in log


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


def instance_id():
    return process_resource().attributes["service.instance.id"]


def test_each_spawned_worker_is_an_instance_of_its_own(monkeypatch):
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(1) as other:
        assert len({instance_id(), one.apply(instance_id), other.apply(instance_id)}) == 3
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    assert instance_id() == "pod-7"
    with context.Pool(1) as pool:
        assert pool.apply(instance_id) == f"pod-7-{pool.apply(os.getpid)}"


# Who is whose worker


def test_this_process_has_no_supervisor_but_a_child_of_multiprocessing_has():
    assert supervisor_of_this_process() is None
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found = pool.apply(supervisor_of_this_process)
    assert found == supervisor(os.getpid())


def test_a_fork_has_one_and_a_daemon_has_none():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, repr(supervisor_of_this_process()).encode() + b"\n")
        if os.fork() == 0:
            while os.getppid() == _parent_of_daemon():
                time.sleep(0.01)
            os.write(write, repr(supervisor_of_this_process()).encode() + b"\n")
            os._exit(0)
        os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read) as answers:
        assert answers.read().splitlines() == [repr(supervisor(os.getpid())), "None"]


def _parent_of_daemon():
    from otel_coach.workers import supervisor as module

    return module._forked_by


def test_a_supervisor_lives_as_long_as_its_process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = supervisor(process.pid)
        assert found.lives
        assert not Supervisor(process.pid, "1").lives  # another one had that pid
        process.communicate(b"\n")
    assert not found.lives
    assert start_time(process.pid) is None


# The folder


def test_the_folder_is_private_or_refused(tmp_path):
    base = base_folder(str(tmp_path / "mine"), None)
    assert base.stat().st_mode & 0o777 == 0o700
    base.chmod(0o755)
    with pytest.raises(FolderError, match="others"):
        base_folder(str(base), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="not a folder"):
        base_folder(str(tmp_path / "file"), None)
    with pytest.raises(FolderError, match="cannot be made"):
        base_folder(str(tmp_path / "file" / "below"), None)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(FolderError):
        base_folder(str(link), None)
    assert base_folder(None, str(tmp_path)) == tmp_path / "otel-coach"


def test_a_path_too_long_for_a_socket_is_said_to_be(tmp_path, monkeypatch):
    base = base_folder(str(tmp_path / ("x" * 100)), None)
    assert len(str(Folder(base, supervisor(os.getpid())).socket("1-a"))) < 50
    elsewhere = "otel_coach.workers.folder._short"
    monkeypatch.setattr(elsewhere, lambda path, descriptor: os.close(descriptor) or path)
    with pytest.raises(FolderError, match="too long"):
        Folder(base, supervisor(os.getpid()))


# Asking each other


def test_who_does_not_answer_is_named_and_waited_for_no_longer_than_said(tmp_path):
    door, hung = tmp_path / "door", tmp_path / "hung"
    rang = []
    doorbell, _silent = Doorbell(door), Doorbell(hung)
    answering = threading.Thread(target=doorbell.wait, args=(5, lambda: not rang.append(1)))
    answering.start()
    started = time.monotonic()
    doors = {"well": door, "hung": hung, "dead": tmp_path / "nobody"}
    assert ring(doors, 0.3, lambda: None) == {"hung"}
    assert time.monotonic() - started < 1
    answering.join()
    assert rang == [1]


# Merging


class Source:
    """What a worker measures, as bytes that say who they are."""

    def __init__(self, content=lambda: b"own"):
        self.content = content
        self.retired = []

    def measure(self, *, whole):
        found = self.content()
        return found if whole else b""

    def changed(self):
        return True

    def increments(self):
        return b""

    def retire(self, contents):
        self.retired.append(list(contents))
        return b"+".join(contents)


def never(fault, place):
    raise AssertionError(place) from fault


def group_in(folder, source):
    me = supervisor(os.getpid())
    return Group(Folder(base_folder(str(folder), None), me), me, source, never)


def test_a_fault_in_the_background_is_counted_and_the_next_tick_tries_again(tmp_path):
    faults, measured = [], []

    def content():
        measured.append(1)
        if len(measured) == 1:
            raise ZeroDivisionError
        return b"figures"

    group = Group.join(
        lambda: base_folder(str(tmp_path / "shared"), None),
        supervisor(os.getpid()),
        Source(content),
        lambda fault, place: faults.append((type(fault), place)),
    )
    eventually(lambda: len(measured) >= 2)
    assert faults == [(ZeroDivisionError, "Group")]
    assert [figures.content for figures in group.everybody()] == [b"figures"]
    group.close()


def test_no_file_grows_old_enough_to_be_swept_away(tmp_path):
    folder = Folder(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    folder.exclusive("probes")
    for path in [folder.path, *folder.path.iterdir()]:
        os.utime(path, (1, 1))
    folder.touch()
    assert all(path.stat().st_mtime > 1e9 for path in [folder.path, *folder.path.iterdir()])


def test_the_dead_are_retired_once(tmp_path):
    """Also by who crashed between writing the retired figures and removing the files."""
    source = Source()
    group = group_in(tmp_path / "shared", source)
    folder = group._folder
    for worker in ("1-dead", "2-dead"):
        folder._lock(worker).write_text("")
        folder.snapshot(worker).write_bytes(worker.encode())
    group._bury()
    assert source.retired == [[b"1-dead", b"2-dead"]]
    assert [f.content for f in group.everybody()] == [b"own", b"1-dead+2-dead"]
    # As if it had not come to remove them.
    folder._lock("1-dead").write_text("")
    folder.snapshot("1-dead").write_bytes(b"1-dead")
    assert [f.content for f in group.everybody()] == [b"own", b"1-dead+2-dead"]
    group._bury()
    assert source.retired[1:] == [[b"1-dead+2-dead"]]
    assert json.loads((folder.path / "retired").read_bytes().partition(b"\n")[0])
    assert [f.content for f in group.everybody()] == [b"own", b"1-dead+2-dead"]
    group.close()


def test_workers_that_lived_for_a_moment_only_are_put_together_by_the_next_one(tmp_path):
    """Where none lives until its own turn to look for the dead."""
    base = base_folder(str(tmp_path / "shared"), None)
    folder = Folder(base, supervisor(os.getpid()))
    for number in range(60):
        folder._lock(f"{number}-dead").write_text("")
        folder.snapshot(f"{number}-dead").write_bytes(b"x")
    source = Source()
    group = Group.join(lambda: base, supervisor(os.getpid()), source, never)
    eventually(lambda: not list(folder.path.glob("*-dead.*")), within=1.5)
    group.close()
    assert source.retired == [[b"x"] * 60]
    folder.leave()


def test_a_forked_child_leaves_its_parents_figures_alone(tmp_path):
    group = group_in(tmp_path / "shared", Source(lambda: str(os.getpid()).encode()))
    group.refresh()
    if (child := os.fork()) == 0:
        group.refresh()
        group.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert group._folder.snapshot(group._folder.me).read_bytes() == str(os.getpid()).encode()
    group.close()
