"""Bills as integrations hand them over, in shapes that were seen: each against the sum by hand."""

import asyncio
import re

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import (
    Generation,
    LLMResult,
)
from pydantic import Field

from otel_coach import Settings
from otel_coach.instrumentors.genai import usage_blocks
from otel_coach.testing import measuring
from tests.support.scripted_model import CALLS, COST, UNMEASURED, Scripted, counted, unmeasured

MTOK = 1_000_000


# Service tiers: langchain-openai puts their names in front of its details


@pytest.mark.parametrize(
    ("tier", "dollars"),
    [
        ("flex", (600 * 0.625 + 400 * 0.0625 + 100 * 5) / MTOK),
        ("priority", (600 * 2.5 + 400 * 0.25 + 100 * 20) / MTOK),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_service_tier_is_read_whole_and_has_its_price(measured, tier, dollars, is_streamed):
    told = counted(
        1000,
        100,
        input_token_details={f"{tier}_cache_read": 400, tier: 600},
        output_token_details={f"{tier}_reasoning": 40, tier: 60},
    )
    model = Scripted(
        answer=AIMessage("hi", usage_metadata=told),
        chunks=[AIMessageChunk("hi"), AIMessageChunk("", usage_metadata=told)],
    )
    list(model.stream("hi")) if is_streamed else model.invoke("hi")
    page = measured.page()
    assert page.sum("agent_llm_cached_tokens_total") == 400
    assert page.sum("agent_llm_reasoning_tokens_total") == 40
    assert page.sum(COST) == pytest.approx(dollars, abs=1e-12)
    assert unmeasured(page) == {}


def test_a_tier_without_a_known_price_has_none(measured):
    told = counted(10, 10)
    metadata = {"service_tier": "unheard-of"}
    Scripted(answer=AIMessage("", usage_metadata=told, response_metadata=metadata)).invoke("hi")
    page = measured.page()
    assert unmeasured(page) == {"no_price": 1}
    assert page.sum(COST) == 0


def test_a_part_that_is_not_known_is_said_once(measured, caplog, monkeypatch):
    monkeypatch.setattr(usage_blocks, "_named_parts", set())
    told = counted(10, 10, input_token_details={"smell": 3})
    for _ in range(2):
        Scripted(answer=AIMessage("", usage_metadata=told)).invoke("hi")
    measured.page()
    lines = [record.getMessage() for record in caplog.records]
    assert sum("input_token_details.smell" in line for line in lines) == 1


# What is paid besides tokens, or is stated


def test_a_cost_that_the_provider_states_comes_first(measured):
    block = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.0123}
    Scripted(llm_output={"token_usage": block}, provider="openrouter").invoke("hi")
    assert measured.page().sum(COST) == pytest.approx(0.0123)


def test_with_a_key_of_ones_own_the_providers_part_is_paid_too(measured):
    block = {"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.001, "is_byok": True}
    block["cost_details"] = {"upstream_inference_cost": 0.02}
    Scripted(llm_output={"token_usage": block}, provider="openrouter").invoke("hi")
    assert measured.page().sum(COST) == pytest.approx(0.021)


def test_searches_have_a_price_where_the_list_has_one(measured):
    block = {"input_tokens": 1000, "output_tokens": 100}
    block["server_tool_use"] = {"web_search_requests": 2}
    answer = AIMessage("hi", response_metadata={"usage": block})
    Scripted(answer=answer, provider="anthropic", model_name="claude-haiku-4-5").invoke("hi")
    page = measured.page()
    assert page.sum(COST) == pytest.approx((1000 * 1 + 100 * 5) / MTOK + 2 * 10 / 1000)
    assert unmeasured(page) == {}


def test_an_image_is_an_extra_fee(measured, caplog):
    answer = AIMessage(
        [{"type": "image_generation_call", "id": "ig_1"}, {"type": "text", "text": "hi"}],
        usage_metadata=counted(1000, 100),
    )
    for _ in range(3):
        Scripted(answer=answer).invoke("hi")
    page = measured.page()
    assert unmeasured(page) == {"extra_fee": 3}
    assert page.sum(COST) == pytest.approx(3 * (1000 * 1.25 + 100 * 10) / MTOK)
    (line,) = [one.getMessage() for one in caplog.records if "extra_fee" in one.getMessage()]
    assert "images" in line


IMAGES = {"model_name": "gemini-2.5-flash-image", "provider": "google_genai"}


def test_tokens_of_images_in_the_answer_have_their_own_price(measured):
    told = {**counted(10, 1300), "output_token_details": {"image": 1290}}
    Scripted(answer=AIMessage("here", usage_metadata=told), **IMAGES).invoke("draw")
    page = measured.page()
    assert page.sum(COST) == pytest.approx((10 * 0.3 + 10 * 2.5 + 1290 * 30) / MTOK)
    assert unmeasured(page) == {}


@pytest.mark.parametrize("parts", [{"text": 100}, {"text": 60, "reasoning": 40}])
def test_a_text_of_a_model_for_images_has_its_whole_price(measured, parts):
    told = {**counted(10, 100), "output_token_details": parts}
    Scripted(answer=AIMessage("no", usage_metadata=told), **IMAGES).invoke("draw")
    page = measured.page()
    assert page.sum(COST) == pytest.approx((10 * 0.3 + 100 * 2.5) / MTOK)
    assert unmeasured(page) == {}


def test_tokens_of_images_whose_number_is_not_told_are_an_extra_fee(measured, caplog):
    """langchain-google-genai tells only the sum."""
    Scripted(answer=AIMessage("here", usage_metadata=counted(10, 1300)), **IMAGES).invoke("draw")
    page = measured.page()
    assert page.sum(COST) == pytest.approx((10 * 0.3 + 1300 * 2.5) / MTOK)
    assert unmeasured(page) == {"extra_fee": 1}
    (line,) = [one.getMessage() for one in caplog.records if "extra_fee" in one.getMessage()]
    assert "output_image_tokens" in line


@pytest.mark.parametrize(
    ("reason", "cure", "model"),
    [
        ("no_usage", "stream_usage=True", Scripted()),
        ("no_usage", 'stream_options={"include_usage": True}', Scripted()),
        (
            "no_price",
            "OTEL_COACH_PRICES",
            Scripted(answer=AIMessage("hi", usage_metadata=counted(1, 1)), model_name="of-our-own"),
        ),
    ],
)
def test_one_line_a_model_names_the_cure(measured, caplog, reason, cure, model):
    for _ in range(3):
        model.invoke("hi")
    assert unmeasured(measured.page()) == {reason: 3}
    (line,) = [one.getMessage() for one in caplog.records if reason in one.getMessage()]
    assert cure in line
    assert model.model_name in line


def test_a_model_without_a_name_gets_a_price_as_the_log_says(tmp_path, caplog):
    path = tmp_path / "prices.json"
    nameless = Scripted(answer=AIMessage("hi", usage_metadata=counted(10, 1)), model_name="")
    with measuring() as measured:
        nameless.invoke("hi")
        assert unmeasured(measured.page()) == {"no_price": 1}
    (line,) = [one.getMessage() for one in caplog.records if "no_price" in one.getMessage()]
    assert "calls of a model without a name" in line
    (row,) = re.findall(r"\(({.*?}})\)", line)
    path.write_text(row)
    with measuring(Settings(prices_file=str(path))) as measured:
        nameless.invoke("hi")
        assert measured.page().sum(COST) == pytest.approx((10 * 1.0 + 1 * 2.0) / MTOK)


# Finish reasons, names and reasoning on the span


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"stop_reason": "end_turn"}, "end_turn"),
        ({"stopReason": "max_tokens"}, "max_tokens"),
        ({"status": "completed"}, "completed"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "max_output_tokens",
        ),
        ({"finish_reason": "any text, even a user's"}, "other"),
    ],
)
def test_a_finish_reason_is_on_the_span(measured, metadata, reason):
    Scripted(answer=AIMessage("hi", response_metadata=metadata)).invoke("hi")
    (span,) = measured.spans
    assert span.attributes["gen_ai.response.finish_reasons"] == (reason,)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("anthropic-bedrock", "aws.bedrock"),
        ("anthropic-mantle", "aws.bedrock"),
        ("openai-mantle", "aws.bedrock"),
        ("mistral", "mistral_ai"),
        ("mistralai", "mistral_ai"),
        ("openai", "openai"),
        ("somebody", "somebody"),
    ],
)
def test_a_provider_has_the_name_of_the_conventions(measured, provider, name):
    Scripted(provider=provider).invoke("hi")
    assert measured.spans[0].attributes["gen_ai.provider.name"] == name


