"""What is imported, and when: looked at in a process of its own."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT


def test_frameworks_are_never_imported_unless_the_host_does():
    script = """
import sys
import otel_coach
from otel_coach.setup.distro import OtelCoachConfigurator, OtelCoachDistro
from otel_coach.setup.distro import asgi, dependencies, langchain
OtelCoachDistro().configure()
OtelCoachConfigurator().configure()
for instrumentor in (asgi, langchain, dependencies):
    instrumentor().instrument()
frameworks = {"fastapi", "starlette", "langchain_core", "langgraph", "slowapi", "psycopg"}
heavy = {"genai_prices", "grpc", "httpx", "pydantic"}
print(sorted((frameworks | heavy) & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"


def test_importing_the_package_imports_no_sdk():
    script = "import otel_coach, sys; print('opentelemetry.sdk' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "False"


def test_the_driver_is_not_imported_within_the_time_of_a_probe():
    script = (
        "import sys; from otel_coach.instrumentors.dependencies.probes import probe_of; "
        "probe_of('tcp://h:1'); print('psycopg' in sys.modules); "
        "probe_of('postgresql://h/db'); print('psycopg' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False", "True"]


# Cut off by the consumer


@pytest.mark.parametrize(
    "first",
    [
        "langchain_core.callbacks",
        "langchain_core.callbacks.manager",
        "langchain_core.tracers.context",
        "langchain_core.language_models",
        "langchain_openai",
        "langgraph.graph",
    ],
)
def test_whatever_the_host_imports_first_calls_are_seen_from_then_on(first):
    script = f"""
import asyncio
from otel_coach.testing import measuring
with measuring() as measured:
    import {first}
    from langchain_core.callbacks import AsyncCallbackManager
    from langchain_core.language_models import FakeListChatModel
    asyncio.run(FakeListChatModel(responses=["a"]).ainvoke("hi"))
    print(measured.page().sum("agent_llm_requests_total", status="ok"))
    print(hasattr(AsyncCallbackManager.on_llm_start, "__wrapped__"))
print(hasattr(AsyncCallbackManager.on_llm_start, "__wrapped__"))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["1.0", "True", "False"], found.stderr
    assert not found.stderr


def test_who_has_prices_of_his_own_is_spared_the_list_until_a_model_is_not_among_them(tmp_path):
    own = tmp_path / "prices.toml"
    own.write_text('["my.model"]\ninput_mtok = 1\noutput_mtok = 2\n')
    script = """
import sys
from otel_coach.pricing.price_list import PriceList, Usage
prices = PriceList.from_file(sys.argv[1])
prices.load()
print(prices.cost(Usage(1_000_000, 1_000_000), ("my.model",), "openai"))
print("genai_prices" in sys.modules)
print(prices.cost(Usage(1_000_000, 0), ("gpt-3.5-turbo",), "openai"))
print("genai_prices" in sys.modules)
PriceList().load()
"""
    command = [sys.executable, "-c", script, str(own)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3.0", "False", "0.5", "True"]
