"""Whatever strangers hand over: it breaks nothing, and what is well-formed is read exactly.

`HYPOTHESIS_PROFILE=fuzz` tries very many examples, others each time.
"""

import asyncio
import gzip
import json
import logging
import math
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import strategies as some
from fastapi import FastAPI, Security
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery
from hypothesis import assume, configuration, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util.http import parse_excluded_urls
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from starlette.requests import Request

from otel_coach.catalogue import LLM_REQUESTS, RATE_LIMIT_HITS, TOOL_CALLS
from otel_coach.exposition.answer import answer, is_allowed
from otel_coach.exposition.merging import Merged
from otel_coach.exposition.negotiation import accepts_gzip
from otel_coach.exposition.snapshot import Snapshot, from_bytes, sample_of, to_bytes
from otel_coach.installation import ASGI, Installation
from otel_coach.instrumentors.asgi.layer import Layer
from otel_coach.instrumentors.asgi.refusals import refusal_reason
from otel_coach.instrumentors.asgi.routes import find_route
from otel_coach.instrumentors.langchain.usage import billing_of, usage_of, usage_of_chunks
from otel_coach.pricing import PriceList, Usage
from otel_coach.request import labelled_mode, labels
from otel_coach.settings import DEFAULT_CREDENTIAL_HEADERS, Settings
from otel_coach.testing import Page
from otel_coach.vocabulary import DEFAULT_BUDGETS, stated_mode
from otel_coach.workers.figures import Figures

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.register_profile("default", derandomize=True, deadline=None, database=None)
settings.register_profile(
    "fuzz", max_examples=20_000, deadline=None, database=None, print_blob=True
)
settings.load_profile(PROFILE)
# Its caches shall not lie in the repository.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "otel-coach-hypothesis")

pytestmark = [pytest.mark.timeout(0)] if PROFILE == "fuzz" else []

SECRET = "s3cr3t"
OPENMETRICS = "application/openmetrics-text"


# Usage blocks


def assert_plausible(usage, blocks=1):
    counts = astuple(usage)
    assert all(type(count) is int and 0 <= count <= 3 * 10**12 * blocks for count in counts)
    assert usage.cached + usage.cache_write <= usage.prompt
    assert usage.cache_write_1h <= usage.cache_write
    assert usage.reasoning <= usage.completion


@given(st.data(), some.blocks())
def test_a_providers_block_is_read_exactly_wherever_it_lies(data, block):
    told, usage = block
    answer = data.draw(some.answers(told))
    assert usage_of(answer) == usage_of(billing_of(answer)) == usage


@given(st.lists(some.blocks(), min_size=1, max_size=4))
def test_the_blocks_of_chunks_add_up(blocks):
    usages = [astuple(usage) for _, usage in blocks]
    sums = Usage(*map(sum, zip(*usages, strict=True)))
    assert usage_of_chunks([told for told, _ in blocks]) == sums


@given(st.data(), some.blocks())
def test_a_damaged_block_is_no_usage_or_a_plausible_one(data, block):
    told = data.draw(some.damaged(block[0]))
    for usage in (usage_of(data.draw(some.answers(told))), usage_of_chunks([told])):
        if usage is not None:
            assert_plausible(usage)


@given(some.JSON | some.strange_answers(), st.lists(some.JSON, max_size=4))
def test_a_strange_answer_is_no_usage_or_a_plausible_one(response, chunks):
    for usage in (usage_of(response), usage_of_chunks(chunks)):
        if usage is not None:
            assert_plausible(usage, len(chunks) or 1)
    assert usage_of(billing_of(response)) == usage_of(response)


# Requests


async def echo(scope, receive, send):
    """Answers with all that it sees of the request."""
    seen = [scope["method"], scope["path"], scope["root_path"], repr(scope["query_string"])]
    seen.append(repr(scope["headers"]))
    more = True
    while more:
        message = await receive()
        seen.append(repr(message))
        more = message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-\xff", b"\x00")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


def application():
    app = FastAPI()
    app.mount("/echo", echo)

    @app.get("/items/{item}")
    def items(
        item: int,
        key=Security(APIKeyQuery(name="key")),
        tenant=Security(APIKeyHeader(name="X-Tenant")),
        session=Security(APIKeyCookie(name="session")),
    ):
        return item

    @app.get("/pages/{number:int}")
    def pages(number):
        return "a page"

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield "one"
            yield "two"

        return StreamingResponse(pieces())

    @app.api_route("/broken", methods=["GET", "POST"])
    async def broken():
        raise ZeroDivisionError

    @app.get("/limited")
    async def limited():
        return PlainTextResponse("slow down", 429)

    return app


APPLICATION = application()


