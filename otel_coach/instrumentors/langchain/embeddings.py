"""Instrumentation of LangChain's embedding models, which have no callbacks.

The methods of every class that derives from `Embeddings` are replaced, also of classes that are
defined later. One call of a provider counts once, however many of these methods it passes through:

- A method that calls another one of the same object is one call (`embed_query` is often
  `embed_documents` of one text). `Embeddings`' own asynchronous methods are left alone: they run
  the synchronous ones, in an executor.
- An object that has another embedding model among its attributes is a wrapper
  (`CacheBackedEmbeddings`). Its methods are no calls; those of the model inside are, where it
  calls them.
- A method that calls the one that it overrides is left alone as well: the overridden one counts.
"""

from __future__ import annotations

import inspect
import weakref
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Unpack, cast

from opentelemetry import context as otel_context

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replace_method
from otel_coach.core.spans import CURRENT_RUN
from otel_coach.instrumentors.genai.embedding_call import EmbeddingCall
from otel_coach.instrumentors.genai.enclosing import open_run
from otel_coach.instrumentors.genai.run_recorder import RunRecorder
from otel_coach.instrumentors.langchain.trials import EMBEDDING_METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextvars import Token
    from types import CodeType

    from opentelemetry.context import Context

    from otel_coach.instrumentors.genai.run_recorder import RunArguments
    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder

_MODEL_ATTRIBUTES: Final = ("model", "model_name", "model_id", "deployment_name", "repo_id")
"""Where LangChain's integrations keep the name of the model."""
_URL_ATTRIBUTES: Final = ("openai_api_base", "azure_endpoint", "base_url", "endpoint", "api_base")
"""Where they keep the address that they ask, if it is not the provider's usual one."""
_LISTS: Final = (list, tuple)
_MAX_ITEMS: Final = 10
"""How many items of a list are looked at to find another embedding model."""
_INTEGRATION: Final = "langchain_"
"""Prefix of the packages of integrations; the rest of the name is the provider's."""


class Opened(NamedTuple):
    """A call that has started, and what restores the context from before it."""

    call: EmbeddingCall
    token: Token[Context]


class EmbeddingObserver:
    """Notified of the calls of embedding models.

    Args:
        base: LangChain's `Embeddings`.
        arguments: those of `RunRecorder`.
    """

    def __init__(self, base: type, **arguments: Unpack[RunArguments]) -> None:
        self._base = base
        self._run_recorder = RunRecorder(**arguments)
        self.recorder: Recorder = self._run_recorder.recorder
        self._open = set[EmbeddingCall]()
        self.overrides = weakref.WeakSet[Any]()
        """Methods that are no calls, because they call the one that they override."""

    @guarded
    def started(
        self, model: object, called_methods: frozenset[str], options: Mapping[str, Any]
    ) -> Opened | None:
        """Starts a call, and makes it the current run; None if this is no call of its own.

        `called_methods` has the names of the other methods that the method's code calls.
        """
        for name in called_methods:
            # What is called may be an override that itself calls the overridden method, or answers
            # from a cache: then only the overridden method, if it is reached, counts as the call.
            if getattr(type(model), name, None) in self.overrides:
                return None
        around = open_run()
        if isinstance(around, EmbeddingCall) and around.source is model:
            return None
        if self._is_wrapper(model):
            return None
        parent = around
        if isinstance(around, EmbeddingCall):
            around.wraps = True
        elif around is not None and around.calls_provider:
            parent = around.parent  # a stream that is still open here is a sibling
        call = EmbeddingCall(parent, _model_name(model, options), _provider(type(model)))
        call.api_url = _url(model)
        dimensions = getattr(model, "dimensions", None)
        call.dimensions = dimensions if type(dimensions) is int else None
        call.source = model
        self._run_recorder.start_embedding(call)
        self._open.add(call)
        inside = call.context or otel_context.set_value(CURRENT_RUN, call)
        return Opened(call, otel_context.attach(inside))

    @guarded
    def ended(self, opened: Opened, error: BaseException | None = None) -> None:
        """Ends a call, unless it was given up as lost."""
        call, token = opened
        # A coroutine that the garbage collector closes may be in another context.
        if not isinstance(error, GeneratorExit):
            otel_context.detach(token)
        self._end(call, error)

    @guarded
    def end_calls(self, which: Callable[[Run], bool]) -> None:
        """Ends the open calls for which `which` is true, and counts them as aborted."""
        for call in list(self._open):
            if which(call):
                self._end(call, was_lost=True)
        self.recorder.flush()

    def _end(
        self, call: EmbeddingCall, error: BaseException | None = None, *, was_lost: bool = False
    ) -> None:
        try:
            self._open.remove(call)
        except KeyError:
            return  # it has ended already
        call.source = None
        self._run_recorder.close(call, error, was_lost=was_lost)
        if call.parent is None:
            self.recorder.flush()

    def _is_wrapper(self, model: object) -> bool:
        """Returns whether `model` has another embedding model among its attributes."""
        base = self._base
        for value in [*getattr(model, "__dict__", {}).values()]:  # other threads may add some
            # The classes are looked at, not the objects: `isinstance` may run an object's code.
            if base in type(value).__mro__:
                return True
            if type(value) in _LISTS:
                for item in cast("Sequence[object]", value)[:_MAX_ITEMS]:
                    if base in type(item).__mro__:
                        return True
        return False


