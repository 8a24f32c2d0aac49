"""What the models do, and what they cost."""

from __future__ import annotations

from typing import Final

from monitoring.panel import CHOSEN, EACH, SERVICE, Look, Panel, Query, Row, one, quantiles
from monitoring.promql import FAILED, ratio, spread
from otel_coach.catalogue import (
    AI_REQUEST_DURATION,
    LLM_CACHED_TOKENS,
    LLM_COST,
    LLM_LATENCY,
    LLM_REASONING_TOKENS,
    LLM_REQUESTS,
    LLM_TIME_PER_OUTPUT_TOKEN,
    LLM_TIME_TO_FIRST_TOKEN,
    LLM_TOKENS,
    LLM_UNMEASURED,
)
from otel_coach.vocabulary import ERROR_TYPE, MODE, MODEL, STATUS

_CALLS = (
    Panel(
        "LLM calls by status",
        "reqps",
        "Compare with the AI requests: more calls for each request is an agent that takes more "
        "rounds, or retries.",
        one(CHOSEN.rate(LLM_REQUESTS, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "Provider errors",
        "reqps",
        "By class of exception. Rate limits: ask for more, or call less; timeouts and "
        "connections: the provider or the network; bad requests and authentication: a "
        "deployment or a key of yours.",
        one(
            CHOSEN.rate(LLM_REQUESTS, EACH, FAILED, by=(MODEL, ERROR_TYPE)),
            "{{model}} {{error_type}}",
        ),
    ),
    Panel(
        "LLM latency",
        "s",
        "A whole call. Rising while time to first token and time per token stay is longer answers.",
        quantiles(LLM_LATENCY),
    ),
    Panel(
        "Time to first token",
        "s",
        "Streamed calls. Rising alone is a queue at the provider, or longer prompts: compare "
        "the tokens.",
        quantiles(LLM_TIME_TO_FIRST_TOKEN),
    ),
    Panel(
        "Time per output token",
        "s",
        "The model's pace. Rising for one model is its provider's load; nothing here can cure it.",
        quantiles(LLM_TIME_PER_OUTPUT_TOKEN),
    ),
)

_SPENT = (
    Panel(
        "Tokens",
        "suffix: tokens/s",
        "As billed. Cached ones are a part of the prompt, reasoning ones of the completion. A "
        "prompt that grows at a steady load is a history that nobody cuts.",
        (
            Query(CHOSEN.rate(LLM_TOKENS, EACH, by=(MODE,)), "{{mode}}"),
            Query(CHOSEN.rate(LLM_CACHED_TOKENS, EACH), "cached"),
            Query(CHOSEN.rate(LLM_REASONING_TOKENS, EACH), "reasoning"),
        ),
    ),
    Panel(
        "USD per hour",
        "currencyUSD",
        "At the present rate, without the calls that are not measured. If it rises and the AI "
        "requests do not, each has become dearer.",
        one(f"3600 * {CHOSEN.rate(LLM_COST, EACH, by=(MODEL,))}", "{{model}}"),
        Look.STACKED,
    ),
    Panel(
        "Cost of one AI request",
        "currencyUSD",
        "All the service spends on LLMs, background work too, for each AI request, over an "
        "hour; whatever endpoint and model are chosen. A step after a deployment is that "
        "deployment's.",
        one(
            ratio(SERVICE.rate(LLM_COST, "1h"), SERVICE.rate(AI_REQUEST_DURATION, "1h")),
            "{{job}}",
        ),
    ),
    Panel(
        "Calls not measured",
        "percentunit",
        "What tokens and cost do not cover. no_usage: the model reports none "
        "(stream_usage=True); no_price: add the model to OTEL_COACH_PRICES. Above 0, read the "
        "cost as at least so much.",
        one(
            spread(
                CHOSEN.rate(LLM_UNMEASURED, EACH, by=(ERROR_TYPE,)),
                CHOSEN.rate(LLM_REQUESTS, EACH),
            ),
            "{{error_type}}",
        ),
    ),
)

LLM: Final = Row("LLM", (*_CALLS, *_SPENT))
