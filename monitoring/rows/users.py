"""What users feel."""

from __future__ import annotations

from typing import Final

from monitoring.objectives import AVAILABILITY, FIRST_CHUNK_SECONDS, FIRST_CHUNK_SHARE
from monitoring.panel import CHOSEN, EACH, SHOWN, Look, Panel, Row, one, quantiles, tail
from monitoring.promql import FAILED, JUDGED, LEFT, SUCCEEDED, ratio, share
from otel_coach.catalogue import (
    AI_REQUEST_DURATION,
    AI_STREAM_ABORTS,
    AI_STREAM_CHUNKS,
    AI_STREAMS_ACTIVE,
    AI_TIME_TO_FIRST_CHUNK,
    HTTP_REQUEST_DURATION,
)
from otel_coach.vocabulary import ENDPOINT, STATUS

_AT_A_GLANCE = (
    Panel(
        "Answered without error",
        "percentunit",
        f"Of the AI requests whose users stayed. Below {AVAILABILITY:.1%} over 30 days the "
        "objective is missed; red over a short range says that the budget shrinks, not that it is "
        "gone.",
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
        f"Of the streams that began. Below {FIRST_CHUNK_SHARE:.0%} users wait in front of an empty "
        "answer. Streams that were left or failed before their first chunk are not in it.",
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
        "Left by their users",
        "percentunit",
        "AI requests that were aborted. No error: but when it rises together with the time to "
        "first chunk, users lose patience; when it rises alone, look at what is answered, or at "
        "a proxy's timeout.",
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
        "How many users are reading an answer. If it only ever grows, streams hang.",
        one(CHOSEN.grouped("sum", AI_STREAMS_ACTIVE), "{{job}}"),
        Look.FIGURE,
    ),
)

_IN_TIME = (
    Panel(
        "AI requests by status",
        "reqps",
        "The load, and how it ends. Errors that grow with the load point at a limit, errors at a "
        "steady load at a failure.",
        one(CHOSEN.rate(AI_REQUEST_DURATION, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "Errors by endpoint",
        "percentunit",
        "AI requests that ended in error, without those that their users left. One endpoint "
        "alone: its own code or model; all at once: provider, database or deployment.",
        one(
            share(
                CHOSEN.rate(AI_REQUEST_DURATION, EACH, FAILED, by=(ENDPOINT,)),
                CHOSEN.rate(AI_REQUEST_DURATION, EACH, JUDGED, by=(ENDPOINT,)),
            ),
            "{{endpoint}}",
        ),
    ),
    Panel(
        "Streams left by endpoint",
        "reqps",
        "Streams whose client went before their end. Many at one endpoint: compare its time to "
        "first chunk and its duration.",
        one(CHOSEN.rate(AI_STREAM_ABORTS, EACH, by=(ENDPOINT,)), "{{endpoint}}"),
    ),
    Panel(
        "Time to first chunk",
        "s",
        "How long users see nothing. If it rises and the time to first token does not, the time "
        "goes before the model is called: tools, database, a full event loop. A point is a "
        "trace.",
        quantiles(AI_TIME_TO_FIRST_CHUNK),
    ),
    Panel(
        "AI request duration",
        "s",
        "From the first byte to the last. Long with a short time to first chunk is a long "
        "answer, or an agent that goes round in circles: compare the LLM calls.",
        quantiles(AI_REQUEST_DURATION),
    ),
    Panel(
        "Open streams by endpoint",
        "short",
        "Rises with the load or with the duration. A step that never comes down is a stream "
        "that hangs.",
        one(CHOSEN.grouped("sum", AI_STREAMS_ACTIVE, by=(ENDPOINT,)), "{{endpoint}}"),
        Look.STACKED,
    ),
    Panel(
        "Chunks handed over",
        "suffix: chunks/s",
        "Added when a stream ends. Many aborted ones are answers that were paid for and not read.",
        one(CHOSEN.rate(AI_STREAM_CHUNKS, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "HTTP requests by status",
        "reqps",
        "All requests but those for metrics; 499 is a client that left before there was a "
        "response. Compare with the AI requests to see whether only they fail.",
        one(CHOSEN.rate(HTTP_REQUEST_DURATION, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "HTTP duration, p95",
        "s",
        "If endpoints without an LLM are slow too, the process is short of something: processor, "
        "threads, database connections.",
        tail(HTTP_REQUEST_DURATION, ENDPOINT),
    ),
)

USERS: Final = Row("Users", (*_AT_A_GLANCE, *_IN_TIME))
