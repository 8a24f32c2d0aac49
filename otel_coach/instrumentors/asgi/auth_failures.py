"""Finds the reason for a 401 or 403 in the headers of the response and in the request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import cookie_parser

from otel_coach.metrics.labels import BEARER_ERRORS, MISSING_CREDENTIALS, REJECTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_coach.core.asgi_types import Scope

    Headers = Iterable[tuple[bytes, bytes]]

_ERROR = re.compile(rb"""\berror\s*=\s*"?([a-z_]{1,30})""", re.IGNORECASE)


def auth_failure_reason(
    scope: Scope,
    response_headers: Headers,
    credential_headers: frozenset[str],
    dependant: Any,
) -> str:
    """Returns the auth error_type: an RFC 6750 code, `missing_credentials` or `rejected`.

    `dependant` is the FastAPI route's: the headers, query parameters and cookies that its security
    schemes read count as credentials, in addition to `credential_headers`.
    """
    for name, value in response_headers:
        if name.lower() == b"www-authenticate" and (error := _ERROR.search(value)):
            code = error.group(1).decode().lower()
            if code in BEARER_ERRORS:
                return code
    schemes = tuple(_schemes(dependant))
    if _has_header(scope, credential_headers | _names(schemes, "header")):
        return REJECTED
    if _has_query(scope, _names(schemes, "query")) or _has_cookie(scope, _names(schemes, "cookie")):
        return REJECTED
    return MISSING_CREDENTIALS


def _schemes(dependant: Any) -> Iterator[Any]:
    """Yields the OpenAPI models of the security schemes of `dependant` and its dependencies."""
    waiting = [dependant] if dependant is not None else []
    while waiting:
        current = waiting.pop()
        waiting.extend(getattr(current, "dependencies", ()))
        # FastAPI's security schemes (SecurityBase) have an OpenAPI model and a scheme name.
        call = getattr(current, "call", None)
        if hasattr(call, "scheme_name") and (model := getattr(call, "model", None)) is not None:
            yield model


def _names(schemes: Iterable[Any], place: str) -> frozenset[str]:
    """Returns the parameters that API key schemes read from `place` (header, query or cookie)."""
    names: list[str] = []
    for scheme in schemes:
        where = getattr(scheme, "in_", None)
        if getattr(where, "value", where) == place and isinstance(scheme.name, str):
            names.append(scheme.name.lower() if place == "header" else scheme.name)
    return frozenset(names)


def _has_header(scope: Scope, names: frozenset[str]) -> bool:
    return any(name.decode("latin-1").lower() in names for name, _ in scope["headers"])


def _has_query(scope: Scope, names: frozenset[str]) -> bool:
    if not names:
        return False
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    return not names.isdisjoint(query)


def _has_cookie(scope: Scope, names: frozenset[str]) -> bool:
    if not names:
        return False
    sent = (value for name, value in scope["headers"] if name.lower() == b"cookie")
    return any(not names.isdisjoint(cookie_parser(value.decode("latin-1"))) for value in sent)
