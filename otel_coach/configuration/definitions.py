"""The settings: for each, its variables, kind, default and meaning.

`otel_coach.settings.Settings` has them as fields.
"""

from __future__ import annotations

from typing import Final

from otel_coach.configuration import environment_variables as variables
from otel_coach.configuration import exporters, readers
from otel_coach.configuration.admitted_labels import admitted_labels
from otel_coach.configuration.dependencies import dependencies
from otel_coach.configuration.header_names import HeaderNames
from otel_coach.configuration.kinds import (
    ADDRESS,
    CHARACTERS,
    COUNT,
    FILE,
    FOLDER,
    FUNCTION,
    HOST,
    PATH,
    PLACES,
    PORT,
    ByName,
    Choice,
    Flag,
    FlagOrNames,
    Names,
    Optional,
    Patterns,
    Seconds,
    Text,
)
from otel_coach.configuration.readers import CAPTURE
from otel_coach.configuration.setting import setting
from otel_coach.configuration.trust import Trust, TrustKind, trust_incoming
from otel_coach.core.stop_rule import DEFAULT_AFTER
from otel_coach.metrics.labels import DEFAULT_BUDGETS, DEFAULT_SIZES

DEFAULT_CREDENTIAL_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"}
)
_PROTOCOL: Final = Choice(("http/protobuf", "grpc"))

ENABLED: Final = setting(
    variables.SWITCHES,
    Flag(),
    "Whether otel-coach does anything. If disabled, only its small entry points are imported, and "
    "nothing of it is on the application's request path. The variables have the opposite sense: "
    "`true` disables it.",
    default=True,
    default_text="`false`",
    read=readers.enabled,
)

TRACE_EXPORTERS: Final = setting(
    "OTEL_TRACES_EXPORTER",
    exporters.TRACES,
    "Where spans are exported to: `otlp`, `console`, `none`; several separated by commas.",
    default=(),
    default_text="`otlp` with an endpoint, else `none`",
    read=exporters.trace_exporters,
)

METRIC_EXPORTERS: Final = setting(
    "OTEL_METRICS_EXPORTER",
    exporters.METRICS,
    "Where metrics go: `prometheus` (the page), `otlp`, `none`; several separated by commas.",
    default=("prometheus",),
    read=exporters.metric_exporters,
)

LOG_EXPORTERS: Final = setting(
    "OTEL_LOGS_EXPORTER",
    exporters.LOGS,
    "Where log records and events of captured content are exported to. The application's own "
    "records are exported if a logging handler collects them: "
    "`OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED=true`, or "
    "opentelemetry-instrumentation-logging with its `OTEL_PYTHON_LOG_*`.",
    default=(),
    default_text="`otlp` with an endpoint, if there are log records or events to export; "
    "else `none`",
    read=exporters.log_exporters,
)

OTLP_TRACES_PROTOCOL: Final = setting(
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    _PROTOCOL,
    "How spans are sent: `http/protobuf` or `grpc`.",
    default="http/protobuf",
)

OTLP_METRICS_PROTOCOL: Final = setting(
    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    _PROTOCOL,
    "How metrics are sent.",
    default="http/protobuf",
)

OTLP_LOGS_PROTOCOL: Final = setting(
    ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    _PROTOCOL,
    "How log records are sent.",
    default="http/protobuf",
)

METRICS_PATH: Final = setting(
    variables.OTEL_COACH_METRICS_PATH,
    PATH,
    "The path of the metrics page in the application. With a port of its own, the page is at "
    "this path as well as at `/metrics`.",
    default="/metrics",
)

METRICS_HOST: Final = setting(
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    HOST,
    "The address of the page's own port, if it has one; if this is set and the port is not, that "
    "is 9464. `localhost` can be reached from this machine only.",
    default="localhost",
)

METRICS_PORT: Final = setting(
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    Optional(PORT),
    "Serves the page on this port instead of in the application.",
    default=None,
    default_text="`9464` if the host is set, else none",
    read=readers.metrics_port,
)

METRICS_TOKEN: Final = setting(
    variables.OTEL_COACH_METRICS_TOKEN,
    Optional(Text("a token", ".*")),
    "Only requests with `Authorization: Bearer TOKEN` get the page (RFC 6750). If it is set "
    "but empty, no request does.",
    default=None,
    is_secret=True,
    read=readers.metrics_token,
)

