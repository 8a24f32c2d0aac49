"""What strangers may hand over: hypothesis' strategies."""

import copy
import enum
import json
import os
import re
from types import SimpleNamespace

from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from otel_coach.metrics.catalogue import RATE_LIMIT_HITS, TOOL_CALLS
from otel_coach.metrics.labels import DEFAULT_BUDGETS
from otel_coach.pricing.price_list import Usage

TEXT = st.text(st.characters(), max_size=40)  # lone surrogates, NUL and line ends among it
VISIBLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
COUNTS = st.integers(0, 1_000_000)
DEEP = st.integers(1, 50_000).map(lambda depth: b"[" * depth)  # a parser may run out of stack

_SHAPES = {
    "LangChain": "input_tokens=prompt output_tokens=completion"
    " input_token_details.audio=input_audio input_token_details.cache_read=cached"
    " input_token_details.ephemeral_5m_input_tokens=five"
    " input_token_details.ephemeral_1h_input_tokens=cache_write_1h"
    " output_token_details.reasoning=reasoning output_token_details.audio=output_audio",
    "OpenAI's chat": "prompt_tokens=prompt completion_tokens=completion"
    " prompt_tokens_details.cached_tokens=cached prompt_tokens_details.audio_tokens=input_audio"
    " completion_tokens_details.reasoning_tokens=reasoning"
    " completion_tokens_details.audio_tokens=output_audio",
    "OpenAI's responses": "input_tokens=prompt input_tokens_details.cached_tokens=cached"
    " output_tokens=completion output_tokens_details.reasoning_tokens=reasoning",
    "Anthropic": "input_tokens=fresh cache_read_input_tokens=cached output_tokens=completion"
    " cache_creation_input_tokens=cache_write cache_creation.ephemeral_5m_input_tokens=five"
    " cache_creation.ephemeral_1h_input_tokens=cache_write_1h",
    "Bedrock": "inputTokens=fresh outputTokens=completion cacheReadInputTokens=cached"
    " cacheWriteInputTokens=cache_write",
    "Gemini": "prompt_token_count=own tool_use_prompt_token_count=cache_write"
    " cached_content_token_count=cached candidates_token_count=said thoughts_token_count=reasoning",
    "Ollama": "prompt_eval_count=prompt eval_count=completion",
}
"""Of each provider: where its documentation has which figure."""

_PARTS = {
    "LangChain": "cached cache_write cache_write_1h reasoning input_audio output_audio",
    "OpenAI's chat": "cached reasoning input_audio output_audio",
    "OpenAI's responses": "cached reasoning",
    "Anthropic": "cached cache_write cache_write_1h",
    "Bedrock": "cached cache_write",
    "Gemini": "cached reasoning",
    "Ollama": "",
}

_KEYS = st.sampled_from(
    sorted({key for shape in _SHAPES.values() for key in re.findall(r"(\w+)[.=]", shape)})
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.integers(0, 10**15) | st.floats() | TEXT
JSON = st.recursive(
    _LEAVES | st.just(5000).map("9".__mul__),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | TEXT, inner, max_size=4),
    max_leaves=8,
)


def encoded(value):
    return json.dumps(value).encode()


@st.composite
def damaged(draw, value):
    """A copy of the JSON `value` in which one thing is gone or is something else."""
    inside = whole = copy.deepcopy(value)
    while isinstance(inside, dict | list) and inside:
        places = inside if isinstance(inside, dict) else range(len(inside))
        place = draw(st.sampled_from([*places]))
        if not isinstance(inside[place], dict | list) or draw(st.booleans()):
            if draw(st.booleans()):
                del inside[place]
            else:
                inside[place] = draw(JSON | st.integers(0, 10**13))
            break
        inside = inside[place]
    return whole


@st.composite
def damaged_bytes(draw, content):
    """`content` as a broken disk, a full one or another program may leave it."""
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    rest = content[draw(st.sampled_from([begin, end, len(content)])) :]
    return content[:begin] + draw(st.binary(max_size=8)) + rest


# Answers of models


@st.composite
def blocks(draw):
    """A provider's usage block, and what it says."""
    drawn = ("fresh", "cached", "five", "cache_write_1h", "said", "reasoning")
    figures = {name: draw(COUNTS) for name in drawn}
    figures["own"] = figures["fresh"] + figures["cached"]
    figures["cache_write"] = figures["five"] + figures["cache_write_1h"]
    figures["prompt"] = figures["own"] + figures["cache_write"]
    figures["completion"] = figures["said"] + figures["reasoning"]
    figures["input_audio"] = draw(st.integers(0, figures["prompt"]))
    figures["output_audio"] = draw(st.integers(0, figures["completion"]))
    shape = draw(st.sampled_from(sorted(_SHAPES)))
    block = {}
    for place in _SHAPES[shape].split():
        path, figure = place.split("=")
        *outer, last = path.split(".")
        inside = block.setdefault(*outer, {}) if outer else block
        inside[last] = figures[figure]
    told = ["prompt", "completion", *_PARTS[shape].split()]
    return block, Usage(**{name: figures[name] for name in told})


