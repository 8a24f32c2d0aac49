"""The words of the metrics: which labels exist, and which values they may take.

Nothing else in the package spells a label key or a closed value. A label that is not here
never reaches Prometheus.
"""

from __future__ import annotations

import json
import re
from typing import Final

ENDPOINT: Final = "endpoint"
MODEL: Final = "model"
MODE: Final = "mode"
STATUS: Final = "status"
METHOD: Final = "method"
TOOL_NAME: Final = "tool_name"
ERROR_TYPE: Final = "error_type"
DEPENDENCY_NAME: Final = "dependency_name"

ALLOWED_LABELS: Final = frozenset(
    {ENDPOINT, MODEL, MODE, STATUS, METHOD, TOOL_NAME, ERROR_TYPE, DEPENDENCY_NAME}
)

DEFAULT_BUDGETS: Final = {
    ENDPOINT: 100,
    MODEL: 20,
    MODE: 10,
    STATUS: 40,
    METHOD: 20,
    TOOL_NAME: 50,
    ERROR_TYPE: 30,
    DEPENDENCY_NAME: 20,
}
"""How many different values each label may take before further ones become `OTHER`."""

LABEL_SET: Final = "label_set"
INSTRUMENT: Final = "instrument"
INSTRUMENT_LINES: Final = "instrument_lines"
LIMITS: Final = {LABEL_SET: 1000, INSTRUMENT: 500, INSTRUMENT_LINES: 10_000}
"""What is bounded beside the values of labels: how many combinations of them one instrument may
have, how many instruments that are not ours there may be, and how many lines of the page all of
them together may take."""
DEFAULT_SIZES: Final = DEFAULT_BUDGETS | LIMITS
"""All that has a size which an operator may set."""

OTHER: Final = "other"
UNMATCHED: Final = "unmatched"
NO_MODEL: Final = "none"
NO_ERROR: Final = ""

OK: Final = "ok"
ERROR: Final = "error"
ABORTED: Final = "aborted"

STREAM: Final = "stream"
INVOKE: Final = "invoke"

PROMPT: Final = "prompt"
COMPLETION: Final = "completion"

NO_USAGE: Final = "no_usage"
NO_PRICE: Final = "no_price"

SPANS_QUEUE_FULL: Final = "spans_queue_full"
SPANS_EXPORT: Final = "spans_export"
METRICS_EXPORT: Final = "metrics_export"
LOGS_EXPORT: Final = "logs_export"
LOSSES: Final = (SPANS_QUEUE_FULL, SPANS_EXPORT, METRICS_EXPORT, LOGS_EXPORT)
"""Where telemetry was lost."""

INVALID_TOKEN: Final = "invalid_token"  # noqa: S105 - an RFC 6750 error code, no secret
INSUFFICIENT_SCOPE: Final = "insufficient_scope"
INVALID_REQUEST: Final = "invalid_request"
MISSING_CREDENTIALS: Final = "missing_credentials"
REJECTED: Final = "rejected"
BEARER_ERRORS: Final = frozenset({INVALID_TOKEN, INSUFFICIENT_SCOPE, INVALID_REQUEST})
"""The error codes of RFC 6750, section 3.1."""
REFUSALS: Final = (*sorted(BEARER_ERRORS), MISSING_CREDENTIALS, REJECTED)
"""Why a request was answered 401 or 403."""

