"""One LLM call by a provider's own package, without a framework in between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from otel_coach.core.plain import text_of
from otel_coach.instrumentors.genai.billing import BilledMessage, Billing
from otel_coach.instrumentors.genai.model_call import ModelCall
from otel_coach.instrumentors.genai.usage_blocks import as_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_coach.instrumentors.genai.runs import Run

_END_OF_STREAM: Final = "[DONE]"


class ResponseError(Exception):
    """The answer says that the provider failed, and the package raised nothing."""


class DirectCall(ModelCall):
    """One call of a provider's API; what is measured is read from its answer or its chunks.

    Answers and chunks are the package's own objects, or the same JSON with attributes instead of
    keys (`as_object`); any attribute may be missing.

    Args:
        parent: the run around the call.
        body: the request's JSON.
        provider: the name of the provider.
        keeps_content: whether the text of the answer is kept.
    """

    __slots__ = (
        "answered_model",
        "failure",
        "finish_reasons",
        "gives_way",
        "is_finished",
        "output",
        "paid_items",
        "parameters",
        "tier",
        "usage_block",
    )

    def __init__(
        self,
        parent: Run | None,
        body: Mapping[str, Any],
        provider: str | None,
        *,
        keeps_content: bool = False,
    ) -> None:
        super().__init__(parent, body.get("model"), provider)
        self.parameters = body
        """The request's JSON, until the call has begun."""
        self.gives_way = False
        self.answered_model: object = None
        self.usage_block: object = None
        """The last block of usage in the answer."""
        self.tier: object = None
        """The service tier that the answer names."""
        self.paid_items: list[str] = []
        """The types of the answer's items that are paid besides tokens."""
        self.finish_reasons: list[object] = []
        self.is_finished = False
        """Whether the whole answer has come: if a stream is left after that, the call is ok."""
        self.failure: Exception | None = None
        """Set if the answer itself says that the provider failed."""
        self.output: list[Any] | None = [] if keeps_content else None
        """The answer so far, as `answer_messages` reads it; None if content is not kept."""

    # What each API overrides

    def prompt_messages(self) -> Sequence[object]:
        """Returns the messages of the request, as `message_from` makes them."""
        raise NotImplementedError

    def chunk_came(self, chunk: Any) -> None:
        """Notes one chunk of a stream."""
        raise NotImplementedError

    def answer_came(self, answer: Any) -> None:
        """Notes the whole answer of a call without a stream."""
        raise NotImplementedError

    def answer_messages(self) -> Sequence[object]:
        """Returns the messages of the answer; called only if content is kept."""
        raise NotImplementedError

    # What the APIs share

    def event_came(self, data: str) -> None:
        """Notes the data of one server-sent event, where the application reads the raw stream."""
        if data == _END_OF_STREAM:
            self.is_finished = True
            return
        event = as_object(data)
        if getattr(event, "error", None):
            self.failure = ResponseError()
        self.chunk_came(event)

    def finished(self, reason: object) -> None:
        """Notes the last finish reason: if the stream is left after that, the call is ok."""
        self.finish_reasons.append(reason)
        self.finish_reason = text_of(reason)
        self.is_finished = True

    def billing(self) -> Billing:
        """Returns what is known of the answer's bill."""
        common = {
            "model_name": self.answered_model,
            "usage": dumped(self.usage_block),
            "service_tier": self.tier,
        }
        reasons = [{"finish_reason": text_of(reason)} for reason in self.finish_reasons]
        metadata = [common | (reasons[0] if reasons else {}), *reasons[1:]]
        items = (tuple(self.paid_items), *[()] * len(metadata))
        messages = zip(metadata, items, strict=False)
        return Billing(tuple(BilledMessage(None, one, paid) for one, paid in messages), None)

    def content(self) -> object:
        """Returns what the answer says, in the form that `ContentCapture` reads."""
        messages = self.answer_messages() if self.output is not None else ()
        generations = [SimpleNamespace(message=message) for message in messages]
        return SimpleNamespace(generations=[generations])


def message_from(
    role: object, content: object, calls: Sequence[object] = (), answers: object = None
) -> Any:
    """Returns a message in the form of LangChain's messages, which `ContentCapture` reads.

    `calls` are tool calls; `answers` is the id of the tool call whose result the message is.
    """
    return SimpleNamespace(
        type="tool" if answers else text_of(role),
        role="tool" if answers else text_of(role),
        content=content,
        tool_calls=list(calls),
        tool_call_id=answers,
    )


def tool_call(call_id: object, name: object, arguments: object) -> dict[str, object]:
    """Returns a tool call for `message_from`; `arguments` may be JSON text."""
    if isinstance(arguments, str):
        with suppress(ValueError):  # a stream that broke off: the text as far as it came
            arguments = json.loads(arguments)
    return {"id": call_id, "name": name, "args": arguments}


def as_object(data: str | bytes) -> Any:
    """Returns JSON as objects with attributes; None if it is no JSON."""
    try:
        return json.loads(data, object_hook=_with_attributes)
    except ValueError:
        return None


def dumped(value: object) -> object:
    """Returns an object of a package, or of `as_object`, as a mapping; others as they are."""
    if isinstance(value, SimpleNamespace):
        return {key: dumped(part) for key, part in vars(value).items()}
    if isinstance(value, list):
        return [*map(dumped, cast("list[object]", value))]
    dump: Any = getattr(value, "model_dump", None) or getattr(value, "dict", None)  # pydantic 2, 1
    return dump() if callable(dump) else value


def fields(value: object) -> Mapping[str, Any]:
    """Returns a part of a request as a mapping: applications pass mappings and objects alike."""
    mapping = value if isinstance(value, Mapping) else dumped(value)
    return cast("Mapping[str, Any]", mapping) if isinstance(mapping, Mapping) else {}


def listed_fields(value: object) -> Iterator[Mapping[str, Any]]:
    """Yields the parts of a list in a request, each as a mapping."""
    return map(fields, as_sequence(value))


def _with_attributes(parts: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**parts)
