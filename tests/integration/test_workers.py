"""Several workers of one service show one page."""

from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from otel_coach.testing import Page
from tests.support.fleets import plain
from tests.support.stack import coaching_stack
from tests.support.users import Users as CoachingUsers
from tests.support.waiting import end, eventually
from verification.soak.servers import SERVERS, WORKERS, running

HTTP = "http_server_request_duration_seconds_count"
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


# Real servers


@pytest.mark.long
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
    with running(plain(SERVERS["uvicorn"]), environment=environment, workers=2) as service:
        service.wait()
        asked = 1  # by whoever waited until the server was ready
        for _ in range(3):
            for _ in range(5):
                httpx.get(f"{service.url}/health")
            asked += 5
            page = Page(httpx.get(f"{service.url}/metrics").text)
            assert page.samples("shop_queue") == [({}, 100)]
            assert page.samples("shop_sold_total") == [({}, 1000)]
            assert page.sum("shop_asked_total") >= asked
            workers = {worker.pid for worker in service.workers()}
            end(workers.copy().pop())
            eventually(lambda old=workers: len({w.pid for w in service.workers()} - old))
            service.wait()


@pytest.mark.fleet
def test_a_worker_that_takes_otel_coach_off_leaves_its_counts_and_nothing_else():
    environment = {"SMALL_APP": "takes otel-coach off", "OTEL_COACH_DEPENDENCIES": "x=tcp://h:9"}
    with running(plain(SERVERS["uvicorn"]), environment=environment, workers=2) as service:
        service.wait()
        for _ in range(20):
            assert httpx.get(f"{service.url}/hello/x").status_code == 200
        threads, pid = httpx.post(f"{service.url}/uninstrument").json()
        assert [name for name in threads if name.startswith("otel")] == []
        opened = {Path(file.path).name for file in psutil.Process(pid).open_files()}
        assert {name for name in opened if name.endswith((".lock", ".task", ".sock"))} == set()
        (folder,) = service.shared.iterdir()
        assert list(folder.glob(f"{pid}-*.sock")) == []

        def page_of_the_other():
            answer = httpx.get(f"{service.url}/metrics")
            return Page(answer.text) if answer.status_code == 200 else None

        greetings = {"endpoint": "/hello/{name}"}
        eventually(lambda: (page := page_of_the_other()) and page.sum(HTTP, **greetings))
        page = next(page for page in iter(page_of_the_other, 0) if page)
        assert page.sum(HTTP, **greetings) == 20


# `make soak` has the other servers too, and more of each.


@pytest.mark.long
def test_a_service_with_metrics_of_its_own_shows_both_on_one_valid_page():
    command = ("opentelemetry-instrument", "uvicorn", "--workers", "2", "app_with_metrics:app")
    environment = {"OTEL_COACH_DEPENDENCIES": "", "COACH_PLAN_LIMIT": "1000/minute"}

    def pids(page):
        return {labels["pid"] for labels, _ in page.samples("coach_requests_in_progress")}

    with coaching_stack(command=command, environment=environment) as stack:
        # The stack is ready when one worker is.
        eventually(lambda: len(pids(Page(httpx.get(f"{stack.url}/metrics").text))) == 2)
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
            assert len(pids(page)) == 2
        assert "another family that uses the name auth_failures is not shown" in text
        log = stack.program.log.read_text()
        assert "the application's family auth_failures is not on the page" in log