class EmbeddingPatches:
    """Replaces the methods of embedding models by ones that notify `observer`.

    Args:
        base: LangChain's `Embeddings`.
        observer: notified until `undo` is called.
    """

    def __init__(self, base: type, observer: EmbeddingObserver) -> None:
        self._base = base
        self.observer: EmbeddingObserver | None = observer
        self.recorder: Recorder = observer.recorder
        # Keyed by function, not by class: these patches must keep neither alive.
        self._replacements = weakref.WeakKeyDictionary[Any, bool]()
        """For each replacement: whether the class itself defined the method, and did not inherit
        it."""
        self._overrides = observer.overrides
        self._restore_hook = replace_method(base, "__init_subclass__", self._hook)
        self.patch_all()

    @guarded
    def patch_all(self) -> None:
        """Patches all classes that exist and are not patched yet."""
        for cls in subclasses(self._base):
            self._patch_new(cls)

    def undo(self) -> None:
        """Restores every class."""
        self.observer = None
        self._restore_hook()
        for cls in subclasses(self._base):
            for name in EMBEDDING_METHODS:
                function = cls.__dict__.get(name)
                if not inspect.isfunction(function) or function not in self._replacements:
                    continue
                if self._replacements[function]:
                    setattr(cls, name, vars(function)["__wrapped__"])
                else:
                    delattr(cls, name)

    def _hook(self, _inherited: object) -> object:
        base, patch = self._base, self._patch_new

        def __init_subclass__(cls: type, **kwargs: Any) -> None:  # noqa: N807 - it replaces that
            super(base, cls).__init_subclass__(**kwargs)  # type: ignore[arg-type]
            patch(cls)

        return classmethod(__init_subclass__)

    @guarded  # an exception here would break a class definition of the host
    def _patch_new(self, cls: type) -> None:
        if self.observer is not None:
            self._patch(cls)

    def _patch(self, cls: type) -> None:
        for name in EMBEDDING_METHODS:
            owner = next((one for one in cls.__mro__ if name in one.__dict__), self._base)
            # An inherited method is patched in the class that it comes from, except for that of a
            # mixin, which may belong to other classes too.
            if owner is not cls and self._base in owner.__mro__:
                continue
            original = owner.__dict__[name]
            is_handled = original in self._replacements or original in self._overrides
            if is_handled or not inspect.isfunction(original):
                continue
            if getattr(original, "__isabstractmethod__", False):
                continue
            code = getattr(inspect.unwrap(original), "__code__", _UNKNOWN)
            if _calls_super(code) and _is_implemented_above(cls, owner, name):
                self._overrides.add(original)
                continue
            make = _measured_async if inspect.iscoroutinefunction(original) else _measured
            replacement = make(original, self, frozenset(_named_in(code)) - {name})
            self._replacements[replacement] = owner is cls
            setattr(cls, name, replacement)


