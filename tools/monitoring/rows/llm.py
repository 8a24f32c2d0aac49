"""The dashboard's row about LLM calls and their cost."""

from __future__ import annotations

from typing import Final

from otel_coach.metrics.catalogue import (
    AI_ABANDONED_COST,
    AI_ABANDONED_TOKENS,
    AI_REQUEST_DURATION,
    AI_STOPPED_RUNS,
    EMBEDDING_REQUESTS,
    LLM_CACHED_TOKENS,
    LLM_COST,
    LLM_LATENCY,
    LLM_REASONING_TOKENS,
    LLM_REQUESTS,
    LLM_TIME_PER_OUTPUT_TOKEN,
    LLM_TIME_TO_FIRST_TOKEN,
    LLM_TOKENS,
    LLM_UNMEASURED,
    PRICE_LIST_AGE,
)
from otel_coach.metrics.labels import ENDPOINT, ERROR_TYPE, MODE, MODEL, STATUS
from tools.monitoring.panel import CHOSEN, EACH, SERVICE, Look, Panel, Query, Row, one, quantiles
from tools.monitoring.promql import FAILED, ratio, spread

_CALLS = (
    Panel(
        "LLM calls by status",
        "reqps",
        "Compare with the AI requests: more calls per request mean that an agent takes more steps, "
        "or that calls are retried.",
        one(CHOSEN.rate(LLM_REQUESTS, EACH, by=(STATUS,)), "{{status}}"),
        Look.STACKED,
    ),
    Panel(
        "Provider errors",
        "reqps",
        "By class of exception. Rate limits: request a higher quota, or call less; timeouts and "
        "connections: the provider or the network; bad requests and authentication: your own "
        "deployment or key.",
        one(
            CHOSEN.rate(LLM_REQUESTS, EACH, FAILED, by=(MODEL, ERROR_TYPE)),
            "{{model}} {{error_type}}",
        ),
    ),
    Panel(
        "LLM latency",
        "s",
        "A whole call. If only this rises, and not time to first token or time per output token, "
        "answers have become longer.",
        quantiles(LLM_LATENCY),
    ),
    Panel(
        "Time to first token",
        "s",
        "Streamed calls. If only this rises, there is a queue at the provider, or prompts have "
        "become longer: compare the tokens.",
        quantiles(LLM_TIME_TO_FIRST_TOKEN),
    ),
    Panel(
        "Time per output token",
        "s",
        "The speed of the models' output. If it rises for one model, the provider is under load; "
        "you cannot fix this on your side.",
        quantiles(LLM_TIME_PER_OUTPUT_TOKEN),
    ),
)

_SPENT = (
    Panel(
        "Tokens",
        "suffix: tokens/s",
        "As billed. Cached tokens are a part of the prompt tokens, reasoning tokens of the "
        "completion tokens. Prompts that grow under a steady load indicate a chat history that "
        "is not trimmed.",
        (
            Query(CHOSEN.rate(LLM_TOKENS, EACH, by=(MODE,)), "{{mode}}"),
            Query(CHOSEN.rate(LLM_CACHED_TOKENS, EACH), "cached"),
            Query(CHOSEN.rate(LLM_REASONING_TOKENS, EACH), "reasoning"),
            Query(CHOSEN.rate(AI_ABANDONED_TOKENS, EACH), "for clients that left"),
        ),
    ),
    Panel(
        "USD per hour",
        "currencyUSD",
        "At the current rate, without unmeasured calls. If it rises and the AI requests do not, "
        "each request has become more expensive.",
        one(f"3600 * {CHOSEN.rate(LLM_COST, EACH, by=(MODEL,))}", "{{model}}"),
        Look.STACKED,
    ),
    Panel(
        "USD per hour for clients that left",
        "currencyUSD",
        "At the current rate: LLM calls that ended after the client of their request had left. "
        "Nobody reads their answers; the work behind a stream goes on by itself.",
        one(f"3600 * {CHOSEN.rate(AI_ABANDONED_COST, EACH, by=(ENDPOINT,))}", "{{endpoint}}"),
        Look.STACKED,
    ),
    Panel(
        "Runs stopped because their client left",
        "suffix: runs/s",
        "Only with OTEL_COACH_STOP_ABANDONED. What was saved is not known, and not claimed; the "
        "tokens of a completed request of the same endpoint are an estimate of it.",
        one(CHOSEN.rate(AI_STOPPED_RUNS, EACH, by=(ENDPOINT,)), "{{endpoint}}"),
    ),
    Panel(
        "Share of the cost for clients that left",
        "percentunit",
        "Of the whole cost of LLM calls over an hour.",
        one(ratio(SERVICE.rate(AI_ABANDONED_COST, "1h"), SERVICE.rate(LLM_COST, "1h")), "{{job}}"),
    ),
    Panel(
        "Cost of one AI request",
        "currencyUSD",
        "The service's whole cost of LLM calls over an hour, including background work, divided by "
        "its AI requests; for all endpoints and models, whichever are chosen. A step after a "
        "deployment was caused by that deployment.",
        one(
            ratio(SERVICE.rate(LLM_COST, "1h"), SERVICE.rate(AI_REQUEST_DURATION, "1h")),
            "{{job}}",
        ),
    ),
    Panel(
        "Unmeasured LLM calls",
        "percentunit",
        "The share of calls, of embedding models too, that tokens and cost do not cover. "
        "no_usage: the model reports no usage (set stream_usage=True), or its stream was left "
        "before; no_price: add the model to OTEL_COACH_PRICES. Above 0, the real cost is higher "
        "than shown.",
        one(
            spread(
                CHOSEN.rate(LLM_UNMEASURED, EACH, by=(ERROR_TYPE,)),
                CHOSEN.rate_of_all((LLM_REQUESTS, EMBEDDING_REQUESTS), EACH),
            ),
            "{{error_type}}",
        ),
    ),
    Panel(
        "Age of the price list",
        "d",
        "The cost of models whose prices changed since is wrong, and newer models have no price. "
        "Upgrade otel-coach, or write a newer list with `otel-coach prices --update`.",
        one(SERVICE.grouped("max", PRICE_LIST_AGE), "{{job}}"),
    ),
)

LLM: Final = Row("LLM", (*_CALLS, *_SPENT))
