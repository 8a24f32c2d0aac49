"""The functions of otel_coach that other code calls, found in the code."""

import importlib
import inspect
import pkgutil

import otel_coach
from otel_coach.core import guard
from otel_coach.core.late_patches import LatePatches
from otel_coach.instrumentors.asgi.stopping_exchange import StoppingExchange
from otel_coach.instrumentors.asgi.stopping_socket import StoppingConnection, TurnStopping
from otel_coach.instrumentors.asgi.stopping_work import Stopping
from otel_coach.instrumentors.genai.stopping_client_calls import StoppingClientCalls

GUARDS = {
    guard.guarded(lambda self: None).__code__,
    guard.guarded_async(lambda self: None).__code__,
}


def all_classes():
    for module in pkgutil.walk_packages(otel_coach.__path__, "otel_coach."):
        loaded = importlib.import_module(module.name)
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if cls.__module__ == module.name:
                yield cls


def is_guarded(member):
    return getattr(member, "__code__", None) in GUARDS


CLASSES = list(all_classes())
HOOKS = [(c, name) for c in CLASSES for name, member in vars(c).items() if is_guarded(member)]


def hooks_of(*classes):
    return [(cls, name) for cls, name in HOOKS if cls in classes]


REFUSALS = hooks_of(StoppingClientCalls)
"""What ends the calls of a provider's package."""
STOPPING = hooks_of(LatePatches, Stopping, StoppingExchange)
STOPPING_SOCKETS = hooks_of(LatePatches, Stopping, StoppingConnection, TurnStopping)
"""What stops the work of those who have left."""


def inject(monkeypatch, cls, name, fault):
    """Replaces the body of a hook by `fault`; what guards it stays."""
    original = vars(cls)[name]
    if inspect.iscoroutinefunction(original):

        async def failing(*args, **kwargs):
            fault(*args, **kwargs)

        monkeypatch.setattr(cls, name, guard.guarded_async(failing))
    else:
        monkeypatch.setattr(cls, name, guard.guarded(fault))
