"""Models of work that a client may leave, and notes of what a provider would bill."""

import asyncio
import time

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

TOKENS = 50
"""Of each call."""


class Notes:
    """What was done, with the time of each token."""

    def __init__(self, pause=0.02):
        self.pause = pause
        self.tokens = []
        self.tool = 0
        self.raised = []

    def forget(self):
        self.__init__(self.pause)


class Slow(BaseChatModel):
    """A model that makes one token after the other, and notes each."""

    notes: object
    model_name: str = "gpt-5"

    @property
    def _llm_type(self):
        return "openai"

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "openai", "ls_model_name": self.model_name}

    def _token(self):
        self.notes.tokens.append(time.monotonic())
        return ChatGenerationChunk(message=AIMessageChunk("w "))

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for _ in range(TOKENS):
            time.sleep(self.notes.pause)
            chunk = self._token()
            if run_manager:
                run_manager.on_llm_new_token("w ", chunk=chunk)
            yield chunk

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for _ in range(TOKENS):
            await asyncio.sleep(self.notes.pause)
            chunk = self._token()
            if run_manager:
                await run_manager.on_llm_new_token("w ", chunk=chunk)
            yield chunk

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        for _ in range(TOKENS):
            time.sleep(self.notes.pause)
            self._token()
        return ChatResult(generations=[ChatGeneration(message=AIMessage("w"))])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        for _ in range(TOKENS):
            await asyncio.sleep(self.notes.pause)
            self._token()
        return ChatResult(generations=[ChatGeneration(message=AIMessage("w"))])


async def losing(awaitable):
    """Awaits as `asyncio.wait_for` does before Python 3.12, if a cancellation and the result come

    together: the result is returned, and the cancellation is lost.
    """
    waiting = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        return await waiting


class Losing(Slow):
    """A model that loses a cancellation between two tokens, as integrations may."""

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for _ in range(TOKENS):
            await losing(asyncio.sleep(self.notes.pause))
            yield self._token()
