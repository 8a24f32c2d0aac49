"""Finds out whether a tool has handled an error itself: its answer then has a message that says so.

The answer is a ToolMessage of LangChain's, a Command of LangGraph's whose update of the state has
one, or a list of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast


def says_error(output: object, call_id: object = None) -> bool:
    """Returns whether the answer of a tool says that its call `call_id` failed.

    An update of the state may repeat the messages of earlier calls: only the one of this call
    counts; if its id is not known, the last one.
    """
    return any(
        getattr(message, "status", None) == "error" and call_id in {None, message.tool_call_id}
        for message in _answers(output, call_id)
    )


def _answers(output: Any, call_id: object) -> Iterator[Any]:
    """Yields the messages that may be the tool's answer."""
    if isinstance(output, list | tuple):
        # A tool may return a long list of anything; only a list that begins with an answer counts.
        items = cast("list[object]", output)
        if items and (_is_answer(items[0]) or _is_command(items[0])):
            for item in items:
                if not isinstance(item, list | tuple):
                    yield from _answers(item, call_id)
    elif _is_answer(output):
        yield output
    elif _is_command(output):
        messages = list(_messages(output.update))
        yield from messages if call_id is not None else messages[-1:]


def _messages(update: Any) -> Iterator[Any]:
    """Yields the tools' messages in an update of the state, in each form that LangGraph takes."""
    if isinstance(update, Mapping):
        values = cast("Mapping[object, Any]", update).values()
    elif isinstance(update, list | tuple):
        pairs = cast("list[Any]", update)
        values = [one[-1] if isinstance(one, tuple) and one else one for one in pairs]
    else:  # an object with the state's fields
        values = vars(update).values() if hasattr(update, "__dict__") else ()
    for value in values:
        for one in cast("list[object]", value) if isinstance(value, list | tuple) else (value,):
            if _is_answer(one):
                yield one


def _is_answer(output: object) -> bool:
    return getattr(output, "type", None) == "tool" and hasattr(output, "tool_call_id")


def _is_command(output: object) -> bool:
    return hasattr(output, "update") and hasattr(output, "goto")
