"""From a request to its route's template: `/v1/coaching/chat`, `/static/{path}`, `unmatched`.

The template is looked up in the application's own routes, not read from the scope: a middleware
may answer before routing, a mount changes the scope, and FastAPI's included routers keep their
prefix elsewhere.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from starlette.routing import Match, Mount

from otel_coach.vocabulary import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

    Scope = MutableMapping[str, Any]


class Route:
    """A route as the request found it: its `template` and, in FastAPI, its `dependant`."""

    __slots__ = ("dependant", "template")

    def __init__(self, template: str, dependant: Any = None) -> None:
        self.template = template
        self.dependant = dependant


NO_ROUTE = Route(UNMATCHED)


def find_route(app: Any, scope: Scope) -> Route:
    """The route of `app` that answers `scope`, `NO_ROUTE` if none does.

    Where the path matches but the method does not (405), the route whose path matched.
    """
    return _find(getattr(app, "routes", ()), scope, "") or _frontend(app, scope) or NO_ROUTE


def templates(app: Any) -> Iterator[str]:
    """The templates that `find_route` may find in `app`, as far as they are known by now."""
    yield from _templates(getattr(app, "routes", ()), "")


def _templates(routes: Iterable[Any], prefix: str) -> Iterator[str]:
    for route in _flattened(routes):
        path_format = getattr(route, "path_format", None)
        if _has_routes_inside(route, path_format):
            inside = prefix + (path_format or "").removesuffix("/{path}")
            yield from _templates(getattr(route, "routes", None) or (), inside)
            if path_format:
                yield f"{inside}/{{path}}"
        else:
            yield f"{prefix}{path_format}"


def _has_routes_inside(route: Any, path_format: object) -> bool:
    """Whether it is a mounted application, or a Host, which has routes but no path of its own."""
    return isinstance(getattr(route, "original_route", route), Mount) or path_format is None


def _find(routes: Iterable[Any], scope: Scope, prefix: str) -> Route | None:
    partial: Route | None = None
    for route in _flattened(routes):
        match, child_scope = route.matches(scope)
        if match is Match.NONE:
            continue
        if _has_routes_inside(route, getattr(route, "path_format", None)):
            return _inside(route, {**scope, **child_scope}, prefix)
        found = Route(prefix + route.path_format, getattr(route, "dependant", None))
        if match is Match.FULL:
            return found
        partial = partial or found
    return partial


def _inside(route: Any, scope: Scope, prefix: str) -> Route | None:
    path_format = getattr(route, "path_format", None) or ""
    prefix += path_format.removesuffix("/{path}")
    found = _find(getattr(route, "routes", None) or (), scope, prefix)
    if found is None and path_format:
        return Route(prefix + "/{path}")
    return found


def _frontend(app: Any, scope: Scope) -> Route | None:
    """Of FastAPI's `app.frontend("/ui", ...)`, whose routes come after all others."""
    find = getattr(getattr(app, "router", None), "_match_low_priority", None)
    if find is None:
        return None
    match, child_scope, *_ = find({**scope})
    rest = child_scope.get("fastapi", {}).get("frontend_path") if match is not Match.NONE else None
    if rest is None:
        return None
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return Route(path.removesuffix(rest).rstrip("/") + "/{path}")


def _flattened(routes: Iterable[Any]) -> Iterable[Any]:
    # FastAPI >= 0.137.2 nests included routers and offers this public way to see through them;
    # an older one has flat routes. It is not imported for an application of Starlette alone.
    see_through = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    return see_through(routes) if see_through else routes
