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
    # The fake model names no usage, which is one line.
    assert [line for line in found.stderr.splitlines() if "no_usage" not in line] == []


def test_no_price_is_read_before_a_model_is_looked_for():
    script = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from otel_coach.pricing.price_list import CallDetails, PriceList, Usage
prices = PriceList()
print(any(path.endswith("prices.tsv") for path in opened))
prices.priced(Usage(1, 1), ("gpt-4o",), CallDetails("openai"))
print(any(path.endswith("prices.tsv") for path in opened))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "True"]


def test_prices_need_the_standard_library_alone():
    script = """
import otel_coach, sys
before = {*sys.modules}
from otel_coach.pricing.price_list import CallDetails, PriceList, Usage
print(PriceList().priced(Usage(1_000_000, 0), ("gpt-3.5-turbo",), CallDetails("openai")).usd)
tops = {name.partition(".")[0] for name in sys.modules.keys() - before}
print(*sorted(tops - sys.stdlib_module_names - {"otel_coach"}))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["0.5", ""]