SHARED_FOLDER: Final = setting(
    variables.OTEL_COACH_SHARED_DIR,
    Optional(FOLDER),
    "The folder in which workers share their metrics. It must be private to the user, and no "
    "other user may be able to write to its parent folders, unless they are sticky, as `/tmp` is.",
    default=None,
    default_text="`$XDG_RUNTIME_DIR/otel-coach`, or in the first temporary folder with space",
)

TARGET_INFO: Final = setting(
    variables.OTEL_COACH_TARGET_INFO, Flag(), "Shows `target_info` on the page.", default=False
)

SERVER_SPANS: Final = setting(
    variables.OTEL_COACH_SERVER_SPANS,
    Choice(("otel_coach", "fastapi")),
    "What creates the server spans: otel-coach, or opentelemetry-instrumentation-fastapi "
    "(`fastapi`).",
    default="otel_coach",
)

EXCLUDED_URLS: Final = setting(
    ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"),
    Patterns(),
    "Regular expressions separated by commas; requests for matching URLs are not traced.",
    default="",
)

SPAN_ATTRIBUTES: Final = setting(
    variables.OTEL_COACH_SPAN_ATTRIBUTES,
    Names("an attribute's name", frozenset, r"[\w./-]+"),
    "Further attributes that are kept on the spans of other instrumentations.",
    default=frozenset(),
)

PROPAGATES_TO_PROVIDERS: Final = setting(
    variables.OTEL_COACH_PROPAGATE_TO_PROVIDERS,
    Flag(),
    "Sends `traceparent` and `baggage` to model providers too, for example to your own gateway "
    "if it is traced.",
    default=False,
)

TRUST_INCOMING: Final = setting(
    variables.OTEL_COACH_TRUST_INCOMING,
    TrustKind(),
    "The callers from which trace context and baggage are accepted: `true` (all), `false` "
    "(none), or a list of addresses and networks of the connection's peer, which may end with "
    "a header and the secret that a gateway sends in it: "
    "`10.0.0.0/8,header:X-Gateway-Secret=...`. With an invalid value no caller is trusted.",
    factory=Trust,
    default_text="`true`",
    is_secret=True,
    read=trust_incoming,
)

DISABLED_INSTRUMENTATIONS: Final = setting(
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
    Names("an entry point's name", frozenset, r"[\w.*-]+"),
    "Entry points of the instrumentations that are not loaded; `*` for all.",
    default=frozenset(),
)

CREDENTIAL_HEADERS: Final = setting(
    variables.OTEL_COACH_CREDENTIAL_HEADERS,
    HeaderNames(),
    "Request headers that count as credentials, in addition to those of the route's own "
    "security schemes.",
    default=DEFAULT_CREDENTIAL_HEADERS,
)

BUDGETS: Final = setting(
    "OTEL_COACH_BUDGET_*",
    ByName("a label or limit", COUNT, DEFAULT_SIZES, DEFAULT_SIZES),
    "How many values a label may take (`OTEL_COACH_BUDGET_MODEL`, `_ENDPOINT` ...), how many "
    "combinations a metric may have (`_LABEL_SET`), and how many instruments and lines of the "
    "page the application's own meters get (`_INSTRUMENT`, `_INSTRUMENT_LINES`).",
    factory=lambda: dict(DEFAULT_SIZES),
    default_text="see docs/metrics.md",
    read=readers.budgets,
)

PINNED: Final = setting(
    "OTEL_COACH_ALLOWED_*",
    ByName("a label", Names("a value", tuple, r"(?s).+"), DEFAULT_BUDGETS),
    "Values that always keep their own name; they take slots of the label's budget "
    "(`OTEL_COACH_ALLOWED_MODELS`, `_ENDPOINTS` ...). Separated by commas.",
    factory=dict,
    read=readers.pinned,
)

ADMITTED: Final = setting(
    variables.OTEL_COACH_ADMIT_LABELS,
    ByName("an instrument's name", ByName("a label", COUNT)),
    "Labels to keep on the application's own instruments: "
    "`jobs.done:queue,jobs.done:region:100`. The number is the label's budget.",
    factory=dict,
    read=admitted_labels,
)

CAPTURES_ON_SPANS: Final = setting(
    CAPTURE,
    Flag(),
    "`SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT` captures prompts and answers on spans, as "
    "events (`OTEL_LOGS_EXPORTER`), or both.",
    default=False,
    default_text="`NO_CONTENT`",
    read=readers.captures_on_spans,
)

CAPTURES_ON_EVENTS: Final = setting(
    CAPTURE,
    Flag(),
    "As above, for events.",
    default=False,
    default_text="`NO_CONTENT`",
    read=readers.captures_on_events,
)

