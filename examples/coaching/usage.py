"""The service's own log of the tokens that it uses."""

import logging
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

logger = logging.getLogger(__name__)


class UsageLogger(AsyncCallbackHandler):
    """Logs how many tokens each model call used."""

    async def on_llm_end(self, response: LLMResult, **_: Any) -> None:  # noqa: ANN401
        """Log the usage, if the provider reported it."""
        for choices in response.generations:
            for choice in choices:
                if isinstance(choice, ChatGeneration) and isinstance(choice.message, AIMessage):
                    logger.info("Tokens used: %s", choice.message.usage_metadata)
