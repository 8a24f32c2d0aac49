"""`opentelemetry-instrument uvicorn small_app:app`, whoever else is installed and comes first."""

import httpx
import pytest

from tests.support.programs import ALONE
from tests.support.small_service import HTTP, check, server_spans, small_service
from tests.support.stack import BARE, INSTRUMENTED
from tests.support.waiting import eventually

WITHOUT_STOCK = {name: f"{others},fastapi" for name, others in ALONE.items()}


def check_spans(service, *, health):
    """One server span for each request; none of it leaks. Called after the service stopped."""
    service.stop()
    names = [span.name for span in server_spans(service)]
    assert names.count("GET /health") == health
    assert sorted(name for name in names if name != "GET /health") == [
        "GET",
        "GET /ask/{name}",
        "GET /broken",
        "GET /refuse",
        "GET /stream",
        "GET /stream",
    ]
    outcomes = [span.attributes.get("otel_coach.outcome") for span in server_spans(service)]
    assert outcomes.count("aborted") == 1
    errors = [span.name for span in server_spans(service) if span.is_error]
    assert errors == ["GET /broken"]
    everything = b"".join(body for _, body in service.receiver.requests)
    for secret in (
        b"a secret in a message",
        b"127.0.0.1",
        b"/ask/anna",
        b"pause=",
        b"python-httpx",
    ):
        assert secret not in everything
    chats = [span for span in service.receiver.spans if span.name.startswith("chat")]
    servers = {span.span_id for span in server_spans(service)}
    assert len(chats) == 3
    assert all(span.parent_id in servers for span in chats)


@pytest.mark.parametrize("distro", ["otel_coach", "distro"])
@pytest.mark.parametrize("configurator", ["otel_coach", "configurator"])
def test_whoever_comes_first_the_series_and_spans_are_the_same(tmp_path, distro, configurator):
    order = {"OTEL_PYTHON_DISTRO": distro, "OTEL_PYTHON_CONFIGURATOR": configurator}
    with small_service(tmp_path, **order) as service:
        page = check(service)
        check_spans(service, health=page.sum(HTTP, endpoint="/health"))


def check_one_span_each(service):
    """What came of requests: each has one server span, and no secret. The service stops."""
    page = check(service)
    service.stop()
    names = [span.name for span in server_spans(service) if span.name != "GET /health"]
    assert len(names) == 6
    assert len(server_spans(service)) == 6 + page.sum(HTTP, endpoint="/health")
    everything = b"".join(body for _, body in service.receiver.requests)
    for secret in (b"a secret in a message", b"127.0.0.1", b"/ask/anna", b"pause="):
        assert secret not in everything


@pytest.mark.parametrize(
    "environment",
    [
        WITHOUT_STOCK,
        {"SMALL_APP": "instruments itself", **ALONE},
        {"SMALL_APP": "calls instrument", **ALONE},
    ],
    ids=["stock disabled", "both", "instrument called too"],
)
def test_there_is_one_server_span_and_one_http_family_always(tmp_path, environment):
    with small_service(tmp_path, **environment) as service:
        check_one_span_each(service)


BY_THE_APPLICATION = {"SMALL_APP": "instruments itself", **WITHOUT_STOCK}
STOCK = {"opentelemetry.instrumentation.fastapi"}


def test_the_applications_own_instrumentation_is_given_way_to_in_one_line(tmp_path):
    with small_service(tmp_path, **BY_THE_APPLICATION) as service:
        check_one_span_each(service)
        assert service.log.count("server span gives way") == 1
        assert {span.scope for span in server_spans(service)} == STOCK


def test_workers_say_once_that_the_applications_own_instrumentation_is_given_way_to(tmp_path):
    command = (*INSTRUMENTED[:2], "--workers", "2", "app")
    with small_service(tmp_path, command, **BY_THE_APPLICATION) as service:
        eventually(lambda: service.log.count("Application startup complete") == 2)
        for _ in range(20):  # each on a connection of its own: any worker may answer
            httpx.get(service.client.base_url.join("/ask/x"))
        service.stop()
        assert service.log.count("server span gives way") == 1
        assert {span.scope for span in server_spans(service)} == STOCK


def test_the_stock_instrumentation_by_choice_knows_the_outcome(tmp_path):
    with small_service(tmp_path, **ALONE, OTEL_COACH_SERVER_SPANS="fastapi") as service:
        check_one_span_each(service)
        spans = server_spans(service)
        assert {span.scope for span in spans} == STOCK
        outcomes = [span.attributes.get("otel_coach.outcome") for span in spans]
        assert outcomes.count("aborted") == 1
        assert not any(span.name.endswith((" send", " receive")) for span in service.receiver.spans)


def test_instrument_called_by_the_application_alone_does_the_same(tmp_path):
    with small_service(tmp_path, command=BARE, SMALL_APP="calls instrument") as service:
        page = check(service)
        check_spans(service, health=page.sum(HTTP, endpoint="/health"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What is on the path of the bare service, and an answer of it."""
    with small_service(tmp_path_factory.mktemp("bare"), command=BARE) as service:
        yield (
            service.client.get("/what-is-on-the-path").json(),
            service.client.get("/ask/x").content,
        )


@pytest.mark.parametrize("variable", ["OTEL_COACH_DISABLED", "OTEL_SDK_DISABLED"])
def test_disabled_nothing_of_ours_is_on_the_path(tmp_path, variable, bare):
    on_the_path, plain = bare
    disabled = {variable: "true", "OTEL_PYTHON_DISTRO": "otel_coach"}
    disabled["OTEL_PYTHON_CONFIGURATOR"] = "otel_coach"
    with small_service(tmp_path, **disabled) as service:
        found = service.client.get("/what-is-on-the-path").json()
        assert service.client.get("/metrics").status_code == 404
        assert service.client.get("/ask/x").content == plain
        assert service.receiver.requests == []
    # What costs nothing, and no more; what the command itself imports is none of these.
    assert set(found["modules"]) - set(on_the_path["modules"]) == {
        "otel_coach.setup",
        "otel_coach.setup.distro",
        "otel_coach.configuration",
        "otel_coach.configuration.environment_variables",
        "otel_coach.core",
        "otel_coach.core.entry_points",
        "otel_coach.instrumentors",
    }
    assert {**found, "modules": None} == {**on_the_path, "modules": None}


def test_what_is_disabled_stays_so_when_the_application_calls_instrument(tmp_path):
    environment = {
        "SMALL_APP": "calls instrument",
        **{name: f"{others},otel_coach_langchain" for name, others in ALONE.items()},
    }
    for command in (BARE, INSTRUMENTED):
        with small_service(tmp_path, command=command, **environment) as service:
            service.client.get("/ask/x")
            page = service.page()
            assert page.sum(HTTP, endpoint="/ask/{name}") == 1
            assert page.sum("agent_llm_requests_total") == 0
