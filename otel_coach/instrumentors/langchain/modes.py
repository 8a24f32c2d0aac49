"""Finds the mode that the application states for a run."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from otel_coach.core import compatibility
from otel_coach.core.request_context import stated_mode
from otel_coach.metrics.mode_label import labelled_mode, mode_of_response

if TYPE_CHECKING:
    from uuid import UUID

    from otel_coach.instrumentors.genai.runs import Run


def input_mode(inputs: Any) -> str | None:
    """Returns the mode in the input of a graph, None if it has none."""
    if isinstance(inputs, dict):
        return stated_mode(cast("dict[str, Any]", inputs).get("mode"))
    return stated_mode(getattr(inputs, "mode", None))


def mode_of(run: Run, metadata: dict[str, Any]) -> str | None:
    """Returns the application's mode for `run`, None if it states none."""
    configurable: Any = (_current_config().get() or {}).get("configurable") or {}
    return (
        labelled_mode()
        or stated_mode(metadata.get("mode"))
        or stated_mode(configurable.get("mode"))
        or _graph_input_mode(run)
        or mode_of_response()
    )


def current_parent_id() -> UUID | None:
    """Returns the id of the run inside of which the current code is executed, None outside."""
    callbacks: Any = (_current_config().get() or {}).get("callbacks")
    return getattr(callbacks, "parent_run_id", None)


@cache
def _current_config() -> ContextVar[Any]:
    if not compatibility.holds(compatibility.CONFIG):
        return ContextVar("otel_coach_no_config", default=None)
    from langchain_core.runnables.config import var_child_runnable_config  # noqa: PLC0415 - not while LangChain loads

    return var_child_runnable_config


def _graph_input_mode(run: Run | None) -> str | None:
    """Returns the mode in the input of the closest graph around `run`."""
    while run is not None:
        if run.input_mode is not None and run.span is not None:
            return run.input_mode
        run = run.parent
    return None
