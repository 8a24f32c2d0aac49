"""Whose trace context and baggage are taken up, over real connections from several addresses."""

import importlib.util
import json
import socket
import subprocess
import sys

import httpx
import pytest
import websockets.sync.client
from fastapi import FastAPI, Request, WebSocket
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.background import BackgroundTask
from starlette.middleware.wsgi import WSGIMiddleware

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.serving import serving
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACE_ID = int(TRACE, 16)
STRANGER = {
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "tracestate": "vendor=secret",
    "baggage": "user=anna,secret=1",
}
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
SECRET = "open, sesame=1"
NOBODY = {"OTEL_COACH_TRUST_INCOMING": "false"}
NEVER = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}


async def _record(seen, scope, receive, send):
    if scope["type"] == "http":
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def provider_double():
    """Its address, and the headers of the requests that reached it."""
    seen = []

    async def answer(scope, receive, send):
        await _record(seen, scope, receive, send)

    with serving(answer, lifespan="off") as client:
        yield str(client.base_url), seen


def application(url, measured=None):
    app = FastAPI()

    @app.get("/ask")
    async def ask():
        async with httpx.AsyncClient() as client:
            HTTPXClientInstrumentor.instrument_client(
                client, tracer_provider=tracer_provider(measured)
            )
            await client.get(url)
        return dict(baggage.get_all())

    @app.get("/headers")
    async def headers(request: Request):
        return dict(request.headers)

    return app


def tracer_provider(measured):
    return measured.installation.providers.tracer_provider


def get(client, path, peer=HERE, **headers):
    transport = httpx.HTTPTransport(local_address=peer)
    with httpx.Client(base_url=client.base_url, transport=transport) as caller:
        answer = caller.get(path, headers={**STRANGER, **headers})
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.parametrize(
    ("trust", "peer", "headers", "is_trusted"),
    [
        ("", ELSEWHERE, {}, True),  # as OpenTelemetry has it
        ("true", ELSEWHERE, {}, True),
        ("false", HERE, {}, False),
        ("127.0.0.1", HERE, {}, True),
        ("127.0.0.1", ELSEWHERE, {}, False),
        ("::1, 127.0.0.0/31", HERE, {}, True),
        ("::1, 127.0.0.0/31", ELSEWHERE, {}, False),
        (f"header:X-Gateway-Secret={SECRET}", HERE, {"x-gateway-secret": SECRET}, True),
        (f"header:X-Gateway-Secret={SECRET}", HERE, {"x-gateway-secret": SECRET[:-1]}, False),
        (f"header:X-Gateway-Secret={SECRET}", HERE, {"x-gateway-secret": ""}, False),
        (f"header:X-Gateway-Secret={SECRET}", HERE, {}, False),
        (f"10.0.0.0/8, header:X-G={SECRET}", HERE, {"x-g": SECRET}, True),
        (f"127.0.0.2, header:X-G={SECRET}", ELSEWHERE, {}, True),
        # uvicorn believes this header of a peer at 127.0.0.1; its writer may be anybody.
        ("10.0.0.0/8", HERE, {"x-forwarded-for": "10.0.0.1"}, False),
        ("127.0.0.1", HERE, {"x-forwarded-for": "127.0.0.1"}, False),
        # Some versions of uvicorn take the port from there, too.
        ("10.0.0.0/8", HERE, {"x-forwarded-for": "10.0.0.1:4444"}, False),
        ("10.0.0.0/8", HERE, {"X-Forwarded-For": "10.0.0.1:4444, 192.0.2.1:80, 10.0.0.1:1"}, False),
        ("2001:db8::/32", HERE, {"x-forwarded-for": "[2001:DB8::1]:4444"}, False),
        # Another address that has the peer's as a part is no sign of that.
        ("127.0.0.1", HERE, {"x-real-ip": "127.0.0.17, 7127.0.0.1, 127.0.0.1.5"}, True),
        ("127.0.0.1", HERE, {"forwarded": 'for="127.0.0.1"'}, False),
        ("127.0.0.1", HERE, {"origin": "http://127.0.0.1", "referer": "http://127.0.0.1/"}, True),
        ("10.0.0.0/8, nonsense", HERE, {}, False),
        ("yes", HERE, {}, True),
        ("perhaps", HERE, {}, False),
        ("0", HERE, {}, False),
    ],
)
def test_a_strangers_flag_and_baggage_go_no_further_than_an_operator_wants(
    provider_double, trust, peer, headers, is_trusted
):
    url, seen = provider_double
    settings = Settings.from_env({"OTEL_COACH_TRUST_INCOMING": trust, **NEVER})
    with measuring(settings) as measured:
        with serving(application(url, measured)) as client:
            known = get(client, "/ask", peer, **headers)
        spans = measured.spans
    (sent,) = seen
    if is_trusted:
        assert known == {"user": "anna", "secret": "1"}
        assert sent["baggage"] == "user=anna,secret=1"
        assert sent["traceparent"].startswith(f"00-{TRACE}-")
        # A sampler that would take none takes what he wants it to take.
        assert {span.context.trace_id for span in spans} == {TRACE_ID}
        assert {span.name for span in spans} == {"GET /ask", "GET"}
    else:
        assert known == {}
        assert "baggage" not in sent
        assert TRACE not in sent.get("traceparent", "")
        assert "vendor" not in sent.get("tracestate", "")
        assert not spans