def test_reasoning_tokens_are_on_the_span(measured):
    told = counted(10, 50, output_token_details={"reasoning": 40})
    Scripted(answer=AIMessage("hi", usage_metadata=told)).invoke("hi")
    assert measured.spans[0].attributes["gen_ai.usage.reasoning.output_tokens"] == 40


# Text models


class Text(BaseLLM):
    """A text model that answers all prompts in one call, as OpenAI's completions API does."""

    token_usage: dict = Field(default_factory=dict)
    info: dict | None = None

    @property
    def _llm_type(self):
        return "openai"

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "openai", "ls_model_name": "gpt-3.5-turbo-instruct"}

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        generations = [[Generation(text="hi", generation_info=self.info)] for _ in prompts]
        return LLMResult(generations=generations, llm_output={"token_usage": self.token_usage})


def test_the_usage_of_a_batch_is_with_its_first_call(measured):
    told = {"prompt_tokens": 30, "completion_tokens": 6}
    Text(token_usage=told).batch(["a", "b", "c"])
    page = measured.page()
    assert page.sum(CALLS) == 3
    assert page.sum("agent_llm_tokens_total") == 36
    assert unmeasured(page) == {}


class SlowStarts(AsyncCallbackHandler):
    """An application's handler, for which the later starts take longer, or the earlier ones."""

    def __init__(self, *, backwards):
        self.backwards = backwards
        self.starts = 0

    async def on_llm_start(self, *_args, **_kwargs):
        self.starts += 1
        steps = 50 - self.starts if self.backwards else self.starts
        for _ in range(steps):
            await asyncio.sleep(0)


