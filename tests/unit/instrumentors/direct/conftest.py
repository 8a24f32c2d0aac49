"""Clients of both packages, and the ledger as the witness of their calls."""

import asyncio
import gc
import platform
from contextlib import suppress

import anthropic
import openai
import pytest

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.anthropic_double import anthropic_provider, anthropic_url
from tests.support.waiting import eventually

GATEWAYS = {"127.0.0.1": "openai", "localhost": "anthropic"}
CALLS = "agent_llm_requests_total"


@pytest.fixture(autouse=True)
def _architecture_is_known(monkeypatch):
    # The oldest clients start a program for each request that tells the processor's word size.
    monkeypatch.setattr(platform, "architecture", lambda *_args, **_kwargs: ("64bit", ""))


@pytest.fixture(scope="session")
def running_provider():
    with anthropic_provider() as running:
        yield running


@pytest.fixture
def provider(running_provider):
    running_provider.reset()
    return running_provider


@pytest.fixture
def measured(provider):
    """Measures the process; each request in the ledger is one call on the page at the end."""
    # The double is OpenAI at one name, and Anthropic at the other, as far as prices are concerned.
    with measuring(Settings(gateways=GATEWAYS)) as measurements:
        yield measurements
        agrees(measurements, provider)


def agrees(measured, provider, retries=0):
    def at_rest():
        return measured.page().sum(CALLS) == len(provider.ledger) - retries

    with suppress(AssertionError):
        eventually(lambda: at_rest() or (gc.collect() >= 0 and at_rest()))
    page = measured.page()
    assert page.sum(CALLS) == len(provider.ledger) - retries
    assert page.sum("agent_llm_latency_seconds_count") == page.sum(CALLS)
    assert page.sum("otel_coach_errors_total") == 0
    assert len(measured.spans) >= page.sum(CALLS)


@pytest.fixture(scope="session")
def clients(running_provider):
    """By package, a client of the provider."""
    provider = running_provider
    return {
        "openai": openai.OpenAI(api_key="k", base_url=provider.base_url, max_retries=0, timeout=10),
        "anthropic": anthropic.Anthropic(
            api_key="k", base_url=anthropic_url(provider), max_retries=0, timeout=10
        ),
    }


@pytest.fixture
def run(provider):
    """Runs `work(clients)`, a coroutine function, with asynchronous clients."""

    def run_work(work):
        async def with_clients():
            async with (
                openai.AsyncOpenAI(
                    api_key="k", base_url=provider.base_url, max_retries=0, timeout=10
                ) as one,
                anthropic.AsyncAnthropic(
                    api_key="k", base_url=anthropic_url(provider), max_retries=0, timeout=10
                ) as other,
            ):
                return await work({"openai": one, "anthropic": other})

        return asyncio.run(with_clients())

    return run_work
