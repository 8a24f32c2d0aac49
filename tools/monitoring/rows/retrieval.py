"""The dashboard's row about embedding models and retrievers."""

from __future__ import annotations

from typing import Final

from otel_coach.metrics.catalogue import (
    EMBEDDING_LATENCY,
    EMBEDDING_REQUESTS,
    RETRIEVAL_LATENCY,
    RETRIEVAL_REQUESTS,
)
from otel_coach.metrics.labels import ERROR_TYPE, MODEL, STATUS, TOOL_NAME
from tools.monitoring.panel import CHOSEN, EACH, Look, Panel, Row, one, tail
from tools.monitoring.promql import FAILED

RETRIEVAL: Final = Row(
    "Embeddings and retrieval",
    (
        Panel(
            "Embedding calls by status",
            "reqps",
            "A burst without more AI requests is an import of documents. If it grows with every "
            "request, a cache of vectors would help. Tokens and cost are among those above.",
            one(CHOSEN.rate(EMBEDDING_REQUESTS, EACH, by=(MODEL, STATUS)), "{{model}} {{status}}"),
            Look.STACKED,
        ),
        Panel(
            "Embedding failures",
            "reqps",
            "By class of exception. Without vectors a vector store finds nothing: compare with "
            "the failures of retrievals.",
            one(
                CHOSEN.rate(EMBEDDING_REQUESTS, EACH, FAILED, by=(MODEL, ERROR_TYPE)),
                "{{model}} {{error_type}}",
            ),
        ),
        Panel(
            "Embedding latency, p95",
            "s",
            "One call, whatever the number of its texts; a long list may take several requests. "
            "Each exemplar links to a trace.",
            tail(EMBEDDING_LATENCY, MODEL),
        ),
        Panel(
            "Retrievals",
            "reqps",
            "If a retriever is no longer used, the model answers without your documents.",
            one(CHOSEN.rate(RETRIEVAL_REQUESTS, EACH, by=(TOOL_NAME,)), "{{tool_name}}"),
            Look.STACKED,
        ),
        Panel(
            "Retrieval failures",
            "reqps",
            "By class of exception. The application may hide failures from users: answers then "
            "get worse, not fewer.",
            one(
                CHOSEN.rate(RETRIEVAL_REQUESTS, EACH, FAILED, by=(TOOL_NAME, ERROR_TYPE)),
                "{{tool_name}} {{error_type}}",
            ),
        ),
        Panel(
            "Retrieval latency, p95",
            "s",
            "Embedding the query is a part of it: if that is not slower, the store is. Each "
            "retrieval delays the answer.",
            tail(RETRIEVAL_LATENCY, TOOL_NAME),
        ),
    ),
)
