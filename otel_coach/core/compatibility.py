"""The table of all private parts of other libraries that otel-coach relies on.

A new version of a library may change a private part without notice. So each part is tried before
otel-coach uses it for the first time. If it has changed, only what needs it is left out, and one
log line says what is lost. `otel-coach doctor` tries all parts and shows the table. Some parts are
tried by the doctor only: CACHED, THREADED_MODELS, STEPS, QUEUES and OTLP, because their trials call
a model, run an event loop, run a graph, start a thread and import protobuf, which takes 2 MB;
CONFIGURATORS, because a tracer without `_is_enabled` counts as enabled; and ENTRY_POINTS,
OPENAI_STREAMS, ANTHROPIC_STREAMS and AWAITED, because little is lost without them.

`tests/unit/core/test_compatibility.py` finds the private names in the code and fails if one has no
row.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Final

from otel_coach.core.guard import belongs_to_host
from otel_coach.core.installed import is_installed
from otel_coach.core.record import record

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("otel_coach")


@record
class PrivatePart:
    """One row of the table."""

    module: str
    """A module of the library; if the library is not installed, the row does not apply."""
    name: str
    """What otel-coach relies on, in terms that can be searched for in the library's bug tracker."""
    trial: str
    """`module:function` that returns whether the part is unchanged; if it raises, it is not."""
    lost: str
    """What is lost if the part has changed."""
    private: tuple[str, ...] = ()
    """The private names, as the code spells them."""

    @property
    def is_there(self) -> bool:
        """Whether the library is installed."""
        return is_installed(self.module)

    def holds(self) -> bool:
        """Runs the trial and returns whether the part is as otel-coach expects."""
        module, _, function = self.trial.partition(":")
        try:
            return bool(_function(module, function)())
        except Exception as raised:  # a changed library may raise anything
            if belongs_to_host(raised):
                raise
            return False


def _function(module: str, name: str) -> Callable[[], object]:
    return getattr(import_module(module), name)


_LANGCHAIN: Final = "otel_coach.instrumentors.langchain.trials"
_ASGI: Final = "otel_coach.instrumentors.asgi.trials"

