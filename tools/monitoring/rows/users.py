"""The dashboard's row about what users notice."""

from __future__ import annotations

from typing import Final

from otel_coach.metrics.catalogue import (
    AI_REQUEST_DURATION,
    AI_STREAM_ABORTS,
    AI_STREAM_CHUNKS,
    AI_STREAMS_ACTIVE,
    AI_TIME_TO_FIRST_CHUNK,
    HTTP_REQUEST_DURATION,
    WEBSOCKETS_ACTIVE,
)
from otel_coach.metrics.labels import ENDPOINT, STATUS
from tools.monitoring.objectives import AVAILABILITY, FIRST_CHUNK_SECONDS, FIRST_CHUNK_SHARE
from tools.monitoring.panel import CHOSEN, EACH, SHOWN, Look, Panel, Row, one, quantiles, tail
from tools.monitoring.promql import FAILED, JUDGED, LEFT, SUCCEEDED, ratio, share

_AT_A_GLANCE = (
    Panel(
        "Answered without error",
        "percentunit",
        "The share of AI requests that ended without an error, not counting those that users left. "
        f"Below {AVAILABILITY:.1%} over 30 days the objective is missed; red over a short range "
        "means that the error budget shrinks, not that it is used up.",
        one(
            share(
                CHOSEN.rate(AI_REQUEST_DURATION, SHOWN, SUCCEEDED),
                CHOSEN.rate(AI_REQUEST_DURATION, SHOWN, JUDGED),
            ),
            "{{job}}",
        ),
        Look.FIGURE,
        AVAILABILITY,
    ),
    Panel(
        f"First chunk within {FIRST_CHUNK_SECONDS:g} s",
        "percentunit",
        f"The share of streams that started in time. Below {FIRST_CHUNK_SHARE:.0%} too many users "
        "look at an empty answer. Streams that were left or failed before their first chunk are "
        "not included.",
        one(
            ratio(
                CHOSEN.within(AI_TIME_TO_FIRST_CHUNK, FIRST_CHUNK_SECONDS, SHOWN),
                CHOSEN.rate(AI_TIME_TO_FIRST_CHUNK, SHOWN),
            ),
            "{{job}}",
        ),
        Look.FIGURE,
        FIRST_CHUNK_SHARE,
    ),
    Panel(
        "Aborted by users",
        "percentunit",
        "The share of AI requests that were aborted. They are no errors. If it rises together with "
        "the time to first chunk, users lose patience; if it rises alone, look at the answers, or "
        "at a proxy's timeout.",
        one(
            share(
                CHOSEN.rate(AI_REQUEST_DURATION, SHOWN, LEFT),
                CHOSEN.rate(AI_REQUEST_DURATION, SHOWN),
            ),
            "{{job}}",
        ),
        Look.FIGURE,
    ),
    Panel(
        "Streams open now",
        "short",
        "The number of answers that are being streamed. If it only ever grows, streams hang.",
        one(CHOSEN.grouped("sum", AI_STREAMS_ACTIVE), "{{job}}"),
        Look.FIGURE,
    ),
)

_IN_TIME = (
    Panel(
        "AI requests by status",
        "reqps",
        "The load, by how requests end. Errors that grow with the load point to a limit, errors "
        "under a steady load to a failure.",
        one(CHOSEN.rate(AI_REQUEST_DURATION, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "Errors by endpoint",
        "percentunit",
        "The share of AI requests that ended in error, without those that users left. One endpoint "
        "alone: its own code or model; all endpoints together: provider, database or deployment.",
        one(
            share(
                CHOSEN.rate(AI_REQUEST_DURATION, EACH, FAILED, by=(ENDPOINT,)),
                CHOSEN.rate(AI_REQUEST_DURATION, EACH, JUDGED, by=(ENDPOINT,)),
            ),
            "{{endpoint}}",
        ),
    ),
    Panel(
        "Aborted streams by endpoint",
        "reqps",
        "Streams that the client left before their end. If there are many at one endpoint, compare "
        "its time to first chunk and its duration.",
        one(CHOSEN.rate(AI_STREAM_ABORTS, EACH, by=(ENDPOINT,)), "{{endpoint}}"),
    ),
    Panel(
        "Time to first chunk",
        "s",
        "How long users see nothing. If it rises and the time to first token does not, the time is "
        "spent before the model is called: tools, database, a busy event loop. Each exemplar links "
        "to a trace.",
        quantiles(AI_TIME_TO_FIRST_CHUNK),
    ),
    Panel(
        "AI request duration",
        "s",
        "From the first byte to the last. If it is long and the time to first chunk is short, the "
        "answer is long, or an agent repeats its steps: compare the LLM calls.",
        quantiles(AI_REQUEST_DURATION),
    ),
    Panel(
        "Open streams by endpoint",
        "short",
        "Rises with the load or with the duration. A step that never comes down is a stream that "
        "hangs.",
        one(CHOSEN.grouped("sum", AI_STREAMS_ACTIVE, by=(ENDPOINT,)), "{{endpoint}}"),
        Look.STACKED,
    ),
    Panel(
        "WebSockets open by endpoint",
        "short",
        "Connections that are open now, busy or not. A step that never comes down is a client that "
        "left without a word, behind a proxy that keeps its connection.",
        one(CHOSEN.grouped("sum", WEBSOCKETS_ACTIVE, by=(ENDPOINT,)), "{{endpoint}}"),
        Look.STACKED,
    ),
    Panel(
        "Chunks sent",
        "suffix: chunks/s",
        "Counted when a stream ends. Many chunks of aborted streams are answers that were paid for "
        "and not read.",
        one(CHOSEN.rate(AI_STREAM_CHUNKS, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "HTTP requests by status",
        "reqps",
        "All requests except those for metrics; 499 means that the client left before there was a "
        "response. Compare with the AI requests to see whether only they fail.",
        one(CHOSEN.rate(HTTP_REQUEST_DURATION, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "HTTP duration, p95",
        "s",
        "If endpoints without an LLM are slow too, the process lacks a resource: CPU, threads or "
        "database connections.",
        tail(HTTP_REQUEST_DURATION, ENDPOINT),
    ),
)

USERS: Final = Row("Users", (*_AT_A_GLANCE, *_IN_TIME))