@contextmanager
def watching():
    """A layer around the application, and what it leaves."""
    exporter = InMemorySpanExporter()
    alone = replace(Settings(), shares_figures=False, excluded_urls="excluded")
    installation = Installation(alone, span_processors=[SimpleSpanProcessor(exporter)])
    layer = Layer(**installation._arguments(ASGI))
    try:
        yield SimpleNamespace(layer=layer, page=installation.page, exporter=exporter)
    finally:
        installation.uninstrument()


def shown(page):
    """What both parsers read of the page."""
    list(strict(page.render(OPENMETRICS)[0].decode()))
    return Page(page.render("")[0].decode())


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
    reason = refusal_reason(scope, response_headers, credentials, route.dependant)
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
    assert refusal_reason({"headers": []}, challenge, DEFAULT_CREDENTIAL_HEADERS, None) == code


# The price file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("prices")


def written(folder, content, kind):
    path = folder / f"prices.{kind}"
    path.write_bytes(content)
    return str(path)


@contextmanager
def log_lines():
    """What otel-coach logs inside."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("otel_coach")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def in_toml(rows):
    tables = (
        (json.dumps(model, ensure_ascii=False), ", ".join(f"{key} = {row[key]}" for key in row))
        for model, row in rows.items()
    )
    return "\n".join(f"{model} = {{{row}}}" for model, row in tables)


@given(st.dictionaries(some.VISIBLE, some.PRICES, max_size=3), some.blocks())
def test_a_price_file_prices_as_a_hand_does(folder, rows, block):
    _, usage = block
    for kind, text in (("json", json.dumps(rows)), ("toml", in_toml(rows))):
        prices = PriceList.from_file(written(folder, text.encode(), kind))
        for model, row in rows.items():
            exact = {key: Fraction(value) for key, value in row.items()}
            write = exact.get("cache_write_mtok", exact["input_mtok"])
            dollars = (
                (usage.prompt - usage.cached - usage.cache_write) * exact["input_mtok"]
                + usage.cached * exact.get("cache_read_mtok", exact["input_mtok"])
                + (usage.cache_write - usage.cache_write_1h) * write
                + usage.cache_write_1h * exact.get("cache_write_1h_mtok", write)
                + usage.completion * exact["output_mtok"]
            ) / 1_000_000
            assert prices.cost(usage, (model,), None) == pytest.approx(float(dollars), rel=1e-9)


@given(some.price_files(), st.sampled_from(["json", "toml"]))
@example(b'{"m": {"input_mtok": 1%b, "output_mtok": 1}}' % (b"0" * 400), "json")
@example(b'{"two\\nlines": 3}', "json")
@example(b"[" * 50_000, "json")
def test_any_price_file_is_used_or_is_one_line(folder, content, kind):
    with log_lines() as lines:
        PriceList.from_file(written(folder, content, kind))
    assert len(lines) <= 1
    assert "\n" not in "".join(lines)


@given(some.TEXT)
def test_a_path_without_a_price_file_is_one_line(path):
    assume(not os.path.exists(path))  # noqa: PTH110 - for some texts a Path raises
    with log_lines() as lines:
        PriceList.from_file(path)
    assert len(lines) == 1


# Settings


class Noting(dict):
    """An environment that notes what it is asked for."""

    def get(self, name, default=None):
        self[name] = default
        return default


def variables():
    asked = Noting()
    Settings.from_env(asked)
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    return sorted({*asked, *re.findall(r"OTEL_[A-Z_]+[A-Z]", readme)})


@given(st.dictionaries(st.sampled_from(variables()), some.ENVIRONMENT_TEXT, max_size=8))
@example({"OTEL_PYTHON_EXCLUDED_URLS": "a{99999999999999999999}"})
@example({"OTEL_PYTHON_EXCLUDED_URLS": "a,(?i)b"})
@example({"OTEL_PYTHON_EXCLUDED_URLS": "(" * 3000 + ")" * 3000})
def test_any_environment_gives_settings_in_their_ranges_and_problems_by_name(environ):
    found = Settings.from_env(environ)
    assert 0 < found.dependency_interval <= 86_400
    assert 0 < found.dependency_timeout <= 86_400
    assert found.metrics_port is None or 0 <= found.metrics_port <= 65_535
    assert found.metrics_path.startswith("/")
    assert not set(found.metrics_path) & set("?# ")
    assert found.server_spans in {"otel_coach", "fastapi"}
    assert found.budgets.keys() >= DEFAULT_BUDGETS.keys()
    assert all(1 <= budget <= 100_000 for budget in found.budgets.values())
    assert "none" not in found.trace_exporters + found.metric_exporters
    assert all(name == name.lower() for name in found.credential_headers)
    parse_excluded_urls(found.excluded_urls).url_disabled("http://h/v1/chat")  # as the layer does
    about = [re.match(r"(\w+)(=?)", problem).groups() for problem in found.problems]
    assert {name for name, _ in about} <= environ.keys()
    whole = [name for name, mark in about if mark]  # others are about one entry of several
    assert len(whole) == len(set(whole))
    assert "\n" not in "".join(found.problems)


@given(some.environments())
def test_each_unusable_variable_is_one_line_and_each_other_one_counts(rows):
    found = Settings.from_env({name: text for name, (text, _) in rows.items()})
    for name, (_, value) in rows.items():
        lines = [line for line in found.problems if re.search(rf"\b{name}\b", line)]
        assert len(lines) == (value is None)
        field, *_ = some.VARIABLES[name]
        got, default = (
            one.budgets[field] if field in DEFAULT_BUDGETS else getattr(one, field)
            for one in (found, Settings())
        )
        assert got == (default if value is None else value)


@given(st.dictionaries(some.WORDS, some.ADDRESSES, max_size=3), st.sampled_from([",", " , "]))
def test_addresses_of_dependencies_are_read_as_they_are(addresses, comma):
    told = comma.join(f"{name}={address}" for name, address in addresses.items())
    found = Settings.from_env({"OTEL_COACH_DEPENDENCIES": told})
    assert found.dependencies == addresses
    assert found.problems == ()


PIECES = [
    *("db", "=", ",", "env:", " ", "://", "\n", "env:DB", f"u:{SECRET}@h"),
    *(f"postgresql://u:{SECRET}@h/db", f":{SECRET}@"),
]


@given(st.lists(st.sampled_from(PIECES) | some.TEXT, max_size=10).map("".join))
def test_no_problem_of_a_dependency_repeats_a_password(told):
    found = Settings.from_env({"OTEL_COACH_DEPENDENCIES": told, "DB": f"x {SECRET}"})
    assert SECRET not in "".join(found.problems)


# Snapshots of workers, and what they make together


def sent(snapshot):
    """As another worker reads it."""
    ((found,), _) = from_bytes(to_bytes(snapshot))
    return found


def taken_apart(snapshot):
    """Its samples and exemplars as texts: nothing is rounded, and NaN is itself."""
    samples = [
        (part.name, part.documentation, part.type, *sample_of(key), repr(value))
        for part in snapshot.parts
        for key, value in zip(part.keys, part.values, strict=True)
    ]
    return samples, [repr([*one]) for part in snapshot.parts for one in part.exemplars]


@given(some.families(), some.TIMES)
def test_a_snapshot_comes_back_as_it_was(families, times):
    before = Snapshot.of(families, times)
    again = sent(before)
    samples, exemplars = taken_apart(again)
    assert samples == [
        (family.name, family.documentation, family.type, name, labels, repr(value))
        for family in families
        for name, labels, value, *_ in family.samples
    ]
    assert exemplars == taken_apart(before)[1]
    assert [part.times for part in again.parts] == [part.times for part in before.parts]


@given(some.broken_snapshots())
def test_a_broken_snapshot_is_refused_or_can_be_added_up(content):
    try:
        snapshots, _ = from_bytes(content)
    except ValueError:
        return
    merged = Merged()
    for snapshot in snapshots:
        merged.add(snapshot, "1-a")
    list(merged.tables({"1-a"}))
    from_bytes(to_bytes(merged.retired()))


@given(some.broken_snapshots(), st.booleans())
def test_a_page_with_a_broken_snapshot_is_none_or_valid_and_shows_the_others(content, lives):
    with watching() as watched:
        mine = Figures("1-a", watched.page.measure(whole=True), lives=True, stale=False)
        broken = Figures("2-b", content, lives=lives, stale=not lives)
        watched.page.show_all(lambda _: [mine, broken])
        if not is_snapshot(content):
            for made in (
                lambda: shown(watched.page),
                lambda: watched.page.retire([mine.content, content]),
            ):
                with pytest.raises(OSError, match="cannot be read"):
                    made()
            return
        page = shown(watched.page)
        ((retired,), _) = from_bytes(watched.page.retire([mine.content, content]))
    assert page.samples("agent_llm_unmeasured_total", error_type="no_usage")
    assert "agent_llm_unmeasured" in {part.name for part in retired.parts}


def is_snapshot(content):
    try:
        from_bytes(content)
    except ValueError:
        return False
    return True


def rounded_once(numbers):
    """The exact sum as the nearest float, by IEEE 754."""
    if not all(map(math.isfinite, numbers)):
        return sum(numbers)
    exact = sum(map(Fraction, numbers))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(st.lists(st.tuples(some.families(label_values=st.just("a")), st.booleans()), max_size=9))
def test_counts_of_all_workers_add_up_exactly_also_when_some_are_retired(workers):
    merged, dead, numbers = Merged(), Merged(), {}
    for number, (families, lives) in enumerate(workers):
        snapshot = sent(Snapshot.of(families, {}))
        if lives:
            merged.add(snapshot, f"{number}-x")
        else:
            dead.add(snapshot, "dead")
            buried = sent(dead.retired())  # one funeral after another
            dead = Merged()
            dead.add(buried, "retired")
        for name, labels_, value, *_ in (one for family in families for one in family.samples):
            numbers.setdefault((name, labels_["who"]), []).append(value)
    merged.add(sent(dead.retired()), "retired")
    found = {}
    for table in merged.tables(set()):
        for key, value in zip(table.keys, table.values, strict=True):
            name, labels_ = sample_of(key)
            found[name, labels_["who"]] = value
    truth = {key: rounded_once(values) for key, values in numbers.items() if key[0] != "g"}
    assert {key: repr(value + 0) for key, value in found.items()} == {
        key: repr(float(value) + 0) for key, value in truth.items()
    }


# Labels


def texts(value):
    """As what a value may be shown."""
    allowed = {"other"}
    for text in (str.__str__,) if isinstance(value, str) else (str, json.dumps):
        with suppress(Exception):
            allowed.add(text(value))
    return allowed


@given(st.lists(some.RECORDED, max_size=8), st.lists(some.WORDS, unique=True, max_size=5))
def test_any_label_is_itself_or_other_and_nothing_is_lost(recorded, words):
    installation = Installation(replace(Settings(), shares_figures=False))
    recorder = installation.providers.recorder
    try:
        for metric, values in recorded:
            recorder.record(metric, 1, values)
        for word in words:
            recorder.record(LLM_REQUESTS, 1, (word, "invoke", "ok", ""))
        page = shown(installation.page)
    finally:
        installation.uninstrument()
    for metric in (RATE_LIMIT_HITS, TOOL_CALLS):
        rows = [[*map(texts, row)] for about, row in recorded if about is metric]
        samples = page.samples(metric.prometheus_name)
        assert sum(value for _, value in samples) == len(rows)
        for told, _ in samples:
            values = [told[label] for label in metric.labels]
            assert any(all(map(set.__contains__, row, values)) for row in rows)
    told = {told["model"]: value for told, value in page.samples("agent_llm_requests_total")}
    assert told == dict.fromkeys(words, 1)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"


@given(some.STRANGE_VALUES | st.text(ALPHABET) | st.text(ALPHABET, min_size=40, max_size=41))
def test_a_stated_mode_is_a_short_identifier_or_an_error(mode):
    if isinstance(mode, str) and 1 <= len(mode) <= 40 and set(mode) <= set(ALPHABET):
        assert stated_mode(mode) == mode
        with labels(mode="outer"):
            with labels(mode=mode):
                assert labelled_mode() == mode
            assert labelled_mode() == "outer"
    else:
        assert stated_mode(mode) is None
        with pytest.raises(ValueError), labels(mode=mode):  # noqa: PT011 - any, but no other
            pass
    assert labelled_mode() is None


# The page over HTTP


@given(some.ACCEPT, some.ACCEPT_ENCODING)
def test_any_scraper_gets_a_page_that_it_can_read(accept, encoding):
    with watching() as watched:
        found = answer(watched.page, accept, gzip=accepts_gzip(encoding))
    headers, body = dict(found.headers), found.body
    codings = (one.partition(";") for one in encoding.lower().split(","))
    wants_gzip = any(
        coding.strip() == "gzip" and not re.fullmatch(r"\s*q=0(\.0*)?\s*", quality)
        for coding, _, quality in codings
    )
    assert headers.get("content-encoding") == ("gzip" if wants_gzip else None)
    text = (gzip.decompress(body) if wants_gzip else body).decode()
    assert "\nagent_llm_unmeasured_total{" in text
    if headers["content-type"].startswith(f"{OPENMETRICS}; version=1.0.0;"):
        list(strict(text))
    else:
        assert re.match(r"text/plain; version=(0\.0\.4|1\.0\.0);", headers["content-type"])
        Page(text)


@given(some.VISIBLE, st.binary(max_size=12), st.sampled_from(["Bearer", "bearer"]))
def test_who_bears_the_token_and_nobody_else_is_let_in(token, other, scheme):
    told = Settings.from_env({"OTEL_COACH_METRICS_TOKEN": token}).metrics_token
    bearing = f"{scheme} {token}".encode().decode("latin-1")  # as curl sends and servers read it
    assume(other.decode("latin-1") not in bearing)
    assert not is_allowed(told, f"{scheme} {other.decode('latin-1')}")
    assert not is_allowed(told, bearing.replace(scheme, "Basic"))
    assert is_allowed(told, bearing)


@given(some.ENVIRONMENT_TEXT, st.binary(max_size=12))
def test_no_token_and_no_authorization_raises(token, authorization):
    told = Settings.from_env({"OTEL_COACH_METRICS_TOKEN": token}).metrics_token
    assert is_allowed(told, authorization.decode("latin-1")) == (told is None)