CHAINS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_chain_start, _end and _error of its callback managers",
    f"{_LANGCHAIN}:tells_of_chains",
    "agents have no spans, and modes that they set are not seen",
)
MODELS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_chat_model_start, on_llm_start, _end and _error of its managers",
    f"{_LANGCHAIN}:tells_of_models",
    "LLM calls, their tokens and their cost are not measured",
)
THREADED_MODELS: Final = PrivatePart(
    "langchain_core",
    "langchain-core runs _generate and _stream in a thread for a model without asynchronous ones",
    f"{_LANGCHAIN}:sees_threaded_models",
    "if such a model asks another one, and is called asynchronously, it counts as a call, too",
    private=("_generate", "_stream"),
)
RETRIEVERS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_retriever_start, _end and _error of its callback managers",
    f"{_LANGCHAIN}:tells_of_retrievers",
    "retrievers are not measured",
)
TOOLS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_tool_start, _end and _error of its callback managers",
    f"{_LANGCHAIN}:tells_of_tools",
    "tool calls are not measured",
)
EMBEDDINGS: Final = PrivatePart(
    "langchain_core",
    "langchain-core's Embeddings has embed_documents, embed_query, and both asynchronous",
    f"{_LANGCHAIN}:has_embeddings",
    "calls of embedding models are not measured",
)
TOKENS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_llm_new_token of its managers for each chunk",
    f"{_LANGCHAIN}:tells_of_tokens",
    "time to first token and time per token are not measured; an aborted call has no usage",
)
RUN_IDS: Final = PrivatePart(
    "langchain_core",
    "langchain-core's run manager has one run_id object, to which nothing else refers",
    f"{_LANGCHAIN}:keeps_ids",
    "an abandoned run is counted only when its task is done, or at shutdown",
)
OWNER_TASKS: Final = PrivatePart(
    "langchain_core",
    "langchain-core's agenerate, arun and a retriever's ainvoke last from a run's start to its end",
    f"{_LANGCHAIN}:has_owner_tasks",
    "a cancelled call is counted only when its run has been garbage-collected",
)
CONFIG: Final = PrivatePart(
    "langchain_core",
    "langchain_core.runnables.config.var_child_runnable_config is a ContextVar",
    f"{_LANGCHAIN}:has_config",
    "a mode that is set only in `configurable` is not seen",
)
CACHED: Final = PrivatePart(
    "langchain_core",
    "langchain-core marks an answer that comes from its cache",
    f"{_LANGCHAIN}:marks_cached",
    "an answer from the cache counts as a call",
    private=("_convert_cached_generations",),
)
STEPS: Final = PrivatePart(
    "langgraph",
    "LangGraph tags the run of a node with graph:step:N",
    f"{_LANGCHAIN}:tags_steps",
    "agents have no spans, and a mode in their input is not seen",
)
EVENT_FEEDERS: Final = PrivatePart(
    "langchain_core",
    "langchain-core's event streams run their runnable in a task of consume_astream",
    f"{_LANGCHAIN}:has_event_feeders",
    "astream_events(version='v1') goes on where OTEL_COACH_STOP_ABANDONED is to stop it",
    private=("_astream_log_implementation", "_astream_events_implementation"),
)
NATIVE_TELEMETRY: Final = PrivatePart(
    "fastapi",
    "FastAPI's built-in telemetry skips a request whose scope has the key fastapi.telemetry",
    f"{_ASGI}:silences_fastapi",
    "requests have a second server span and HTTP metric; FastAPI(telemetry=...) turns them off",
    private=("_native_telemetry",),
)
FRONTENDS: Final = PrivatePart(
    "fastapi",
    "FastAPI's router finds the routes of app.frontend() by _match_low_priority",
    f"{_ASGI}:finds_frontends",
    "requests for files of app.frontend() count as `unmatched`",
    private=("_match_low_priority",),
)
ROUTES: Final = PrivatePart(
    "starlette",
    "Starlette answers in Route.handle, and streams in StreamingResponse.stream_response",
    f"{_ASGI}:handles_routes",
    "behind a BaseHTTPMiddleware, OTEL_COACH_STOP_ABANDONED cancels a task more than once",
)
PROPAGATORS: Final = PrivatePart(
    "opentelemetry",
    "OpenTelemetry's CompositePropagator keeps its parts in _propagators",
    f"{_ASGI}:knows_propagators",
    "each request takes some microseconds longer, because all its headers are searched",
    private=("_propagators",),
)
BATCHES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's histogram aggregation can take several measurements as one",
    "otel_coach.sdk.histogram_batches:takes_batches",
    "each measurement takes some microseconds longer, because it reaches the SDK on its own",
    private=(
        *("_ExplicitBucketHistogramAggregation", "_advisory", "_create_aggregation", "_internal"),
        *("_boundaries", "_get_empty_bucket_counts", "_instrument_class_aggregation", "_lock"),
        *("_max", "_min", "_sample_exemplar", "_sum", "_value"),
    ),
)
ENDINGS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's span processors have a method _on_ending, called just before a span ends",
    "otel_coach.sdk.started_spans:knows_endings",
    "a processor that reads spans as they end sees otel-coach's spans only after their end",
    private=("_on_ending",),
)
READERS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's metric readers are passed collected metrics in _receive_metrics",
    "otel_coach.sdk.isolated_reader:gets_metrics",
    "the page has no exemplars, and shows a metric twice if two scopes use its name",
    private=("_receive_metrics",),
)
LOGS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's modules for logs are called _logs until they are stable",
    "otel_coach.sdk.providers:has_logs",
    "captured content has no events, and otel-coach exports no log records",
    private=("_logs",),
)
PLACEHOLDERS: Final = PrivatePart(
    "opentelemetry",
    "OpenTelemetry's global providers are its own proxies until others are set",
    "otel_coach.sdk.providers:knows_placeholders",
    "what the application records with the global providers is not exported",
    private=("_ProxyMeterProvider",),
)
ENTRY_POINTS: Final = PrivatePart(
    "opentelemetry.util",
    "OpenTelemetry's API keeps the entry points that it has read",
    "otel_coach.core.entry_points:are_kept",
    "the start takes longer: the entry points of all packages are read some ten times",
    private=("_importlib_metadata",),
)
OTLP: Final = PrivatePart(
    "opentelemetry.exporter.otlp.proto.common",
    "OpenTelemetry's OTLP encoder and otel-coach's give the same result for a span",
    "otel_coach.sdk.otlp_trial:encodes_alike",
    "spans that are sent over OTLP differ from what OpenTelemetry's own encoder would send",
)
FUTURES: Final = PrivatePart(
    "asyncio",
    "asyncio's futures have what they raised in _exception",
    "otel_coach.instrumentors.dependencies.watch:keeps_exceptions",
    "if a watched check returns a task that nobody awaits, its exception is not logged by asyncio",
    private=("_exception",),
)
CONFIGURATORS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's tracers have _is_enabled, which says if a tracer configurator enables them",
    "otel_coach.sdk.started_spans:knows_configurators",
    "otel-coach's own spans are made even if a tracer configurator disables them",
    private=("_is_enabled",),
)
STORAGES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's meter provider has one storage for each reader, which can be replaced",
    "otel_coach.sdk.forked_meters:counts_from_zero",
    "a child forked from a process that had measured pushes no metrics",
    private=(
        *("_instrument_class_temporality", "_lock", "_measurement_consumer", "_reader_storages"),
        "_sdk_config",
    ),
)
PUSHES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's periodic reader has an _export_lock and a _shutdown_event",
    "otel_coach.sdk.queues:locks_while_pushing",
    "a child that is forked during a push pushes no metrics",
    private=("_at_fork_reinit", "_export_lock", "_shutdown_event"),
)
QUEUES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's batch processors have a _batch_processor whose shutdown takes a timeout",
    "otel_coach.sdk.queues:ends_in_time",
    "a process may take longer to end if a back end hangs",
    private=("_batch_processor",),
)
REGISTRY: Final = PrivatePart(
    "prometheus_client",
    "prometheus_client's registry keeps its collectors in _collector_to_names",
    "otel_coach.prometheus.families:knows_collectors",
    "what a collector of the application reads from another system is summed over the workers",
    private=("_collector_to_names",),
)
ANTHROPIC_HEADERS: Final = PrivatePart(
    "anthropic",
    "the anthropic package's anthropic._tracing.trace_headers makes the trace headers of a call",
    "otel_coach.instrumentors.provider_headers:knows_trace_headers",
    "it may send a user's baggage to the provider; ANTHROPIC_OPEN_TELEMETRY_PROPAGATION=false "
    "stops that",
)
OPENAI_CLIENTS: Final = PrivatePart(
    "openai",
    "the openai package's clients send each call through request(cast_to, options, stream=...)",
    "otel_coach.instrumentors.openai.trials:takes_requests",
    "calls that the application makes by the openai package itself are not measured",
)
OPENAI_STREAMS: Final = PrivatePart(
    "openai",
    "the openai package's streams keep the iterator of their chunks in _iterator",
    "otel_coach.instrumentors.openai.trials:keeps_iterators",
    "each chunk that is streamed by the openai package itself takes some microseconds longer",
    private=("_iterator",),
)
ANTHROPIC_CLIENTS: Final = PrivatePart(
    "anthropic",
    "the anthropic package's clients send each call through request(cast_to, options, stream=...)",
    "otel_coach.instrumentors.anthropic.trials:takes_requests",
    "calls that the application makes by the anthropic package itself are not measured",
)
ANTHROPIC_STREAMS: Final = PrivatePart(
    "anthropic",
    "the anthropic package's streams keep the iterator of their chunks in _iterator",
    "otel_coach.instrumentors.anthropic.trials:keeps_iterators",
    "each chunk that is streamed by the anthropic package itself takes some microseconds longer",
    private=("_iterator",),
)

