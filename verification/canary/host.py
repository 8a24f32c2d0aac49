"""Applications that use other packages' instrumentations; `python host.py NAME` runs one of them.

They contain nothing of otel-coach. `opentelemetry-instrument`, which runs them, loads the
instrumentations of openinference and openllmetry that are installed.
"""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

from langchain_openai import ChatOpenAI
from opentelemetry import baggage, context, trace

URL = os.environ["DOUBLE"]
SECRET = {name.removeprefix("CANARY_"): value for name, value in os.environ.items()}
PROMPT = [{"role": "user", "content": SECRET["PROMPT"]}]
SAID = {"model": "gpt-canary", "messages": PROMPT, "user": SECRET["USER"]}
CONFIG = {
    "run_name": f"agent of {SECRET['USER']}",
    "tags": [SECRET["USER"]],
    "metadata": {"user_id": SECRET["USER"], "session_id": SECRET["SESSION"]},
}


def chat(*, config=None):
    model = ChatOpenAI(model="gpt-canary", base_url=f"{URL}/v1", max_retries=0)
    assert SECRET["ANSWER"] in model.invoke(SECRET["PROMPT"], {**CONFIG, **(config or {})}).content


@contextmanager
def work():
    """Does a user's request, with baggage, in a span of the application."""
    token = context.attach(baggage.set_baggage("user_id", SECRET["BAGGAGE"]))
    try:
        with trace.get_tracer("canary.app").start_as_current_span("of the application"):
            yield
    finally:
        context.detach(token)


def langchain():
    from openinference.instrumentation import using_attributes

    user = using_attributes(user_id=SECRET["USER"], session_id=SECRET["SESSION"])
    with work(), user:
        chat()


def openai_alone():
    import openai

    with work():
        openai.OpenAI(base_url=f"{URL}/v1").chat.completions.create(**SAID)


def _ask_anthropic():
    import anthropic

    anthropic.Anthropic(base_url=URL).messages.create(
        model="claude-canary",
        max_tokens=9,
        messages=PROMPT,
        metadata={"user_id": SECRET["USER"]},
    )


def anthropic_alone():
    with work():
        _ask_anthropic()


def anthropic_below_langchain():
    from langchain_anthropic import ChatAnthropic

    with work():
        ChatAnthropic(model="claude-canary", base_url=URL).invoke(SECRET["PROMPT"], CONFIG)


def langfuse():
    from langfuse import Langfuse, observe, propagate_attributes
    from langfuse.langchain import CallbackHandler

    Langfuse(public_key="pk", secret_key=SECRET["KEY"], base_url=URL)

    @observe(name="remember")
    def remember(text):
        return f"{SECRET['ANSWER']} {text}"

    user = propagate_attributes(
        user_id=SECRET["USER"],
        session_id=SECRET["SESSION"],
        metadata={"mail": SECRET["USER"]},
    )
    with work(), user:
        remember(SECRET["PROMPT"])
        chat(config={"callbacks": [CallbackHandler()]})


def logfire():
    import logfire
    import openai

    # Otherwise logfire would export its own spans there, in addition to those through otel-coach.
    del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    logfire.configure(send_to_logfire=False, console=False)
    client = openai.OpenAI(base_url=f"{URL}/v1")
    logfire.instrument_openai(client)
    with work(), logfire.span("hello {name}", name=SECRET["USER"]):
        logfire.info("asked {prompt}", prompt=SECRET["PROMPT"])
        client.chat.completions.create(**SAID)
        chat()


def traceloop():
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import workflow

    Traceloop.init(api_endpoint=URL, api_key=SECRET["KEY"], telemetry_enabled=False)
    Traceloop.set_association_properties({"user_id": SECRET["USER"]})

    @workflow(name="remember")
    def remember(text):
        chat()
        return f"{SECRET['ANSWER']} {text}"

    with work():
        remember(SECRET["PROMPT"])


def openlit():
    import openai
    import openlit

    Path("prices.json").write_text("{}")  # else it downloads them
    openlit.init(disable_metrics=True, pricing_json="prices.json")
    with work():
        openai.OpenAI(base_url=f"{URL}/v1").chat.completions.create(**SAID)
        _ask_anthropic()
        chat()


globals()[sys.argv[1]]()