@st.composite
def answers(draw, block):
    """An answer of LangChain's, with `block` where one of its integrations leaves it."""
    message = AIMessage("hi")
    answer = LLMResult(generations=[[ChatGeneration(message=message)]])
    where = draw(st.sampled_from(["message", "token_usage", "usage", "usage_metadata", "itself"]))
    if where == "message":
        message.usage_metadata = block
    elif where == "token_usage":
        answer.llm_output = {where: block, "model_name": "m"}
    else:
        message.response_metadata = block if where == "itself" else {where: block, "id": "1"}
    return answer


@st.composite
def strange_answers(draw):
    """What has the attributes of an answer, and anything in them."""
    message = SimpleNamespace(usage_metadata=draw(JSON), response_metadata=draw(JSON))
    generations = draw(st.just([[SimpleNamespace(message=message)]]) | JSON)
    return SimpleNamespace(generations=generations, llm_output=draw(JSON))


# Requests

HEADER_VALUES = st.binary(max_size=30) | st.sampled_from(
    [
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-00000000000000000000000000000000-0000000000000000-ff",
        b"a=1,a=1,=,a=",
        b"key=%ff;%,k%3D=v",
        b'Bearer realm="x", error="invalid_token"',
    ]
)
COOKIES = st.lists(
    st.sampled_from([b"session=s", b'prefs={"a":1}', b"a b=c", b"x", b"$Path=/"])
    | st.binary(max_size=6)
).map(b"; ".join)
QUERIES = st.lists(
    st.sampled_from([b"key", b"key=", b"%6bey=1", b"a=b;key=1", b"=key"]) | st.binary(max_size=6)
).map(b"&".join)
_HEADER_NAMES = st.binary(max_size=8).map(bytes.lower) | st.sampled_from(
    b"authorization cookie x-api-key x-tenant host traceparent tracestate baggage content-length "
    b"content-type origin www-authenticate".split()
)
HEADERS = st.lists(st.tuples(_HEADER_NAMES, HEADER_VALUES), max_size=6)
_PLACES = ["/echo/", "/items/", "/pages/", "/stream", "/broken", "/limited", "/excluded", "/", ""]
_PATHS = st.builds(
    "{}{}".format,
    st.sampled_from(_PLACES),
    st.text(max_size=12) | st.sampled_from([1, 5000]).map("9".__mul__),
)
_SCOPES = st.fixed_dictionaries(
    {
        "type": st.just("http"),
        "asgi": st.just({"version": "3.0", "spec_version": "2.4"}),
        "http_version": st.sampled_from(["1.0", "1.1", "2"]),
        "method": st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "BREW"])
        | st.text(st.characters(codec="ascii"), max_size=12),
        "scheme": st.sampled_from(["http", "https"]) | st.text(max_size=4),
        "path": _PATHS,
        "root_path": st.sampled_from(["", "/behind", "/behind/a.b"]),
        "query_string": QUERIES,
        "headers": HEADERS,
    }
)
SCOPES = _SCOPES.filter(lambda scope: not scope["path"].endswith("/metrics"))


def _body(body=b"", more_body=False):  # noqa: FBT002 - ASGI's words
    return {"type": "http.request", "body": body, "more_body": more_body}


INCOMING = st.builds(
    lambda pieces, last: [*pieces, last],
    st.lists(st.binary(max_size=20).map(lambda piece: _body(piece, more_body=True)), max_size=2),
    st.sampled_from([_body(), _body(b"{}"), {"type": "http.disconnect"}]),
)
"""What a server tells of a request; the last is its end, or that the client has left."""

SENT = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("http.response.start"),
            "status": st.sampled_from([200, 204, 401, 403, 429, 500])
            | st.sampled_from([-1, 99, 100, 599, 600, 10**9]),
            "headers": HEADERS | HEADERS.map(tuple),
        }
    )
    | st.fixed_dictionaries(
        {"type": st.just("http.response.body")},
        optional={"body": st.binary(max_size=20), "more_body": st.booleans()},
    )
    | st.sampled_from([{"type": "http.response.trailers"}, {"type": "http.response.start"}, {}]),
    max_size=5,
)
"""What an application may send, also against ASGI."""


# Environments


def _as_bytes(text):
    return text.replace("\0", "").encode(errors="ignore")


_BYTES = st.lists(st.integers(1, 255), max_size=12).map(bytes)  # not always UTF-8
ENVIRONMENT_TEXT = (_BYTES | TEXT.map(_as_bytes)).map(os.fsdecode) | st.sampled_from(
    [
        *("nan", "inf", "-1", "1e999", "9" * 5000, "\u0663", "TRUE", "/\n", "none,,otlp", "env:X"),
        *("[", "(?P<a>x),(?P<a>y)"),
    ]
)

