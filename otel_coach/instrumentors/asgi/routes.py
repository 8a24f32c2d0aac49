"""From a request to its route's template: `/v1/coaching/chat`, `/static/{path}`, `unmatched`.

The template is looked up in the application's own routes, not read from the scope: a middleware
may answer before routing, a mount changes the scope, and FastAPI's included routers keep their
prefix elsewhere. Where a router left the route itself in the scope, and that stands in one place
among the application's routes, its template is known without a search.
"""

from __future__ import annotations

import sys
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.routing import Host, Match, Mount

from otel_coach.vocabulary import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

    Scope = MutableMapping[str, Any]


_SOMETHING_ELSE: Final = "-otel-coach-7f3b"
"""What makes of a path another one that no route is there for."""
_HOLDS: Final = 1.0
"""Seconds."""
_MOST_KNOWN: Final = 32


class Route:
    """A route as the request found it: its `template` and, in FastAPI, its `dependant`."""

    __slots__ = ("dependant", "template")

    def __init__(self, template: str, dependant: Any = None) -> None:
        self.template = template
        self.dependant = dependant


class NotAllowed(Route):
    """A route that has the path, but not the method."""

    __slots__ = ()


NO_ROUTE = Route(UNMATCHED)


class _Known(NamedTuple):
    """A route that stands in one place only."""

    leaf: weakref.ref[Any]
    route: Route
    begins: str
    """What every path begins with that it answers: the same router may be included later, too."""


class Routes:
    """The routes of one application."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._size = -1

    def find(self, app: Any, asked: Mapping[str, Any], routed: Scope) -> Route:
        """The route of `app` that answers.

        `routed` is the scope after routing, `asked` what it was before in all that may differ.
        """
        leaf = routed.get("route")
        if leaf is not None:
            routes = app.routes
            if len(routes) != self._size:
                self._learn(routes)
            known = self._known.get(id(leaf))
            if known is not None and known.leaf() is leaf:
                path: str = asked["path"]
                if root_path := asked["root_path"]:
                    path = path.removeprefix(root_path)
                if path.startswith(known.begins):
                    # A router leaves also a route that has the path, but not the method, which a
                    # middleware may have changed before.
                    methods = getattr(leaf, "methods", None)
                    if not methods or asked["method"] in methods or routed["method"] in methods:
                        return known.route
                    return NotAllowed(known.route.template)
        return find_route(app, {**routed, **asked})

    def _learn(self, routes: Sequence[Any]) -> None:
        self._size = len(routes)
        self._known = {}
        elsewhere: set[int] = set()
        for template, leaf in _leaves(routes, ""):
            if leaf is None:
                continue
            key = id(leaf)
            if key in self._known:
                elsewhere.add(key)
            begins = template.partition("{")[0]
            self._known[key] = _Known(weakref.ref(leaf), Route(template), begins)
        for key in elsewhere:
            del self._known[key]


def find_route(app: Any, scope: Scope) -> Route:
    """The route of `app` that answers `scope`, `NO_ROUTE` if none does.

    Where the path matches but the method does not (405), the route whose path matched.
    """
    return _find(getattr(app, "routes", ()), scope, "") or _frontend(app, scope) or NO_ROUTE


class OwnPage:
    """Whether an application has a page of its own, looked up once a second.

    To look through some hundred routes takes milliseconds, which strangers could ask for often.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bytes], tuple[float, bool]] = {}

    def is_at(self, app: Any, scope: Scope) -> bool:
        """Whether it is there for the path of `scope`."""
        host = b""
        routes = getattr(app, "routes", ())
        if any(isinstance(getattr(one, "original_route", one), Host) for one in routes):
            host = dict(scope["headers"]).get(b"host", b"")
        key = scope["path"], scope["root_path"], host
        until, found = self._known.get(key, (0.0, False))
        if (now := monotonic()) >= until:
            found = has_own_route(app, scope)
            if len(self._known) >= _MOST_KNOWN:  # of made up hosts
                self._known.clear()
            self._known[key] = now + _HOLDS, found
        return found


def has_own_route(app: Any, scope: Scope) -> bool:
    """Whether a route or a mount of `app` is there for the path of `scope`, and answers it.

    One that would answer any other path there, too (files at the root, `/{path:path}`), is not.
    A path with a slash behind it counts as well: Starlette redirects to it.
    """
    path: str = scope["path"].rstrip("/")
    other = find_route(app, {**scope, "path": path + _SOMETHING_ELSE}).template
    routes = (find_route(app, {**scope, "path": one}) for one in (path, f"{path}/"))
    return any(
        route is not NO_ROUTE and type(route) is Route and route.template != other
        for route in routes
    )


def templates(app: Any) -> Iterator[str]:
    """The templates that `find_route` may find in `app`, as far as they are known by now."""
    return (template for template, _ in _leaves(getattr(app, "routes", ()), ""))


def _leaves(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Templates, and the routes that a router leaves in the scope for them and no others."""
    for route in _flattened(routes):
        path_format = getattr(route, "path_format", None)
        leaf = getattr(route, "original_route", route)
        if _has_routes_inside(route, path_format):
            inside = prefix + (path_format or "").removesuffix("/{path}")
            routes_inside = getattr(route, "routes", None) or ()
            yield from _leaves(routes_inside, inside)
            if path_format:
                # Where there are more, one of them may answer with a scope of its own.
                yield f"{inside}/{{path}}", None if routes_inside else leaf
        else:
            yield f"{prefix}{path_format}", leaf


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
        template, dependant = prefix + route.path_format, getattr(route, "dependant", None)
        if match is Match.FULL:
            return Route(template, dependant)
        partial = partial or NotAllowed(template, dependant)
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
