"""Helpers for tests of services that use otel-coach: measure this process and read the results.

    def test_a_chat_calls_the_model_once(measured):  # a fixture of the pytest plugin
        client.post("/v1/coaching/chat", json={"message": "hi"})
        assert measured.page().sum("agent_llm_requests_total", status="ok") == 1

Without pytest, `with measuring() as measured:` does the same. `ScriptedProvider` answers as
OpenAI's API does, by the script of a test.
"""

from otel_coach.testing.measurement import Measured, measuring
from otel_coach.testing.metrics_page import Page
from otel_coach.testing.script import Call, Failure, ToolCall
from otel_coach.testing.scripted_provider import ScriptedProvider

__all__ = ["Call", "Failure", "Measured", "Page", "ScriptedProvider", "ToolCall", "measuring"]