_SECONDS = (
    st.floats(0, 86_400, exclude_min=True),
    st.floats(max_value=0) | st.floats(min_value=86_401) | WORDS,
)
_BUDGET = (st.integers(1, 100_000), st.integers(max_value=0) | st.integers(100_001) | WORDS)
_PORT = (st.integers(0, 65_535), st.integers(65_536) | st.integers(max_value=-1) | WORDS)
_PAGES = WORDS.map("/{}".format)
VARIABLES = {
    "OTEL_COACH_DEPENDENCY_INTERVAL": ("dependency_interval", *_SECONDS),
    "OTEL_COACH_DEPENDENCY_TIMEOUT": ("dependency_timeout", *_SECONDS),
    "OTEL_EXPORTER_PROMETHEUS_PORT": ("metrics_port", *_PORT),
    "OTEL_COACH_METRICS_PATH": ("metrics_path", _PAGES, WORDS | _PAGES.map("{}?".format)),
    "OTEL_COACH_TARGET_INFO": ("target_info", st.booleans(), st.sampled_from(["perhaps", "2"])),
    "OTEL_COACH_SERVER_SPANS": ("server_spans", st.just("fastapi"), st.sampled_from(["a", "none"])),
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": (
        "excluded_urls",
        st.lists(WORDS, min_size=1).map(",".join),
        st.sampled_from(["(", "a,[", "*x", "a{99999999999999999999}"]),
    ),
    **{f"OTEL_COACH_BUDGET_{label.upper()}": (label, *_BUDGET) for label in DEFAULT_BUDGETS},
}
"""By variable: its setting, values that it may have, and values or texts that are none."""


@st.composite
def environments(draw):
    """Variables with their text, and the value that it means, None where it means nothing."""
    chosen = draw(st.lists(st.sampled_from(sorted(VARIABLES)), unique=True))
    values = {name: draw(st.none() | VARIABLES[name][1]) for name in chosen}
    return {
        name: (str(draw(VARIABLES[name][2]) if value is None else value), value)
        for name, value in values.items()
    }


_USERINFO = st.text("abcXYZ019-._~!$&'()*+,;=%", max_size=12)  # RFC 3986, section 3.2.1
ADDRESSES = st.builds(
    "{}://{}:{}@{}:1/db".format, st.sampled_from(["postgresql", "redis"]), WORDS, _USERINFO, WORDS
)

_PRICE = st.floats(0, 1e6) | COUNTS
PRICES = st.fixed_dictionaries(
    {"input_mtok": _PRICE, "output_mtok": _PRICE},
    optional=dict.fromkeys(["cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok"], _PRICE),
)


@st.composite
def price_files(draw):
    """A price file as people write it, perhaps, or anything else."""
    rows = draw(st.dictionaries(TEXT, PRICES | JSON, max_size=3))
    whole = encoded(draw(damaged(rows) | st.just(rows)))
    return draw(st.just(whole) | damaged_bytes(whole) | st.binary(max_size=40) | DEEP)


# Labels


class Unprintable:
    def __init__(self, raised):
        self._raised = raised

    def __str__(self):
        raise self._raised


class Mode(str, enum.Enum):  # noqa: UP042 - as applications write it
    PLAN = "plan"


STRANGE_VALUES = (
    JSON
    | st.binary(max_size=9)
    | st.sampled_from(["a\nb", 'q"\\', "\0", "\r", "\u2028", "\x7f\\s", "{", "#", " "])
    | st.sampled_from([200, 201, 1_000_000]).map("x".__mul__)
    | st.just(5000).map(lambda digits: 10**digits)
    | st.sampled_from([Mode.PLAN, object(), ..., Unprintable(ValueError())])
    | st.sampled_from([Unprintable(RuntimeError()), Unprintable(UnicodeError())])
)
RECORDED = st.tuples(st.just(RATE_LIMIT_HITS), st.tuples(STRANGE_VALUES)) | st.tuples(
    st.just(TOOL_CALLS), st.tuples(STRANGE_VALUES, st.sampled_from(["ok", "error"]), STRANGE_VALUES)
)


# What a scraper asks for

_FIELD_VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)


def _by_preference(things, parameters):
    one = st.builds("{}{}".format, things, st.just("") | parameters.map("; {}".format))
    return st.lists(one, max_size=3).map(", ".join) | _FIELD_VALUES


ACCEPT = _by_preference(
    st.sampled_from(["application/openmetrics-text", "text/plain", "*/*"]),
    st.sampled_from(["version=1.0.0", "version=0.0.4", "version=", "version=2.x", "q=0"])
    | st.builds("version=1.0.0; escaping={}".format, st.sampled_from(["values", "allow-utf-8"]))
    | st.builds("version={}".format, _FIELD_VALUES),
)
ACCEPT_ENCODING = _by_preference(
    st.sampled_from(["gzip", "GZip", "br", "*"]), st.sampled_from(["q=0", "q=1", "q=0.5"])
)
