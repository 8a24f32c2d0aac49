"""Every function of ours that others call is guarded, or has its reason."""

import ast
from pathlib import Path

import pytest
import wrapt
from opentelemetry.sdk.trace import TracerProvider

import otel_coach
from otel_coach.core.guard import guarded
from otel_coach.instrumentors.langchain import trials
from otel_coach.instrumentors.langchain.observer import RunObserver
from tests.support.hooks import CLASSES, HOOKS, is_guarded

PACKAGE = Path(otel_coach.__file__).parent
# Which hooks there are, found in the code

OURS_ALONE = {
    # What is called in our own threads, by our own page, or while the process starts.
    "OwnThread": {"run"},
    # In a command, and in tests.
    "Live": {"compose"},
    "LogLines": {"emit"},
    "_Template": {"convert_field"},
    "_NoLoop": {"get_debug"},  # of a loop that is never run
    "_Handler": {"log_message"},
    "_Server": {"handle_error"},
    "OtelCoachDistro": {"_configure", "load_instrumentor"},
    "IsolatedReader": {"shutdown"},
    "ExemplarReader": {"_receive_metrics", "force_flush"},
    "_Translator": {"collect"},
    "PushReader": {"_receive_metrics", "_at_fork_reinit"},
    "CountedExporter": {"export"},  # in the SDK's threads, which it does not end
    "OwnExporter": {"export", "shutdown", "force_flush"},  # likewise
    "CountedLogs": {"shutdown"},
    "_Noted": {"on_emit", "shutdown", "force_flush"},  # an assignment, or nothing
    "CountedSpans": {"on_end", "shutdown"},  # behind the guard of RedactingSpanProcessor
    "_Only": {"collect"},
    "_HeaderGetter": {"get", "keys"},  # inside ServerSpans.start
    "RedactingSpanProcessor": {"shutdown", "force_flush"},
}
GUARDED_INSIDE = {
    # They are the host's call with ours in it: what is ours there is guarded.
    # To shut it down is to write the last figures, guarded, and the SDK's own; after a fork, errors
    # are only printed.
    "CoachMeterProvider": {"get_meter", "force_flush", "shutdown", "_update_resource"},
    "CoachLoggerProvider": {"force_flush"},
    # A tracer of our own scope, for which nobody else asks.
    "RedactingTracerProvider": {"get_tracer", "force_flush", "shutdown", "_update_resource"},
    "CountedLogs": {"on_emit"},  # a place in a queue is taken
    "ProviderTracer": {"start_span", "start_as_current_span"},  # a context is read
    "Withholding": {"extract", "inject", "fields"},
    "DeferredTracer": {"start_span", "start_as_current_span"},  # inside our own hooks
    "_Meter": {f"create_{kind}" for kind in ("counter", "up_down_counter", "histogram", "gauge")}
    | {f"create_observable_{kind}" for kind in ("counter", "up_down_counter", "gauge")},
    "_Instrument": {"add", "record", "set"},
    "_Batching": {"_create_aggregation"},  # inside an instrument's own
}
SPAN = {
    *("add_event", "add_link", "end", "get_span_context", "is_recording", "record_exception"),
    *("set_attribute", "set_attributes", "set_status", "update_name"),
}
TOO_SMALL_TO_FAIL = {
    # An attribute is read, a number compared; a guard would cost more than they do.
    "OneLineAMinute": {"filter"},
    "RunSpanProxy": SPAN,
    "DeferredSpan": SPAN,  # it takes what the SDK's takes; the same classes check it
}


def test_the_hooks_are_found():
    names = {f"{cls.__name__}.{name}" for cls, name in HOOKS}
    assert {"Exchange._finish", "RunObserver.on_llm_end", "Middleware._start"} <= names
    assert len(HOOKS) > 40


def test_whatever_others_call_is_guarded_or_has_its_reason():
    """Methods of our classes that stand in for methods of others' classes."""
    known = {}
    for reasons in (OURS_ALONE, GUARDED_INSIDE, TOO_SMALL_TO_FAIL):
        for cls, names in reasons.items():
            known.setdefault(cls, set()).update(names)
    found = {}
    for cls in CLASSES:
        foreign = [
            base
            for base in cls.__mro__[1:]
            if not base.__module__.startswith(("otel_coach", "builtins", "typing", "enum", "abc"))
        ]
        if issubclass(cls, wrapt.ObjectProxy):
            inherited = {name for name in vars(cls) if not name.startswith("_")}
        else:
            inherited = {name for base in foreign for name in vars(base)}
        for name, member in vars(cls).items():
            overrides = name in inherited and (callable(member) or isinstance(member, property))
            if overrides and not is_guarded(member) and not name.startswith("__"):
                found.setdefault(cls.__name__, set()).add(name)
    if not hasattr(TracerProvider, "_update_resource"):  # before SDK 1.45
        for names in known.values():
            names.discard("_update_resource")
    assert found == known


