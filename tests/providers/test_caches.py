"""A cache that keeps texts only, as semantic caches do: what it answers reached no provider."""

import pytest
from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation
from langchain_openai import ChatOpenAI

from tests.support.agents import CALLS as REQUESTS
from tests.support.providers.double import Answer
from tests.support.providers.integrations import KEY
from tests.support.providers.ways import CALLS


class TextCache(BaseCache):
    """Finds what it kept for any question, and has nothing of the message but its text."""

    def __init__(self):
        self.text = None

    def lookup(self, prompt, llm_string):
        return None if self.text is None else [Generation(text=self.text)]

    def update(self, prompt, llm_string, return_val):
        self.text = return_val[0].text

    def clear(self, **kwargs):
        self.text = None


@pytest.mark.parametrize("way", CALLS)
def test_what_a_cache_of_texts_answers_is_no_call(observe, way):
    def three_times(model):
        for _ in range(3):
            CALLS[way](model)

    model = ChatOpenAI(model="gpt-5.2", api_key=KEY, cache=TextCache())
    outcome = observe(three_times, model, Answer(), Answer(), Answer())
    assert outcome.error is None
    assert outcome.page.sum(REQUESTS) == len(outcome.calls)
    assert outcome.tokens("prompt") == sum(call.prompt for call in outcome.calls)
    assert outcome.unmeasured("no_usage") == 0
    assert len(outcome.calls) == 1 or "stream" in way
