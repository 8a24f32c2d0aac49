"""Every private part of another library that otel-coach relies on, in one table.

A version of that library may change it without notice. So each part is tried where its use begins,
before it is relied on; where it is not as it was, what needs it is left out, and nothing else, and
one line in the log says what is lost. `otel-coach doctor` tries them all and shows the table; those
whose trial calls a model, runs a graph or starts a thread (CACHED, STEPS, QUEUES) it alone tries.
`tests/test_compatibility.py` finds the private names in the code and fails where one has no row.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from otel_coach.guards import is_the_hosts

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("otel_coach")


@dataclass(frozen=True, slots=True)
class PrivatePart:
    """One row."""

    module: str
    """Of the library that has it; where that is not installed there is nothing to lose."""
    name: str
    """What it is, in words and names that an issue can be searched by."""
    trial: str
    """`module:function` of ours that tries it: whether it is as it was. An exception says no."""
    lost: str
    """What is lost without it."""
    private: tuple[str, ...] = ()
    """The names as the code spells them."""

    @property
    def is_there(self) -> bool:
        """Whether the library is installed."""
        return find_spec(self.module) is not None

    def holds(self) -> bool:
        """Try it."""
        module, _, function = self.trial.partition(":")
        try:
            return bool(_function(module, function)())
        except Exception as raised:  # whatever a changed library raises
            if is_the_hosts(raised):
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
    "agents have no spans and state no mode",
)
MODELS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_chat_model_start, on_llm_start, _end and _error of its managers",
    f"{_LANGCHAIN}:tells_of_models",
    "LLM calls, their tokens and their cost are not measured",
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
    "calls of tools are not measured",
)
TOKENS: Final = PrivatePart(
    "langchain_core",
    "langchain-core calls on_llm_new_token of its managers for each chunk",
    f"{_LANGCHAIN}:tells_of_tokens",
    "no time to first token and per token; a call that is broken off has no usage",
)
RUN_IDS: Final = PrivatePart(
    "langchain_core",
    "langchain-core's manager of a run hands out the one id that it holds",
    f"{_LANGCHAIN}:keeps_ids",
    "a run that nobody can end any more is counted when its task is done, or at the end",
)
HOLDERS: Final = PrivatePart(
    "langchain_core",
    "langchain-core's coroutines agenerate and arun hold a run from its start to its end",
    f"{_LANGCHAIN}:has_holders",
    "a cancelled call is counted when the garbage collector finds it",
)
CONFIG: Final = PrivatePart(
    "langchain_core",
    "langchain_core.runnables.config.var_child_runnable_config",
    f"{_LANGCHAIN}:has_config",
    "a mode that only `configurable` states is not seen",
)
CACHED: Final = PrivatePart(
    "langchain_core",
    "langchain-core marks an answer that came from its cache",
    f"{_LANGCHAIN}:marks_cached",
    "an answer from the cache counts as a call",
    private=("_convert_cached_generations",),
)
STEPS: Final = PrivatePart(
    "langgraph",
    "LangGraph tags the run of a node with graph:step:N",
    f"{_LANGCHAIN}:tags_steps",
    "agents have no spans, and their input states no mode",
)
NATIVE_TELEMETRY: Final = PrivatePart(
    "fastapi",
    "FastAPI's own telemetry leaves a request alone whose scope has fastapi.telemetry",
    f"{_ASGI}:silences_fastapi",
    "a second server span and HTTP family; FastAPI(telemetry=...) turns them off",
    private=("_native_telemetry",),
)
FRONTENDS: Final = PrivatePart(
    "fastapi",
    "FastAPI's router finds the routes of app.frontend() by _match_low_priority",
    f"{_ASGI}:finds_frontends",
    "files of app.frontend() count as `unmatched`",
    private=("_match_low_priority",),
)
PROPAGATORS: Final = PrivatePart(
    "opentelemetry",
    "OpenTelemetry's CompositePropagator keeps its parts in _propagators",
    f"{_ASGI}:knows_propagators",
    "some microseconds a request: all headers are looked through",
    private=("_propagators",),
)
BATCHES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's histogram aggregation takes several measurements as one",
    "otel_coach.batches:takes_batches",
    "some microseconds a measurement: each goes alone",
    private=(
        *("_ExplicitBucketHistogramAggregation", "_advisory", "_create_aggregation", "_internal"),
        *("_boundaries", "_get_empty_bucket_counts", "_instrument_class_aggregation", "_lock"),
        *("_max", "_min", "_sample_exemplar", "_sum", "_value"),
    ),
)
ENDINGS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's span processors look at an ending span in _on_ending",
    "otel_coach.started_spans:knows_endings",
    "a processor that looks at spans as they end does not see ours until they have",
    private=("_on_ending",),
)
READERS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's metric readers get what was collected by _receive_metrics",
    "otel_coach.exposition.reader:gets_metrics",
    "no exemplars on the page; two scopes with one name are on it twice",
    private=("_receive_metrics",),
)
LOGS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's logs, whose modules are called _logs until they are stable",
    "otel_coach.sdk:has_logs",
    "captured content has no events",
    private=("_logs",),
)
PLACEHOLDERS: Final = PrivatePart(
    "opentelemetry",
    "OpenTelemetry's global providers are its own proxies until somebody sets others",
    "otel_coach.sdk:knows_placeholders",
    "what the application measures by the global providers goes nowhere",
    private=("_ProxyMeterProvider",),
)
OTLP: Final = PrivatePart(
    "opentelemetry.exporter.otlp.proto.common",
    "OpenTelemetry's OTLP encoder writes of a span what otel-coach's writes",
    "otel_coach.otlp:encodes_alike",
    "spans are encoded by OpenTelemetry's, which takes three times as long",
)
CONFIGURATORS: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's tracer says by _is_enabled whether a tracer configurator wants its spans",
    "otel_coach.started_spans:knows_configurators",
    "otel-coach's own spans are made where a tracer configurator switches them off",
    private=("_is_enabled",),
)
STORAGES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's meter provider counts in one storage for each reader, which can be replaced",
    "otel_coach.forked:counts_anew",
    "a process that was forked pushes no metrics",
    private=(
        *("_instrument_class_temporality", "_lock", "_measurement_consumer", "_reader_storages"),
        "_sdk_config",
    ),
)
QUEUES: Final = PrivatePart(
    "opentelemetry.sdk",
    "OpenTelemetry's batch processors work by _batch_processor, which ends when it is told to",
    "otel_coach.queues:ends_in_time",
    "a process that ends may wait longer for a back end that hangs",
    private=("_batch_processor",),
)
REGISTRY: Final = PrivatePart(
    "prometheus_client",
    "prometheus_client's registry keeps its collectors in _collector_to_names",
    "otel_coach.exposition.families:knows_collectors",
    "what a collector of the application's reads elsewhere is added up over the workers",
    private=("_collector_to_names",),
)

PARTS: Final = (
    *(CHAINS, MODELS, RETRIEVERS, TOOLS, TOKENS, RUN_IDS, HOLDERS, CONFIG, CACHED, STEPS),
    *(NATIVE_TELEMETRY, FRONTENDS, PROPAGATORS),
    *(BATCHES, ENDINGS, READERS, LOGS, PLACEHOLDERS, OTLP),
    *(CONFIGURATORS, STORAGES, QUEUES, REGISTRY),
)
"""All rows."""

_said: Final = set[str]()


def holds(part: PrivatePart) -> bool:
    """Whether `part` is as otel-coach relies on it; where it is not, one log line says so."""
    if part.holds():
        return True
    if part.name not in _said:
        _said.add(part.name)
        _logger.warning(
            "otel-coach: this is not so in the version that is installed: %s. So %s. Install the "
            "newest otel-coach; `otel-coach doctor` shows all such parts.",
            part.name,
            part.lost,
        )
    return False