def subclasses(cls: type) -> Iterator[type]:
    """Yields all classes that derive from `cls`."""
    for one in type.__subclasses__(cls):
        yield one
        yield from subclasses(one)


def _measured(
    original: Any, patches: EmbeddingPatches, called_methods: frozenset[str]
) -> Callable[..., Any]:
    @wraps(original)
    def embed(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer = patches.observer
        opened = None if observer is None else observer.started(self, called_methods, kwargs)
        if observer is None or opened is None:
            return original.__get__(self)(*args, **kwargs)
        try:
            vectors = original.__get__(self)(*args, **kwargs)
        except BaseException as raised:
            observer.ended(opened, raised)
            raise
        observer.ended(opened)
        return vectors

    return embed


def _measured_async(
    original: Any, patches: EmbeddingPatches, called_methods: frozenset[str]
) -> Callable[..., Any]:
    @wraps(original)
    async def embed(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer = patches.observer
        opened = None if observer is None else observer.started(self, called_methods, kwargs)
        if observer is None or opened is None:
            return await original.__get__(self)(*args, **kwargs)
        try:
            vectors = await original.__get__(self)(*args, **kwargs)
        except BaseException as raised:
            observer.ended(opened, raised)
            raise
        observer.ended(opened)
        return vectors

    return embed


def _model_name(model: object, options: Mapping[str, Any]) -> str | None:
    """Returns the name of the model that a call asks for, None if it is not known."""
    if isinstance(asked := options.get("model"), str):
        return asked
    for name in _MODEL_ATTRIBUTES:
        found = getattr(model, name, None)
        if isinstance(found, str) and found:
            return found
    return None


def _url(model: object) -> str | None:
    """Returns the address that a model was given, None if it was given none."""
    for name in _URL_ATTRIBUTES:
        found = getattr(model, name, None)
        if isinstance(found, str) and found.startswith("http"):
            return found
    return None


def _provider(cls: type) -> str | None:
    """Returns LangChain's name of the provider, from the integration that `cls` comes from."""
    for one in cls.__mro__:
        package, *rest = one.__module__.split(".")
        if not package.startswith(_INTEGRATION) or package == "langchain_core":
            continue
        if package == "langchain_community":
            return rest[-1] if rest else None
        provider = package.removeprefix(_INTEGRATION)
        is_azure = provider == "openai" and one.__name__.startswith("Azure")
        return "azure" if is_azure else provider
    return None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yields the code of a function and of those that are defined inside."""
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _codes(constant)


_UNKNOWN: Final = (lambda: None).__code__
"""Used for a callable object, which has no code to look at: it is taken to call no method of a
model."""


def _named_in(code: CodeType) -> Iterator[str]:
    """Yields the methods of embedding models that a function calls, by their names."""
    for one in _codes(code):
        yield from (name for name in EMBEDDING_METHODS if name in one.co_names)


def _calls_super(code: CodeType) -> bool:
    """Returns whether a method calls methods of embedding models by `super()`."""
    # Python gives the variable `__class__` to the methods that use `super()`, and to no others.
    return "__class__" in code.co_freevars and any(_named_in(code))


def _is_implemented_above(cls: type, owner: type, name: str) -> bool:
    """Returns whether there is another implementation of a method behind that of `owner`."""
    above = cls.__mro__[cls.__mro__.index(owner) + 1 :]
    found = next((one.__dict__[name] for one in above if name in one.__dict__), None)
    return found is not None and not getattr(found, "__isabstractmethod__", False)