OTHER_METHOD: Final = "_OTHER"
METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""The methods of RFC 9110, RFC 5789 and the QUERY draft, as HTTP semantic conventions list them."""

SETS_OF_A_METHOD: Final = {"1": 1, "2": 3, "3": 2, "4": 10, "5": 3}
"""By the first digit of the status: how many combinations a method that a declared route answers
has a place for, whatever has filled the budget of combinations."""
SETS_OF_AN_ENDPOINT: Final = 10
"""How many of those there are in all, for each value in the budget of endpoints."""

CLIENT_CLOSED_REQUEST: Final = 499
"""What nginx writes when the client left before there was a response; no RFC has a code for it."""

USUAL_STATUSES: Final = (
    *("200", "500", "404", "401", "422", "403", "400", "429", "503", "201", "204", "405", "499"),
    *("502", "504", "307", "302", "304", "202", "206", "301", "303", "308", "409", "410", "413"),
    *("415", "408", "412", "416", "431", "501"),
)
"""They have places before any others come: an answer may repeat whatever code a stranger wants."""

FAULT_TYPES: Final = (
    "AttributeError",
    "ImportError",
    "LookupError",
    "OSError",
    "RuntimeError",
    "TypeError",
    "ValueError",
)
"""The classes under which our own faults are counted; all others are `OTHER`."""

OUR_OWN_VALUES: Final = {
    ENDPOINT: frozenset({UNMATCHED}),
    MODEL: frozenset({NO_MODEL}),
    MODE: frozenset({STREAM, INVOKE, PROMPT, COMPLETION}),
    STATUS: frozenset({OK, ERROR, ABORTED}),
    METHOD: METHODS | {OTHER_METHOD},
    ERROR_TYPE: frozenset(
        {NO_ERROR, NO_USAGE, NO_PRICE, *REFUSALS, *FAULT_TYPES, *DEFAULT_SIZES, *LOSSES}
    ),
}
"""Values that this page gives to labels; they take nobody's place in a budget."""

_LONGEST_VALUE: Final = 200
_LARGEST: Final = 10**100
"""Python refuses to write integers of thousands of digits."""

_MODE = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def stated_mode(value: object) -> str | None:
    """The application's mode if `value` is a short identifier, else None."""
    match = _MODE.fullmatch(value) if isinstance(value, str) else None
    return match.group() if match else None  # the text, also of a str that is an Enum's member


def label_value(value: object) -> str | None:
    """`value` as a label's text; None if it cannot be one.

    A label is a name or a number: neither long, nor with line ends, control characters or lone
    surrogates, nor an object whose text may be anything.
    """
    if isinstance(value, str):
        text = str.__str__(value)  # also of a member of an Enum
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST):
        text = json.dumps(value)
    else:
        return None
    return text if len(text) <= _LONGEST_VALUE and text.isprintable() else None


def span_text(value: object) -> str:
    """`value` as a span may carry it: what cannot be a label is `OTHER` there too."""
    return label_value(value) or OTHER


_ADDRESS: Final = re.compile(
    r"""
    [a-z][a-z0-9+.-]*://                                    # any URL
    | //\S                                                  # one without its scheme
    | \[[0-9a-f:.%]+\]                                      # IPv6, as URLs have it
    | (?=[0-9a-f:]*::|([0-9a-f]{1,4}:){7})[0-9a-f:]+(/|$)   # and as it is alone
    | \d{1,3}(\.\d{1,3}){3}(:\d+)?(/|$)                     # IPv4
    | localhost(:\d+)?(/|$)
    | [\w-]+(\.[\w-]+)*\.[a-z][a-z-]*[a-z]:\d{2,5}(/|\?|$)  # host.tld:port
    | [\w.-]+:\d{2,5}/                                      # host:port/path
    | ([\w-]+\.){2,}                                       # host.of.a.service, with a path or not
      (com|net|org|io|ai|dev|app|cloud|local|internal|intranet|corp|lan|svc|test|example|[a-z]{2})
      \.?(/|\?|$)
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
"""What begins so is where a model is served, not its name. Names have dots, slashes, colons and
versions too: `us.anthropic.claude-3-5-sonnet-20241022-v2:0`, `hf.co/org/model:Q4`, `llama3.2:70b`.
"""


def is_address(model: str) -> bool:
    """Whether what is said to be a model's name is the address at which one is served."""
    return _ADDRESS.match(model.lstrip()) is not None


def model_text(model: object) -> str:
    """The name of a model as a label or a span may carry it: an address is `OTHER`."""
    text = label_value(model)
    return OTHER if not text or is_address(text) else text


def fault_type(fault: BaseException) -> str:
    """The closed value under which a fault of ours is counted."""
    names = {cls.__name__ for cls in type(fault).__mro__}
    return next((name for name in FAULT_TYPES if name in names), OTHER)
