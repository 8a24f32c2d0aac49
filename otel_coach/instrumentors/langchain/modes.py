"""The application's mode, where it states one for a run."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from otel_coach import compatibility
from otel_coach.request import labelled_mode
from otel_coach.vocabulary import stated_mode

if TYPE_CHECKING:
    from otel_coach.instrumentors.langchain.runs import Run


def input_mode(inputs: Any) -> str | None:
    """What the input of a graph says."""
    if isinstance(inputs, dict):
        return stated_mode(cast("dict[str, Any]", inputs).get("mode"))
    return stated_mode(getattr(inputs, "mode", None))


def mode_of(run: Run, metadata: dict[str, Any]) -> str | None:
    """The application's mode for `run`; None where it states none."""
    configurable: Any = (_current_config().get() or {}).get("configurable") or {}
    return (
        labelled_mode()
        or stated_mode(metadata.get("mode"))
        or stated_mode(configurable.get("mode"))
        or _graph_input_mode(run)
    )


@cache
def _current_config() -> ContextVar[Any]:
    if not compatibility.holds(compatibility.CONFIG):
        return ContextVar("otel_coach_no_config", default=None)
    from langchain_core.runnables.config import (  # noqa: PLC0415 - not while LangChain loads
        var_child_runnable_config,
    )

    return var_child_runnable_config


def _graph_input_mode(run: Run | None) -> str | None:
    """What the closest graph around says in its input."""
    while run is not None:
        if run.input_mode is not None and run.span is not None:
            return run.input_mode
        run = run.parent
    return None