def test_the_application_sees_all_headers_of_an_untrusted_caller():
    with measuring(Settings.from_env(NOBODY)), serving(application("")) as client:
        assert STRANGER.items() <= get(client, "/headers").items()


def test_the_trace_of_an_untrusted_caller_is_a_link_of_ours():
    with measuring(Settings.from_env(NOBODY)) as measured, serving(application("")) as client:
        get(client, "/headers")
        get(client, "/headers", traceparent="nonsense")
        eventually(lambda: len(measured.spans) == 2)  # the client may be ahead of the server
        with_link, without = measured.spans
    assert with_link.parent is None
    assert with_link.context.trace_id != TRACE_ID
    (link,) = with_link.links
    assert (link.context.trace_id, link.context.span_id) == (TRACE_ID, 0xB7AD6B7169203331)
    assert not link.context.trace_state
    assert not link.attributes
    assert not without.links
    assert without.parent is None


# Those who extract by themselves


instrumented = []


@pytest.fixture(autouse=True)
def _as_if_never_instrumented():
    """The stock instrumentation patches background tasks of all applications, too."""
    yield
    for app in instrumented:
        FastAPIInstrumentor.uninstrument_app(app)
    instrumented.clear()
    assert not hasattr(BackgroundTask, "_otel_original_call")


def with_stock_instrumentation(measured, app):
    instrumented.append(app)
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=tracer_provider(measured), exclude_spans=["send", "receive"]
    )
    return app


def answering(app):
    @app.get("/known")
    async def known():
        return dict(baggage.get_all())

    @app.websocket("/talk")
    async def talk(socket: WebSocket):
        await socket.accept()
        await socket.send_json(dict(baggage.get_all()))
        await socket.receive()  # older clients lose what comes together with the end

    return app


def of_stock(measured):
    return with_stock_instrumentation(measured, answering(FastAPI()))


def of_fastapi(measured):
    return answering(FastAPI(telemetry={"tracer_provider": tracer_provider(measured)}))


WAYS = [of_stock]
if importlib.util.find_spec("fastapi.telemetry"):  # older ones have none of their own
    WAYS.append(of_fastapi)


def talk(client, peer):
    host, port = client.base_url.host, client.base_url.port
    with (
        socket.create_connection((host, port), 10, source_address=(peer, 0)) as connection,
        websockets.sync.client.connect(
            f"ws://{host}:{port}/talk", sock=connection, additional_headers=STRANGER
        ) as websocket,
    ):
        return json.loads(websocket.recv())


@pytest.mark.parametrize("made", WAYS)
@pytest.mark.parametrize("call", [talk, lambda client, peer: get(client, "/known", peer)])
def test_who_makes_spans_by_himself_takes_up_the_trusted_only(made, call):
    settings = Settings.from_env({"OTEL_COACH_TRUST_INCOMING": HERE})
    with measuring(settings) as measured, serving(made(measured)) as client:
        assert call(client, HERE) == {"user": "anna", "secret": "1"}
        eventually(lambda: measured.spans)
        assert {span.context.trace_id for span in measured.spans} == {TRACE_ID}
        measured.forget_spans()
        assert call(client, ELSEWHERE) == {}
        eventually(lambda: measured.spans)
        assert TRACE_ID not in {span.context.trace_id for span in measured.spans}
        assert not any(span.parent and span.parent.is_remote for span in measured.spans)


def test_a_mounted_application_takes_up_the_trusted_only():
    """Its own instrumentation would, where no span is around it."""
    settings = Settings.from_env(
        {"OTEL_COACH_TRUST_INCOMING": HERE, "OTEL_PYTHON_EXCLUDED_URLS": "inside"}
    )
    with measuring(settings) as measured:
        app = FastAPI()
        app.mount("/inside", with_stock_instrumentation(measured, answering(FastAPI())))
        with serving(app) as client:
            assert get(client, "/inside/known", HERE) == {"user": "anna", "secret": "1"}
            assert get(client, "/inside/known", ELSEWHERE) == {}
        trusted, not_trusted = measured.spans
    assert trusted.context.trace_id == TRACE_ID
    assert not_trusted.context.trace_id != TRACE_ID


