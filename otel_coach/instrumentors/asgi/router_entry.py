"""Notes the path by which an application's router is asked, which its middlewares may rewrite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.middleware.base import BaseHTTPMiddleware

from otel_coach.core.guard import guarded
from otel_coach.instrumentors.asgi.trials import MARK

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from otel_coach.core.asgi_types import Receive, Scope, Send
    from otel_coach.metrics.recorder import Recorder

_KEEP_PATHS: Final = ("starlette.middleware.", "fastapi.middleware.")
"""The modules whose middlewares leave the path as it is, except `BaseHTTPMiddleware` itself, which
calls a function of the application."""


def may_rewrite(app: Any) -> bool:
    """Returns whether `app` has a middleware that may rewrite a path before the router gets it."""
    return any(_is_unknown(one.cls) for one in getattr(app, "user_middleware", ()))


def _is_unknown(middleware: Any) -> bool:
    module = getattr(middleware, "__module__", None) or ""
    return middleware is BaseHTTPMiddleware or not module.startswith(_KEEP_PATHS)


class RouterEntry:
    """Stands in front of the router's own stack, and notes each scope that passes.

    A middleware may pass on a copy of its scope. So the path is noted in the dictionary under
    `MARK`, which the copy shares.

    Args:
        recorder: counts otel-coach's own faults.
        stack: the router's own stack.
    """

    def __init__(self, recorder: Recorder, stack: Any) -> None:
        self.recorder = recorder
        self.stack = stack

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        self._note(scope)
        return self.stack(scope, receive, send)

    @guarded
    def _note(self, scope: Scope) -> None:
        noted = scope.get(MARK)
        if isinstance(noted, dict):
            noted.update(path=scope["path"], root_path=scope.get("root_path", ""))


def put_in_front(app: Any, recorder: Recorder) -> None:
    """Puts a `RouterEntry` in front of the router of `app`, if a middleware may rewrite paths."""
    if may_rewrite(app) and not isinstance(app.router.middleware_stack, RouterEntry):
        app.router.middleware_stack = RouterEntry(recorder, app.router.middleware_stack)


def take_away(app: Any) -> None:
    """Takes back `put_in_front`, unless somebody has put something else in front since."""
    stack = getattr(getattr(app, "router", None), "middleware_stack", None)
    if isinstance(stack, RouterEntry):
        app.router.middleware_stack = stack.stack
