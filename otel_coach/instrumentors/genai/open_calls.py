"""Measures the calls by a provider's package that no framework makes, from start to end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

from opentelemetry import context as otel_context

from otel_coach.core.guard import guarded
from otel_coach.core.spans import CURRENT_RUN
from otel_coach.instrumentors.genai.direct_call import DirectCall, as_object
from otel_coach.instrumentors.genai.direct_embedding import DirectEmbedding, EmbeddingPart
from otel_coach.instrumentors.genai.other_spans import another_makes_the_span
from otel_coach.instrumentors.genai.provider_package import address_of
from otel_coach.instrumentors.genai.run_recorder import RunRecorder
from otel_coach.instrumentors.genai.watched_stream import watch_bytes, watch_chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from opentelemetry.context import Context

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.instrumentors.genai.billing import Billing
    from otel_coach.instrumentors.genai.enclosing import Enclosing
    from otel_coach.instrumentors.genai.provider_package import ProviderPackage
    from otel_coach.instrumentors.genai.run_recorder import RunArguments
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder

    AnyCall = DirectCall | DirectEmbedding
    _Token = Token[Context]

_MAX_OPEN_CALLS: Final = 50_000
_GIVES_WAY: Final = (
    "another instrumentation makes the spans of calls by the {name} package; otel-coach makes "
    "none, and measures the calls as before"
)


class OpenCalls:
    """The open calls by the clients of one package.

    Args:
        package: what is known of the package.
        announce: logs a line about a topic, once.
        arguments: those of `RunRecorder`.
    """

    def __init__(
        self,
        package: ProviderPackage,
        announce: AnnounceOnce | None = None,
        **arguments: Unpack[RunArguments],
    ) -> None:
        self._package = package
        self._announce = announce
        self._run_recorder = RunRecorder(**arguments)
        self.recorder: Recorder = self._run_recorder.recorder
        self._open: dict[int, AnyCall] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, path: str, options: Any, client: Any, around: Enclosing) -> AnyCall:
        """Starts the call that a request to the endpoint at `path` makes, within `around`."""
        body: Any = options.json_data
        call = self._started(
            self._package.class_of(path),
            cast("Mapping[str, Any]", body) if isinstance(body, Mapping) else {},
            client,
            around,
        )
        self._watch_parser(call, options)
        self._open[id(call)] = call
        if len(self._open) > _MAX_OPEN_CALLS:
            self.leave(next(iter(self._open.values())))
        return call

    @staticmethod
    def part_of(call: Any) -> EmbeddingPart | None:
        """Returns a new part, one request, of `call`, an open call of an embedding model.

        Returns None for a `DirectEmbedding`, which is one request: where `request` is patched in
        two classes of a client, the inner patch gets here with the same request again.
        """
        return None if isinstance(call, DirectEmbedding) else EmbeddingPart(call)

    def _started(
        self, kind: type[AnyCall], body: Mapping[str, Any], client: Any, around: Enclosing
    ) -> AnyCall:
        provider, api_url = self._package.provider_of(client), address_of(client)
        gives_way = another_makes_the_span(self._package.other_instrumentations)
        if gives_way and self._announce is not None:
            name = self._package.name
            self._announce(f"spans of {name}", partial(_GIVES_WAY.format, name=name))
        if not issubclass(kind, DirectCall):
            embedding = kind(around.run, body, provider)
            embedding.gives_way = gives_way
            embedding.api_url = api_url
            self._run_recorder.start_embedding(embedding)
            return embedding
        captures = self._run_recorder.content is not None
        call = kind(around.run, body, provider, keeps_content=captures)
        call.mode = around.mode
        call.gives_way = gives_way
        call.api_url = api_url
        self._run_recorder.start_call(call, self._prompt(call) if captures else None)
        self._run_recorder.announce(call)
        call.parameters = {}  # so that a stream does not keep its prompt
        return call

    @guarded
    def enter(self, call: AnyCall | EmbeddingPart) -> _Token | None:
        """Makes the call's span current while the package sends its request."""
        if isinstance(call, EmbeddingPart):
            return None
        inside = call.context
        if inside is None:  # a provider must get no trace headers, even if there is no span
            inside = otel_context.set_value(CURRENT_RUN, call)
        return otel_context.attach(inside)

    @guarded
    def exit(self, token: _Token | None) -> None:
        """Restores the caller's context."""
        if token is not None:
            otel_context.detach(token)

    @guarded
    def goes_on_after(self, call: AnyCall | EmbeddingPart, answer: Any, *, is_stream: bool) -> bool:
        """Notes what `request` returned; returns whether the call goes on, as a stream is read."""
        response: Any = getattr(answer, "http_response", None)  # of a raw response
        if response is None and hasattr(answer, "iter_raw"):
            response = answer  # the application asked for httpx's own response
        if response is not None and response.is_closed:
            self._note(call, as_object(response.content))
            return False
        if response is not None:
            watch_bytes(response, call, self, streams=is_stream)
            return True
        if not is_stream or not hasattr(answer, "response"):
            self._note(call, answer)
            return False
        if not watch_chunks(answer, call, self):
            watch_bytes(answer.response, call, self, streams=True)
        return True

    @guarded
    def end(self, call: AnyCall | EmbeddingPart, error: BaseException | None = None) -> None:
        """Closes a call that was answered or read to its end, or that failed."""
        self._close(call, error)

    @guarded
    def leave(self, call: AnyCall | EmbeddingPart) -> None:
        """Closes a call whose consumer stopped reading; it is ok if the whole answer had come."""
        self._close(call, was_left=True)

    @guarded
    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open calls for which `which` is true, and counts them as aborted."""
        for call in list(self._open.values()):
            if which(call):
                self.leave(call)
        self.recorder.flush()

    def _close(
        self,
        reported: AnyCall | EmbeddingPart,
        error: BaseException | None = None,
        *,
        was_left: bool = False,
    ) -> None:
        call = self._open.pop(id(reported), None)  # atomic: only one caller closes it
        if call is None:
            return
        error = error or call.failure
        billing = self._billing(call)
        content = None if self._run_recorder.content is None else self._content(call)
        was_lost = was_left and error is None and not call.is_finished
        self._run_recorder.close(
            call, error, content, billing=billing, was_lost=was_lost, was_left=was_left
        )
        if call.parent is None:
            self.recorder.flush()

    @guarded  # the call is counted, whatever its answer is like
    def _billing(self, call: AnyCall) -> Billing | None:
        return call.billing() if isinstance(call, DirectCall) else None

    @guarded  # the call and its bill are recorded, even if its content cannot be read
    def _content(self, call: AnyCall) -> object:
        return call.content() if isinstance(call, DirectCall) else None

    @guarded
    def _prompt(self, call: DirectCall) -> object:
        return list(call.prompt_messages())

    def _watch_parser(self, call: AnyCall, options: Any) -> None:
        """Lets the answer be noted before the package's `parse`, which may raise, gets it."""
        parser = getattr(options, "post_parser", None)
        if callable(parser):
            options.post_parser = partial(self._parsed, call, parser)

    def _parsed(self, call: AnyCall, parser: Callable[[Any], Any], answer: Any) -> Any:
        self._note(call, answer)
        return parser(answer)

    @guarded
    def _note(self, call: AnyCall | EmbeddingPart, answer: Any) -> None:
        if not call.is_finished:
            call.answer_came(as_object(json.dumps(answer)) if isinstance(answer, dict) else answer)
            call.is_finished = True
