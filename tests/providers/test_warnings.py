"""One line in the log for each model at its first call that is not measured, with the remedy."""

import logging

import pytest
from langchain_openai import ChatOpenAI

from tests.support.providers.double import Answer
from tests.support.providers.integrations import KEY
from tests.support.providers.ways import CALLS

IMAGE = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "eA=="}


def _lines(caplog, model):
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING
        and record.name.startswith("otel_coach")
        and model in record.getMessage()
    ]


def _twice(way):
    def calling(model):
        CALLS[way](model)
        CALLS[way](model)

    return calling


@pytest.mark.parametrize(
    ("arguments", "way", "answer", "reason", "remedy"),
    [
        ({"stream_usage": False}, "stream", Answer(), "no_usage", "stream_usage=True"),
        ({"model": "model-of-nobody"}, "invoke", Answer(), "no_price", "OTEL_COACH_PRICES"),
        (
            {"use_responses_api": True},
            "invoke",
            Answer(extra={"output": [IMAGE]}),
            "extra_fee",
            "newer price list",
        ),
    ],
    ids=["no_usage", "no_price", "extra_fee"],
)
def test_one_line_for_each_model(observe, caplog, arguments, way, answer, reason, remedy):
    model = ChatOpenAI(**{"model": "gpt-5.2", "api_key": KEY, **arguments})
    with caplog.at_level(logging.WARNING):
        outcome = observe(_twice(way), model, answer, answer)
    assert outcome.unmeasured(reason) == 2
    lines = _lines(caplog, model.model_name)
    assert len(lines) == 1
    assert remedy in lines[0]
    assert reason in lines[0]


def test_a_call_that_is_measured_says_nothing(observe, caplog):
    with caplog.at_level(logging.WARNING):
        observe(CALLS["invoke"], ChatOpenAI(model="gpt-5.2", api_key=KEY), Answer())
    assert not _lines(caplog, "gpt-5.2")
