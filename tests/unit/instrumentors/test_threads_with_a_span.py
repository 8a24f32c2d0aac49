"""A thread that was given the current span, and not the context around it."""

from threading import Thread

from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from opentelemetry import trace


def test_a_model_in_a_thread_that_has_only_the_span_is_measured(measured):
    model = FakeListChatModel(responses=["one"])

    @tool
    def work(number: int) -> int:
        """Ask a model in a thread."""
        span = trace.get_current_span()

        def run():
            with trace.use_span(span):
                model.invoke("hi")

        thread = Thread(target=run)
        thread.start()
        thread.join()
        return number

    assert work.invoke({"number": 1}) == 1
    page = measured.page()
    assert page.sum("agent_llm_requests_total", status="ok") == 1
    assert page.sum("agent_tool_calls_total", status="ok") == 1
    assert page.sum("otel_coach_errors_total") == 0