def test_whatever_langchain_is_made_to_call_is_guarded():
    named = (*trials.STARTS.values(), *trials.ENDS.values())
    told = {"on_stream_event", *(name for names in named for name in names)}
    assert {"owner_task", *told} <= {name for cls, name in HOOKS if cls is RunObserver}

    # `note` has its guard in itself, which is cheaper.


def test_whatever_we_register_with_others_is_known_here():
    """By the calls that hand a function of ours to somebody else's code."""
    handed_over = {
        "register_post_import_hook",
        "when_imported",
        "register_at_fork",
        "add_done_callback",
        *("ref", "WeakMethod"),
    }
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                function = ast.unparse(node.func)
                if function.rpartition(".")[2] in handed_over or function in {
                    "gc.callbacks.append",
                    "atexit.register",
                }:
                    place = path.relative_to(PACKAGE).with_suffix("").as_posix()
                    found.add((place, function, ast.unparse(node.args[0]) if node.args else ""))
    assert {(place, function) for place, function, _ in found} == {
        # Errors after a fork are only printed.
        ("core/forks", "os.register_at_fork"),
        ("core/forks", "weakref.WeakMethod"),  # without a callback
        ("setup/installation", "atexit.register"),  # Installation.exit is guarded
        # What those register that call `when_imported` is guarded.
        ("core/import_hooks", "wrapt.register_post_import_hook"),
        ("core/import_hooks", "weakref.WeakMethod"),  # without a callback
        ("core/late_patches", "when_imported"),  # _patch is guarded
        ("instrumentors/asgi/__init__", "when_imported"),  # _patch is
        ("instrumentors/contrib", "when_imported"),  # _load_psycopg is
        ("instrumentors/genai/client_instrumentor", "when_imported"),  # _patch is
        # _observe, _watch_caches and _observe_embeddings are
        ("instrumentors/langchain/__init__", "when_imported"),
        ("instrumentors/provider_headers", "when_imported"),  # _patch is
        ("instrumentors/genai/watched_stream", "weakref.ref"),  # without a callback
        ("instrumentors/asgi/server_messages", "self._task.add_done_callback"),  # sets an event
        ("instrumentors/dependencies/watch", "result.add_done_callback"),  # Health.note is guarded
        ("instrumentors/asgi/turns", "task.add_done_callback"),  # task_done is guarded
        ("instrumentors/langchain/open_runs", "task.add_done_callback"),  # _task_done is guarded
        # In an event loop of ours, in a thread of ours, which reports what is raised there.
        ("prometheus/http/http_server", "task.add_done_callback"),
        ("instrumentors/asgi/applications", "weakref.ref"),  # without a callback
        ("instrumentors/asgi/routes", "weakref.ref"),  # as well
        ("instrumentors/langchain/open_runs", "weakref.ref"),  # _lose is guarded
        ("instrumentors/langchain/trials", "weakref.ref"),  # without a callback
        ("core/garbage", "gc.callbacks.append"),  # two of C's
        ("workers/supervisor", "os.register_at_fork"),
    }


# What fails


@pytest.fixture(autouse=True)
def _settled_within_requests(monkeypatch):
    monkeypatch.setattr("otel_coach.metrics.recorder._ENOUGH", 8)


def test_at_the_recursion_limit_a_hook_is_harmless_and_counted_later(measured):
    class Host:
        recorder = measured.installation.providers.recorder

        @guarded
        def hook(self):
            return deep(self)

    def deep(host):
        return deep(host)

    def to_the_limit(host):
        try:
            to_the_limit(host)
        except RecursionError:
            return host.hook()
        return None

    assert to_the_limit(Host()) is None
    assert measured.page().sum("otel_coach_errors_total", error_type="RuntimeError") >= 1


def test_a_callback_of_a_strange_version_changes_no_answer(measured):
    observer = RunObserver(
        recorder=measured.installation.providers.recorder, tracer=None, prices=None
    )
    observer.on_llm_end(object(), object())
    observer.on_chat_model_start(7, None, "messages")
    observer.on_tool_start(["no", "manager"], None, None)
    observer.note(object(), ("token",), {"chunk": "no chunk"})
    assert measured.page().sum("otel_coach_errors_total") == 4