@pytest.mark.parametrize("backwards", [True, False])
def test_the_starts_of_concurrent_batches_may_mix(measured, backwards):
    model = Text(token_usage={"prompt_tokens": 30, "completion_tokens": 6})
    callbacks = [SlowStarts(backwards=backwards)]

    async def concurrently():
        batches = (model.agenerate(["a", "b"], callbacks=callbacks) for _ in range(10))
        await asyncio.gather(*batches)

    asyncio.run(concurrently())
    page = measured.page()
    assert page.sum(CALLS) == 20
    assert page.sum("agent_llm_tokens_total") == 10 * 36
    assert page.sum(UNMEASURED, error_type="no_usage") == 0


def test_a_batch_without_usage_beside_one_with_usage_has_none(measured):
    async def concurrently():
        callbacks = [SlowStarts(backwards=True)]
        with_usage = Text(token_usage={"prompt_tokens": 30, "completion_tokens": 6})
        await asyncio.gather(
            with_usage.agenerate(["a", "b"], callbacks=callbacks),
            Text().agenerate(["a", "b", "c"], callbacks=callbacks),
        )

    asyncio.run(concurrently())
    assert measured.page().sum(UNMEASURED, error_type="no_usage") == 3


def test_a_batch_without_usage_has_none(measured):
    Text().batch(["a", "b", "c"])
    assert unmeasured(measured.page()) == {"no_usage": 3}


def test_the_usage_of_a_text_model_may_be_with_its_text(measured):
    Text(info={"prompt_eval_count": 11, "eval_count": 18, "done_reason": "stop"}).invoke("hi")
    assert measured.page().sum("agent_llm_tokens_total") == 29
    assert measured.spans[0].attributes["gen_ai.response.finish_reasons"] == ("stop",)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        # Cohere's stream: token_count, in floats.
        ({"token_count": {"input_tokens": 66.0, "output_tokens": 9.0}}, (66, 9, 0)),
        # Together's own name for cached tokens.
        (
            {"token_usage": {"prompt_tokens": 50, "completion_tokens": 5, "cached_tokens": 20}},
            (50, 5, 20),
        ),
        # DeepSeek has both.
        (
            {
                "token_usage": {
                    "prompt_tokens": 50,
                    "completion_tokens": 5,
                    "prompt_cache_hit_tokens": 20,
                    "prompt_tokens_details": {"cached_tokens": 20},
                }
            },
            (50, 5, 20),
        ),
    ],
)
def test_usage_under_other_names(measured, block, expected):
    Scripted(answer=AIMessage("hi", response_metadata=block)).invoke("hi")
    page = measured.page()
    assert (
        page.sum("agent_llm_tokens_total", mode="prompt"),
        page.sum("agent_llm_tokens_total", mode="completion"),
        page.sum("agent_llm_cached_tokens_total"),
    ) == expected