def test_a_middleware_around_the_whole_application_takes_up_the_trusted_only():
    with measuring(Settings.from_env({"OTEL_COACH_TRUST_INCOMING": HERE})) as measured:
        inside = answering(FastAPI(telemetry={"tracing": False} if len(WAYS) > 1 else None))
        around = OpenTelemetryMiddleware(inside, tracer_provider=tracer_provider(measured))
        with serving(around) as client:
            for call in (talk, lambda client, peer: get(client, "/known", peer)):
                assert call(client, HERE) == {"user": "anna", "secret": "1"}
                assert call(client, ELSEWHERE) == {}
        eventually(lambda: any(span.name.startswith("GET") for span in measured.spans))
        traces = {span.context.trace_id for span in measured.spans}
    assert TRACE_ID in traces
    assert len(traces) > 1


class _Environ(Getter):
    """As the stock instrumentation of WSGI reads headers."""

    def get(self, carrier, key):
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier):
        return [*carrier]


def test_whatever_reads_the_request_itself_finds_nothing_of_the_untrusted():
    app = FastAPI()
    message = {"traceparent": STRANGER["traceparent"].replace(TRACE, "1" * 32)}

    def found(context):
        span = trace.get_current_span(context).get_span_context()
        return [trace.format_trace_id(span.trace_id), dict(baggage.get_all(context))]

    @app.get("/by-hand")
    def by_hand(request: Request):
        return [
            found(propagate.extract(request.headers)),
            found(propagate.extract(request.scope, getter=_Environ())),
            found(TraceContextTextMapPropagator().extract(request.headers)),
            found(W3CBaggagePropagator().extract(request.headers)),
            found(propagate.extract(message)),  # of a queue
        ]

    def wsgi(environ, start_response):
        start_response("200 OK", [("content-type", "application/json")])
        return [json.dumps(found(propagate.extract(environ, getter=_Environ()))).encode()]

    app.mount("/wsgi", WSGIMiddleware(wsgi))
    settings = Settings.from_env(
        {"OTEL_COACH_TRUST_INCOMING": HERE, "OTEL_PYTHON_EXCLUDED_URLS": "by-hand,wsgi"}
    )
    nothing, all_of_it = ["0" * 32, {}], [TRACE, {"user": "anna", "secret": "1"}]
    with measuring(settings), serving(app) as client:
        assert get(client, "/wsgi/", HERE) == all_of_it
        assert get(client, "/wsgi/", ELSEWHERE) == nothing
        trusted = get(client, "/by-hand", HERE)
        assert trusted[0] == all_of_it
        assert trusted[4][0] == "1" * 32
        assert get(client, "/by-hand", ELSEWHERE) == [*[nothing] * 4, ["1" * 32, {}]]


class Panic(BaseException):
    """As a function of Rust ends that cannot go on."""


@pytest.mark.parametrize("fault", [RuntimeError, Panic, RecursionError])
@pytest.mark.parametrize("where", ["otel_coach.configuration.trust._is_in", "is_request"])
def test_a_fault_in_it_trusts_nobody_and_changes_nothing(monkeypatch, fault, where):
    """Where it is asked of a caller, and where it is asked of what somebody reads."""

    def broken(*_):
        raise fault

    if where == "is_request":
        where = "otel_coach.instrumentors.provider_headers._is_request"
    monkeypatch.setattr(where, broken)
    settings = Settings.from_env({"OTEL_COACH_TRUST_INCOMING": "127.0.0.9"})
    with measuring(settings) as measured:
        with serving(with_stock_instrumentation(measured, answering(FastAPI()))) as client:
            assert get(client, "/known") == {}
        page = measured.page()
        assert TRACE_ID not in {span.context.trace_id for span in measured.spans}
    assert page.sum("otel_coach_errors_total") > 0


# The setting


@pytest.mark.long
def test_the_secret_is_in_no_text_of_ours(caplog):
    secret = "open-sesame"
    for text in (f"header:X-G={secret}", f"nonsense,header:X-G={secret}"):
        environ = {"OTEL_COACH_TRUST_INCOMING": text}
        settings = Settings.from_env(environ)
        assert secret not in f"{settings!r} {settings} {settings.trust_incoming!r}"
        caplog.set_level("DEBUG")
        with measuring(settings) as measured, serving(application("")) as client:
            get(client, "/headers", **{"x-g": secret})
            told = measured.page().text + "".join(span.to_json() for span in measured.spans)
        assert secret not in caplog.text.replace(f"'x-g', '{secret}'", "") + told
        doctor = subprocess.run(
            [sys.executable, "-m", "otel_coach", "doctor"],
            env={**environ, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert secret not in doctor.stdout + doctor.stderr
        assert ("nobody is trusted" in doctor.stdout + doctor.stderr) == ("nonsense" in text)
