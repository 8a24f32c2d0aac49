"""Patches the clients of a provider's package: a call of a model is one call of their `request`.

All methods of such a package that call a model end up in `request(cast_to, options, ...)` of the
client's base class, which also repeats failed attempts: so one patch sees each call once, whether
it was made by `create`, `parse`, `stream`, a raw response or `post`.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Unpack

from opentelemetry import context as otel_context

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replace_method
from otel_coach.core.spans import CURRENT_RUN, is_open_call
from otel_coach.instrumentors.genai.enclosing import enclosing
from otel_coach.instrumentors.genai.model_call import ModelCall
from otel_coach.instrumentors.genai.provider_package import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.instrumentors.genai.direct_embedding import EmbeddingPart
    from otel_coach.instrumentors.genai.open_calls import AnyCall, OpenCalls
    from otel_coach.instrumentors.genai.provider_package import ProviderPackage
    from otel_coach.instrumentors.genai.run_recorder import RunArguments
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder


class ClientCalls:
    """The patches of the clients of one package.

    Most services call models by LangChain, which calls such a package: LangChain's instrumentor
    measures those calls. What measures the others is imported at the first of them, or at the first
    request to an embedding model.

    Args:
        package: what is known of the package.
        announce: logs a line about a topic, once.
        arguments: those of `RunRecorder`.
    """

    _open_calls: OpenCalls | None = None
    _is_active = True

    def __init__(
        self,
        package: ProviderPackage,
        announce: AnnounceOnce | None = None,
        **arguments: Unpack[RunArguments],
    ) -> None:
        self._package = package
        self._announce = announce
        self._arguments = arguments
        self.recorder: Recorder = arguments["recorder"]

    def __len__(self) -> int:
        return 0 if self._open_calls is None else len(self._open_calls)

    @property
    def open_calls(self) -> OpenCalls:
        """The calls that are open."""
        if self._open_calls is None:
            from otel_coach.instrumentors.genai.open_calls import OpenCalls  # noqa: PLC0415 - see the class

            made = OpenCalls(self._package, self._announce, **self._arguments)
            # Atomic: of threads that make the first calls at once, all get the same object.
            return vars(self).setdefault("_open_calls", made)
        return self._open_calls

    def patch(self, clients: Iterable[type], *, is_async: bool) -> Iterable[Callable[[], None]]:
        """Patches `request` in each class that defines it, of `clients` and their bases.

        Yields the undo functions.

        Another instrumentation may have put a `request` of its own into a client's class, which
        calls the `request` of the base class: so both are patched. The inner one finds the call
        open.
        """
        for owner in owners_of_request(clients):
            yield replace_method(
                owner, "request", self._asynchronous if is_async else self._synchronous
            )

    def deactivate(self) -> None:
        """Measures no further call, also where another instrumentation has wrapped a patch."""
        self._is_active = False

    def _synchronous(self, original: Any) -> Callable[..., Any]:
        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            if (call := self.begin(client, args, kwargs)) is None:
                return original(client, *args, **kwargs)
            calls = self.open_calls
            token = calls.enter(call)
            try:
                answer = original(client, *args, **kwargs)
            except BaseException as error:
                calls.end(call, error)
                raise
            finally:
                calls.exit(token)
            if not calls.goes_on_after(call, answer, is_stream=bool(kwargs.get("stream"))):
                calls.end(call)
            return answer

        return request

    def _asynchronous(self, original: Any) -> Callable[..., Any]:
        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            if (call := self.begin(client, args, kwargs)) is None:
                return await original(client, *args, **kwargs)
            calls = self.open_calls
            token = calls.enter(call)
            try:
                answer = await original(client, *args, **kwargs)
            except BaseException as error:
                calls.end(call, error)
                if isinstance(error, GeneratorExit):
                    token = None  # the coroutine was dropped, and is closed in another context
                raise
            finally:
                calls.exit(token)
            if not calls.goes_on_after(call, answer, is_stream=bool(kwargs.get("stream"))):
                calls.end(call)
            return answer

        return request

    @guarded
    def begin(
        self, client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AnyCall | EmbeddingPart | None:
        """Starts the call that a request makes.

        Returns None if the request calls no model, or if it belongs to an open call. For a request
        of a framework's open call of an embedding model, returns an `EmbeddingPart`, which passes
        the answer on to that call.
        """
        if not self._is_active:
            return None
        options: Any = kwargs["options"] if "options" in kwargs else args[1]
        path = self._path_of_call(options)
        if path is None:
            return None
        around: Any = otel_context.get_value(CURRENT_RUN)
        outer = None
        if not is_open_call(around):
            outer = enclosing()
            around = outer.run
        asks_model = path not in self._package.embeddings
        if is_open_call(around) and isinstance(around, ModelCall) == asks_model:
            return self._noted(around, client)
        return self.open_calls.start(path, options, client, outer or enclosing())

    def _noted(self, call: Any, client: Any) -> EmbeddingPart | None:
        """Notes a request of an open call, which a framework or the outer patch has started."""
        if call.provider == self._package.name and call.api_url is None:
            call.api_url = address_of(client)  # a framework may not know it (OPENAI_BASE_URL)
        if isinstance(call, ModelCall):
            call.sent_request = True
            return None
        return self.open_calls.part_of(call)

    def is_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Returns whether a request is the call of a model."""
        options = kwargs["options"] if "options" in kwargs else args[1]
        return self._path_of_call(options) is not None

    def _path_of_call(self, options: Any) -> str | None:
        """Returns the path of the endpoint if a model answers there, else None."""
        if str(options.method).lower() != "post":
            return None
        path = str(options.url).partition("?")[0]
        known = path in self._package.models or path in self._package.embeddings
        return path if known else None

    def end_runs(self, which: Callable[[Run], bool]) -> None:
        """Ends the open calls for which `which` is true, and counts them as aborted."""
        if self._open_calls is not None:
            self._open_calls.end_runs(which)


def owners_of_request(clients: Iterable[type]) -> set[type]:
    """Returns the classes that define `request`, of `clients` and their bases."""
    return {cls for one in clients for cls in one.__mro__ if "request" in vars(cls)}
