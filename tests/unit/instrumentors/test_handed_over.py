"""What the integration packages hand over, as `make docs-providers` wrote it down, measured again.

The figures are the provider's ledger of the call; what a package withholds is not expected.
"""

import json

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
    LLMResult,
)

from tests.support.paths import SUPPORT
from tests.support.scripted_model import CALLS, COST, UNMEASURED

SHAPES = [
    json.loads(line)
    for line in (SUPPORT / "providers" / "shapes.jsonl").read_text("utf-8").splitlines()
]
PARTS = ("content", "additional_kwargs", "response_metadata", "usage_metadata")


def _generation(shape, message_class, generation_class, text_class):
    if "generation_info" not in shape:
        return None  # a token without its chunk
    if "content" not in shape:
        text = shape.get("text") or shape.get("token") or ""
        return text_class(text=text, generation_info=shape["generation_info"])
    parts = {key: shape[key] for key in PARTS}
    if shape.get("tool_call_chunks"):
        parts["tool_call_chunks"] = shape["tool_call_chunks"]
    return generation_class(
        message=message_class(**parts), generation_info=shape["generation_info"]
    )


def _replay(shape):
    start = shape["start"]
    manager = CallbackManager.configure(inheritable_metadata=start["metadata"])
    arguments = {"invocation_params": start["invocation_params"]}
    if start["kind"] == "chat":
        runs = manager.on_chat_model_start(start["serialized"], [[HumanMessage("hi")]], **arguments)
    else:
        runs = manager.on_llm_start(start["serialized"], ["hi"], **arguments)
    (run,) = runs
    for chunk in shape["chunks"]:
        handed = _generation(chunk, AIMessageChunk, ChatGenerationChunk, GenerationChunk)
        run.on_llm_new_token(chunk["token"], chunk=handed)
    generations = [
        _generation(one, AIMessage, ChatGeneration, Generation)
        for one in shape["end"]["generations"]
    ]
    run.on_llm_end(LLMResult(generations=[generations], llm_output=shape["end"]["llm_output"]))


def _bill(ledger, price, cached):
    """US dollars, by prices for a million tokens and for a request."""
    prompt, completion, read, request = price
    read = prompt if read is None else read
    tokens = (ledger["prompt"] - cached) * prompt + cached * read
    return (tokens + ledger["completion"] * completion) / 1_000_000 + request


@pytest.mark.parametrize("shape", SHAPES, ids=lambda one: f"{one['name']}-{one['way']}")
def test_the_figures_are_the_providers(measured, shape):
    _replay(shape)
    ledger, withheld = shape["ledger"], shape["withheld"]
    page = measured.page()
    assert page.sum(CALLS, model=shape["model"], status="ok") == page.sum(CALLS) == 1
    assert page.sum("agent_llm_tokens_total", mode="prompt") == ledger["prompt"]
    assert page.sum("agent_llm_tokens_total", mode="completion") == ledger["completion"]
    cached = 0 if "cached" in withheld else ledger["cached"]
    assert page.sum("agent_llm_cached_tokens_total") == cached
    reasoning = 0 if "reasoning" in withheld else ledger["reasoning"]
    assert page.sum("agent_llm_reasoning_tokens_total") == reasoning
    if shape["stated_cost"] is not None and "cost" not in withheld:
        assert page.sum(COST) == pytest.approx(shape["stated_cost"], rel=1e-9)
    elif shape["price"] is None:
        assert page.sum(COST) == 0
        assert page.sum(UNMEASURED, error_type="no_price") == 1
    else:
        assert page.sum(COST) == pytest.approx(_bill(ledger, shape["price"], cached), rel=1e-9)
    (span,) = [span for span in measured.spans if span.name.startswith("chat ")]
    assert span.attributes["gen_ai.provider.name"] == shape["provider"]
    finish = () if "finish" in withheld else (ledger["finish"],)
    assert span.attributes.get("gen_ai.response.finish_reasons", ()) == finish