AWAITED: Final = PrivatePart(
    "asyncio",
    "asyncio's tasks tell what they await (_fut_waiter), and who awaits them (_callbacks)",
    "otel_coach.instrumentors.asgi.trials:tells_what_tasks_await",
    "a task that several requests await is stopped with the first of them whose client leaves",
    private=("_fut_waiter", "_callbacks", "_children"),
)

PARTS: Final = (
    *(CHAINS, MODELS, THREADED_MODELS, RETRIEVERS, TOOLS, EMBEDDINGS),
    *(TOKENS, RUN_IDS, OWNER_TASKS, CONFIG, CACHED, STEPS, EVENT_FEEDERS),
    *(NATIVE_TELEMETRY, FRONTENDS, ROUTES, AWAITED, PROPAGATORS),
    *(BATCHES, ENDINGS, READERS, LOGS, PLACEHOLDERS, OTLP, FUTURES),
    *(CONFIGURATORS, ENTRY_POINTS, STORAGES, PUSHES, QUEUES, REGISTRY, ANTHROPIC_HEADERS),
    *(OPENAI_CLIENTS, OPENAI_STREAMS, ANTHROPIC_CLIENTS, ANTHROPIC_STREAMS),
)
"""All rows of the table."""

_logged: Final = set[str]()


def holds(part: PrivatePart) -> bool:
    """Whether `part` is as otel-coach expects; if not, logs once what is lost."""
    if part.holds():
        return True
    if part.name not in _logged:
        _logged.add(part.name)
        _logger.warning(
            "otel-coach: an assumption does not hold for the installed version: %s. Effect: %s. "
            "Install the newest otel-coach; `otel-coach doctor` shows all such assumptions.",
            part.name,
            part.lost,
        )
    return False
