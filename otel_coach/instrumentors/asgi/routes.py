"""Finds a request's route template: `/v1/coaching/chat`, `/static/{path}`, `unmatched`.

The template is looked up in the application's own routes, not read from the scope: a middleware
may answer before routing, a mount changes the scope, and FastAPI's included routers keep their
prefix elsewhere. If a router has put the route object into the scope, and that object occurs only
once among the application's routes, its template is known without a search.
"""

from __future__ import annotations

import sys
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.routing import Host, Match, Mount

from otel_coach.metrics.labels import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.core.asgi_types import Scope


_OTHER_PATH_SUFFIX: Final = "-otel-coach-7f3b"
"""Appended to a path to make one for which the application has no route of its own."""
_MAX_AGE: Final = 1.0
"""Seconds for which a result is cached."""
_MAX_KNOWN: Final = 32


class Route:
    """A route that matched a request: its `template` and, in FastAPI, its `dependant`."""

    __slots__ = ("dependant", "template")

    def __init__(self, template: str, dependant: Any = None) -> None:
        self.template = template
        self.dependant = dependant


class NotAllowed(Route):
    """A route that matches the path, but not the method."""

    __slots__ = ()


class NotFoundInside(Route):
    """A mount of known routes, of which none matches the rest of the path."""

    __slots__ = ()


NO_ROUTE = Route(UNMATCHED)


class _KnownRoute(NamedTuple):
    """A route object that occurs only once among the application's routes."""

    leaf: weakref.ref[Any]
    route: Route
    prefix: str
    """What every path of the route begins with. It is compared with the request's path, because the
    same router may later be included a second time under another prefix."""


class Routes:
    """The routes of one application."""

    def __init__(self) -> None:
        self._known: dict[int, _KnownRoute] = {}
        self._size = -1

    def find(self, app: Any, original: Mapping[str, Any], routed: Scope) -> Route:
        """Returns the route of `app` that answers the request.

        `routed` is the scope after routing, `original` has the earlier values of what may differ.
        """
        leaf = routed.get("route")
        if leaf is not None:
            routes = app.routes
            if len(routes) != self._size:
                self._learn(routes)
            known = self._known.get(id(leaf))
            if known is not None and known.leaf() is leaf:
                path: str = original["path"]
                if root_path := original["root_path"]:
                    path = path.removeprefix(root_path)
                if path.startswith(known.prefix):
                    # The route in the scope may match the path, but not the method. A middleware
                    # may have changed the method before routing.
                    methods = getattr(leaf, "methods", None)
                    if not methods or original["method"] in methods or routed["method"] in methods:
                        return known.route
                    return NotAllowed(known.route.template)
        return find_route(app, {**routed, **original})

    def _learn(self, routes: Sequence[Any]) -> None:
        self._size = len(routes)
        self._known = {}
        duplicates: set[int] = set()
        for template, leaf in _leaves(routes, ""):
            if leaf is None:
                continue
            key = id(leaf)
            if key in self._known:
                duplicates.add(key)
            prefix = template.partition("{")[0]
            self._known[key] = _KnownRoute(weakref.ref(leaf), Route(template), prefix)
        for key in duplicates:
            del self._known[key]


def find_route(app: Any, scope: Scope) -> Route:
    """Returns the route of `app` that answers `scope`, `NO_ROUTE` if none does.

    If no route matches both path and method (405), returns a `NotAllowed` for the first route that
    matches the path.
    """
    return _find(getattr(app, "routes", ()), scope, "") or _frontend(app, scope) or NO_ROUTE


class OwnPage:
    """Whether an application has a metrics page of its own.

    It is looked up at most once a second for each path, and for each host name if the application
    has a `Host` route. Searching several hundred routes takes milliseconds, and clients could
    request it often.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bytes], tuple[float, bool]] = {}

    def is_at(self, app: Any, scope: Scope) -> bool:
        """Returns whether `app` has a page of its own at the path of `scope`."""
        host = b""
        routes = getattr(app, "routes", ())
        if any(isinstance(getattr(route, "original_route", route), Host) for route in routes):
            host = dict(scope["headers"]).get(b"host", b"")
        key = scope["path"], scope["root_path"], host
        until, found = self._known.get(key, (0.0, False))
        if (now := monotonic()) >= until:
            found = has_own_route(app, scope)
            if len(self._known) >= _MAX_KNOWN:  # filled by requests with invented host names
                self._known.clear()
            self._known[key] = now + _MAX_AGE, found
        return found


def has_own_route(app: Any, scope: Scope) -> bool:
    """Returns whether `app` has a route or mount for the path of `scope` in particular.

    A route that would also answer any other path (files at the root, `/{path:path}`) does not
    count. A route for the path with a trailing slash does: Starlette redirects to it.
    """
    path: str = scope["path"].rstrip("/")
    other = find_route(app, {**scope, "path": path + _OTHER_PATH_SUFFIX}).template
    routes = (find_route(app, {**scope, "path": variant}) for variant in (path, f"{path}/"))
    return any(
        route is not NO_ROUTE and type(route) is Route and route.template != other
        for route in routes
    )


def templates(app: Any) -> Iterator[str]:
    """Yields the templates that `find_route` may return for `app`, as far as they are known now."""
    return (template for template, _ in _leaves(getattr(app, "routes", ()), ""))


def _leaves(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields each template with the route object that identifies it in a scope, or with None."""
    for route in _flattened(routes):
        path_format = getattr(route, "path_format", None)
        leaf = getattr(route, "original_route", route)
        if _has_routes_inside(route, path_format):
            inside = prefix + (path_format or "").removesuffix("/{path}")
            routes_inside = getattr(route, "routes", None) or ()
            yield from _leaves(routes_inside, inside)
            if path_format:
                # An inner route may have answered with a copy of the scope: the mount in the
                # scope then does not identify the template.
                yield f"{inside}/{{path}}", None if routes_inside else leaf
        else:
            yield f"{prefix}{path_format}", leaf


def _has_routes_inside(route: Any, path_format: object) -> bool:
    """Returns whether `route` is a Mount, or a Host, which has routes but no path of its own."""
    return isinstance(getattr(route, "original_route", route), Mount) or path_format is None


def _find(routes: Iterable[Any], scope: Scope, prefix: str) -> Route | None:
    partial: Route | None = None
    for route in _flattened(routes):
        match, child_scope = route.matches(scope)
        if match is Match.NONE:
            continue
        if _has_routes_inside(route, getattr(route, "path_format", None)):
            return _inside(route, {**scope, **child_scope}, prefix)
        template, dependant = prefix + route.path_format, getattr(route, "dependant", None)
        if match is Match.FULL:
            return Route(template, dependant)
        partial = partial or NotAllowed(template, dependant)
    return partial


def _inside(route: Any, scope: Scope, prefix: str) -> Route | None:
    path_format = getattr(route, "path_format", None) or ""
    prefix += path_format.removesuffix("/{path}")
    routes = getattr(route, "routes", None) or ()
    found = _find(routes, scope, prefix)
    if found is None and path_format:
        return (NotFoundInside if routes else Route)(prefix + "/{path}")
    return found


def _frontend(app: Any, scope: Scope) -> Route | None:
    """Returns the route of FastAPI's `app.frontend("/ui", ...)`, which comes after all others."""
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
    # FastAPI >= 0.137.2 nests included routers, and has this public function to iterate over their
    # routes; older versions have flat routes. FastAPI is not imported for a Starlette application.
    iterate = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    return iterate(routes) if iterate else routes
