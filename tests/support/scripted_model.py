"""A model that answers as a test says, and what tests of bills have in common."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

CALLS = "agent_llm_requests_total"
COST = "agent_llm_cost_usd_total"
UNMEASURED = "agent_llm_unmeasured_total"


class Scripted(BaseChatModel):
    """A model that answers with the given message, or streams the given chunks."""

    answer: AIMessage = AIMessage("hi")
    llm_output: dict | None = None
    chunks: list[AIMessageChunk] = Field(default_factory=list)
    breaks: bool = False
    model_name: str = "gpt-5"
    provider: str = "openai"

    @property
    def _llm_type(self):
        return self.provider

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": self.provider, "ls_model_name": self.model_name}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        generations = [ChatGeneration(message=self.answer.model_copy())]
        return ChatResult(generations=generations, llm_output=self.llm_output)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for message in self.chunks:
            chunk = ChatGenerationChunk(message=message.model_copy())
            if run_manager:
                run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
            yield chunk
        if self.breaks:
            raise ConnectionError


def counted(prompt, completion, **details):
    return {
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        **details,
    }


def unmeasured(page):
    return {
        reason: page.sum(UNMEASURED, error_type=reason)
        for reason in ("no_usage", "no_price", "extra_fee")
        if page.sum(UNMEASURED, error_type=reason)
    }
