"""Requests and answers of any kind: the application and its clients notice nothing."""

import asyncio

from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from otel_coach.configuration.definitions import DEFAULT_CREDENTIAL_HEADERS
from otel_coach.instrumentors.asgi.auth_failures import auth_failure_reason
from otel_coach.instrumentors.asgi.routes import find_route
from tests.support import strategies as some
from tests.support.watching import APPLICATION, shown, watching

SECRET = "s3cr3t"


# Requests


async def conversation(call, scope, incoming):
    """What a server that tells `incoming` gets to hear."""
    heard = []
    waiting = iter(incoming)

    async def receive():
        for message in waiting:
            return {**message}
        if incoming[-1]["type"] == "http.disconnect":
            return {**incoming[-1]}
        return await asyncio.Event().wait()

    async def send(message):
        heard.append({**message})

    try:
        async with asyncio.timeout(5):
            await call(APPLICATION, {**scope, "headers": [*scope["headers"]]}, receive, send)
    except Exception as error:  # noqa: BLE001 - the server hears of it too
        heard.append((type(error), str(error)))
    return heard


def watched_alike(call, scope, incoming):
    """The page and the spans of a conversation that is the same without us, and what it says."""
    with watching() as watched:

        async def layered(app, *arguments):
            await watched.layer.around(call)(app, *arguments)

        bare = asyncio.run(conversation(call, scope, incoming))
        assert asyncio.run(conversation(layered, scope, incoming)) == bare
        page = shown(watched.page)
        spans = watched.exporter.get_finished_spans()
    assert page.sum("http_server_request_duration_seconds_count") == 1
    ours = {"endpoint", "model", "mode", "status", "method", "tool_name", "error_type"}
    of_python = {"generation", "implementation", "major", "minor", "patchlevel", "version"}
    assert page.labels <= ours | {"dependency_name", "le"} | of_python
    return page, spans, bare


@given(some.SCOPES, some.INCOMING, st.sampled_from([SECRET, ""]))
def test_an_application_answers_as_if_nobody_watched(scope, incoming, behind):
    secret = SECRET.encode()
    scope["path"] += behind
    scope["headers"] += [(b"x-user", secret), (b"host", secret), (b"cookie", b"session=" + secret)]
    scope["query_string"] += b"&who=" + secret
    page, spans, heard = watched_alike(FastAPI.__call__, scope, incoming)
    has_raised = isinstance(heard[-1], tuple)
    assert has_raised or page.sum("otel_coach_errors_total") == 0
    assert len(spans) == ("excluded" not in scope["path"])
    assert SECRET not in page.text + "".join(span.to_json() for span in spans)


@given(some.SCOPES, some.INCOMING, some.SENT)
def test_whatever_an_application_sends_reaches_the_server(scope, incoming, messages):
    async def sending(_app, _scope, _receive, send):
        for message in messages:
            await send(message)

    watched_alike(sending, scope, incoming)


HEX = st.text("0123456789abcdef", min_size=16, max_size=16).filter(lambda text: set(text) != {"0"})


@given(some.SCOPES, HEX, HEX, some.HEADER_VALUES, some.HEADER_VALUES)
def test_a_well_formed_traceparent_is_the_parent_whatever_is_beside_it(
    scope, trace, span, state, baggage
):
    others = [row for row in scope["headers"] if row[0] != b"traceparent"]
    parent = (b"traceparent", f"00-{trace}{trace}-{span}-01".encode())
    scope["headers"] = [*others, parent, (b"tracestate", state), (b"baggage", baggage)]
    _, spans, _ = watched_alike(FastAPI.__call__, scope, [{"type": "http.disconnect"}])
    if "excluded" not in scope["path"]:
        (found,) = spans
        assert found.context.trace_id == int(trace + trace, 16)
        assert found.parent.span_id == int(span, 16)


@given(some.SCOPES, some.HEADERS, st.none() | some.COOKIES, st.booleans())
@example(
    scope={"type": "http", "headers": [], "query_string": b""},
    response_headers=[],
    cookies=b'a={"b":1}; session=s',
    by_default=False,
)
def test_a_refusal_has_a_closed_reason_and_sees_what_the_application_sees(
    scope, response_headers, cookies, by_default
):
    scope.update(path="/items/1", root_path="", method="GET")
    if cookies is not None:
        scope["headers"].append((b"cookie", cookies))
    route = find_route(APPLICATION, scope)
    credentials = DEFAULT_CREDENTIAL_HEADERS if by_default else frozenset({"authorization"})
    reason = auth_failure_reason(scope, response_headers, credentials, route.dependant)
    codes = {"invalid_token", "insufficient_scope", "invalid_request"}
    assert reason in {*codes, "missing_credentials", "rejected"}
    names = {name.decode("latin-1") for name, _ in scope["headers"]}
    request = Request(scope)
    sent = names & {*credentials, "x-tenant"} or "key" in request.query_params
    if sent or "session" in request.cookies:
        assert reason != "missing_credentials"
    elif "cookie" not in names:
        assert reason != "rejected"


@given(
    st.sampled_from(["invalid_token", "insufficient_scope", "invalid_request"]),
    st.lists(st.tuples(some.WORDS, some.WORDS), max_size=3),
    st.sampled_from([str.lower, str.upper]),
)
def test_the_code_of_a_bearer_challenge_is_the_reason(code, others, spelt):
    told = ", ".join(f'{name}="{value}"' for name, value in [*others, ("error", spelt(code))])
    challenge = [(b"WWW-Authenticate", f"Bearer {told}".encode())]
    assert auth_failure_reason({"headers": []}, challenge, DEFAULT_CREDENTIAL_HEADERS, None) == code
