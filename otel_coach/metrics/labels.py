"""The labels of the metrics, and the values that they may take.

Label keys and the values of closed sets are defined only here. A label of an OpenTelemetry
instrument that is not declared here never reaches Prometheus, unless an operator admits it to an
instrument of the application. Metrics of prometheus_client's registry keep their own labels.
"""

from __future__ import annotations

import json
import re
from typing import Final

from otel_coach.core.plain import plain

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
"""Limits besides the budgets of labels: on the combinations of label values of one instrument, on
the number of instruments that are not otel-coach's, and on the lines of the page that all those
instruments may take together."""
DEFAULT_SIZES: Final = DEFAULT_BUDGETS | LIMITS
"""All budgets and limits; an operator may set the size of each."""

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
EMBEDDING: Final = "embedding"

NO_USAGE: Final = "no_usage"
NO_PRICE: Final = "no_price"
EXTRA_FEE: Final = "extra_fee"
TOOL_ERROR: Final = "tool_error"
"""The error type of a tool that handled its error itself, so that its class is not known."""
UNMEASURED: Final = (NO_USAGE, NO_PRICE, EXTRA_FEE)
"""Why tokens or cost do not cover a call, or not all of it."""

SPANS_QUEUE_FULL: Final = "spans_queue_full"
SPANS_EXPORT: Final = "spans_export"
METRICS_EXPORT: Final = "metrics_export"
LOGS_EXPORT: Final = "logs_export"
LOSSES: Final = (SPANS_QUEUE_FULL, SPANS_EXPORT, METRICS_EXPORT, LOGS_EXPORT)
"""The places where telemetry can be lost."""

INVALID_TOKEN: Final = "invalid_token"  # noqa: S105 - an RFC 6750 error code, no secret
INSUFFICIENT_SCOPE: Final = "insufficient_scope"
INVALID_REQUEST: Final = "invalid_request"
MISSING_CREDENTIALS: Final = "missing_credentials"
REJECTED: Final = "rejected"
BEARER_ERRORS: Final = frozenset({INVALID_TOKEN, INSUFFICIENT_SCOPE, INVALID_REQUEST})
"""The error codes of RFC 6750, section 3.1."""
AUTH_FAILURE_REASONS: Final = (*sorted(BEARER_ERRORS), MISSING_CREDENTIALS, REJECTED)
"""The reasons for a response 401 or 403."""

OTHER_METHOD: Final = "_OTHER"
METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""The methods of RFC 9110, RFC 5789 and the QUERY draft, as HTTP semantic conventions list them."""

LABEL_SETS_PER_METHOD: Final = {"1": 1, "2": 3, "3": 2, "4": 10, "5": 3}
"""How many label combinations each method of a declared route has slots for, even if the budget of
combinations is full; by the first digit of the status."""
LABEL_SETS_PER_ENDPOINT: Final = 10
"""The total number of such slots is this number times the budget of endpoints."""

CLIENT_CLOSED_REQUEST: Final = 499
"""The status that nginx logs if the client left before the response; no RFC has a code for it."""

USUAL_STATUSES: Final = (
    *("200", "500", "404", "401", "422", "403", "400", "429", "503", "201", "204", "405", "499"),
    *("502", "504", "307", "302", "304", "202", "206", "301", "303", "308", "409", "410", "413"),
    *("415", "408", "412", "416", "431", "501"),
)
"""Statuses whose slots are reserved, because some applications let a client choose a status."""

FAULT_TYPES: Final = (
    "AttributeError",
    "ImportError",
    "LookupError",
    "OSError",
    "RuntimeError",
    "TypeError",
    "ValueError",
)
"""The exception classes under which otel-coach's own faults are counted; others are `OTHER`."""

OUR_OWN_VALUES: Final = {
    ENDPOINT: frozenset({UNMATCHED}),
    MODEL: frozenset({NO_MODEL}),
    MODE: frozenset({STREAM, INVOKE, PROMPT, COMPLETION, EMBEDDING}),
    STATUS: frozenset({OK, ERROR, ABORTED}),
    METHOD: METHODS | {OTHER_METHOD},
    ERROR_TYPE: frozenset(
        {
            NO_ERROR,
            TOOL_ERROR,
            *UNMEASURED,
            *AUTH_FAILURE_REASONS,
            *FAULT_TYPES,
            *DEFAULT_SIZES,
            *LOSSES,
        }
    ),
}
"""Label values that this module defines; they take no slot in a budget."""

MAX_LENGTH: Final = 200
"""The maximum number of characters in a label's value."""
_MAX_INTEGER: Final = 10**100
"""Integers of this size and more cannot be labels: Python refuses to write thousands of digits."""


def label_value(value: object) -> str | None:
    """Returns `value` as a label's text, or None if it cannot be a label.

    A label is a short name or a number. It has no line breaks, control characters or lone
    surrogates. Objects of other types are never labels, because their text may be anything.
    """
    if type(value) is not str:  # saves most values 0.11 µs
        value = plain(value)
    if isinstance(value, str):
        text = value
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) < _MAX_INTEGER):
        text = json.dumps(value)
    else:
        return None
    return text if len(text) <= MAX_LENGTH and text.isprintable() else None


def span_text(value: object) -> str:
    """Returns `value` as text for a span: what cannot be a label is `OTHER` there too."""
    return label_value(value) or OTHER


_ADDRESS: Final = re.compile(
    r"""
    [a-z][a-z0-9+.-]*://                                    # any URL
    | //\S                                                  # a URL without its scheme
    | \[[0-9a-f:.%]+\]                                      # IPv6 in brackets, as in URLs
    | (?=[0-9a-f:]*::|([0-9a-f]{1,4}:){7})[0-9a-f:]+(/|$)   # IPv6 without brackets
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
"""Matches the beginning of an address of a model. Names also have dots, slashes, colons and
versions: `us.anthropic.claude-3-5-sonnet-20241022-v2:0`, `hf.co/org/model:Q4`, `llama3.2:70b`."""


def is_model_address(model: str) -> bool:
    """Whether `model`, given as a model's name, is an address at which a model is served."""
    return _ADDRESS.match(model.lstrip()) is not None


def model_text(model: object) -> str:
    """Returns a model's name as text for a label or a span: an address is `OTHER`."""
    text = label_value(model)
    return OTHER if not text or is_model_address(text) else text


def spoken(model: str) -> str:
    """Returns how a sentence names the model with the label `model`."""
    return "a model without a name" if model == NO_MODEL else model


def fault_type(fault: BaseException) -> str:
    """Returns the label value under which `fault` is counted, out of a closed set."""
    names = {cls.__name__ for cls in type(fault).__mro__}
    return next((name for name in FAULT_TYPES if name in names), OTHER)