CONTENT_LIMIT: Final = setting(
    variables.OTEL_COACH_CONTENT_LIMIT,
    CHARACTERS,
    "The maximum length of captured content in one attribute, in characters.",
    default=10_000,
)

CONTENT_REDACTOR: Final = setting(
    variables.OTEL_COACH_CONTENT_REDACTOR,
    Optional(FUNCTION),
    "A function, as `module:function`, that is called with each captured text and returns the "
    "text to export. If it is invalid, no content is captured.",
    default=None,
    read=readers.content_redactor,
)

SPAN_QUEUE: Final = setting(
    "OTEL_BSP_MAX_QUEUE_SIZE",
    PLACES,
    "How many spans may wait for each exporter; further ones are dropped.",
    default=2048,
)

LOG_QUEUE: Final = setting(
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    PLACES,
    "How many log records may wait for each exporter; further ones are dropped.",
    default=2048,
)

PRICES_FILE: Final = setting(
    variables.OTEL_COACH_PRICES,
    Optional(FILE),
    'A JSON or TOML file: `{"my-model": {"input_mtok": 1.0, "output_mtok": 2.0}}`, in US '
    "dollars per million tokens; optionally `cache_read_mtok`, `cache_write_mtok`, "
    "`cache_write_1h_mtok`. Its prices are used before those of the built-in list. To replace the "
    "built-in list, give the file that `otel-coach prices --update FILE` has written, or put that "
    "file's path under the key `list`.",
    default=None,
)

GATEWAYS: Final = setting(
    variables.OTEL_COACH_GATEWAYS,
    ByName("an address", Text("a provider of the price list", r"[\w.-]+")),
    "Gateways of your own, with the provider that answers behind each: "
    "`llm.example.com=openai,10.0.0.7:4000=litellm`. Calls to any other address that is not a "
    "provider's own have no price.",
    factory=dict,
    default_text="none",
)

DEPENDENCIES: Final = setting(
    variables.OTEL_COACH_DEPENDENCIES,
    ByName("a name", ADDRESS, hides_values=True),
    "The dependencies to probe: `postgres_django=env:DATABASE_URL,cache=redis://h:6379`; `env:` "
    "takes the address from another variable (not in code). Also `rediss://`, `http(s)://` and "
    "`tcp://host:port`.",
    factory=dict,
    is_secret=True,
    read=dependencies,
)

DEPENDENCY_INTERVAL: Final = setting(
    variables.OTEL_COACH_DEPENDENCY_INTERVAL,
    Seconds(),
    "Seconds between two probes of a dependency.",
    default=15.0,
)

DEPENDENCY_TIMEOUT: Final = setting(
    variables.OTEL_COACH_DEPENDENCY_TIMEOUT,
    Seconds(),
    "Seconds that one probe may take.",
    default=5.0,
)

STOP_ABANDONED: Final = setting(
    variables.OTEL_COACH_STOP_ABANDONED,
    FlagOrNames("an endpoint", r"/\S*"),
    "Stops the AI work of a request whose client has left: of all endpoints (`true`), or of those "
    "listed by their templates (`/v1/chat,/v1/plans/{id}`). docs/abandoned.md says what it does.",
    default=False,
)

STOP_AFTER: Final = setting(
    variables.OTEL_COACH_STOP_AFTER,
    Seconds(may_be_zero=True),
    "Seconds that a client must have been gone before its work is stopped: some only reconnect.",
    default=DEFAULT_AFTER,
)

STOP_TOOLS: Final = setting(
    variables.OTEL_COACH_STOP_TOOLS,
    Flag(),
    "Whether tools that have begun are stopped, too. A tool may write.",
    default=False,
)

QUIET: Final = setting(
    variables.OTEL_COACH_QUIET,
    Flag(),
    "Hides otel-coach's lines at level INFO: the one at the start that says what is measured, and "
    "those that say that the application or another instrumentation changes this.",
    default=False,
)

CONFIG_FILE: Final = setting(
    ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"),
    Optional(Text("a path")),
    "OpenTelemetry's declarative configuration "
    "(`pip install 'opentelemetry-sdk[file-configuration]'`): its providers become the global "
    "ones, its processors export otel-coach's spans, otel-coach's metrics are on the page "
    "only, and the variables that choose exporters are not read, except that "
    "OTEL_METRICS_EXPORTER=none removes the page.",
    default=None,
)
