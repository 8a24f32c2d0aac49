"""The page for a browser: one HTML file that reads the plain page, and draws its figures.

It holds no figures itself. Its script asks the address that it came from, and no other.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from otel_coach.prometheus.http.http_response import Answer

_FILE: Final = "browser.html"
_PLAIN: Final = "plain"
"""The query of the link to the plain page: a link cannot choose its header Accept."""
_INLINE: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_PREFERENCE: Final = re.compile(r"\s*text/html\s*(?:;(.*))?", re.IGNORECASE)


def for_browser(accept: str, query: str, *, is_allowed: bool) -> Answer | None:
    """Returns the page if `accept` wants it, else None: then the plain page is to be sent.

    It is None also where `query` is that of the page's own link to the plain page, and where no
    descriptor is left to read the file: the plain page says more.
    """
    if wants_html(accept) and query != _PLAIN:
        with suppress(OSError):
            return browser_page(is_allowed=is_allowed)
    return None


def wants_html(accept: str) -> bool:
    """Whether the header `accept` names text/html, as browsers do, and no format of scrapers."""
    if re.search(r"text/plain|openmetrics-text|vnd\.google\.protobuf", accept, re.IGNORECASE):
        return False
    for one in accept.split(","):
        if (found := _PREFERENCE.fullmatch(one)) is not None:
            return not re.search(r"q\s*=\s*0(\.0*)?\s*(;|$)", found[1] or "")
    return False


@functools.cache
def browser_page(*, is_allowed: bool) -> Answer:
    """Returns the page; without the token its status is 401, and it asks for the token.

    Raises:
        OSError: the file cannot be read, for example because no descriptor is left.
    """
    from otel_coach.prometheus.overview import definitions  # noqa: PLC0415 - only for browsers

    text = files("otel_coach.prometheus.http").joinpath(_FILE).read_text("utf-8")
    hashes = {"script": "", "style": ""}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind] = f"'sha256-{digest}'"
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    data = json.dumps(definitions()).replace("<", "\\u003c")
    headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy),
        ("cache-control", "no-store"),
        ("vary", "accept"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ]
    body = text.replace("DEFINITIONS", data).encode()
    if is_allowed:
        return Answer(HTTPStatus.OK, headers, body)
    return Answer(HTTPStatus.UNAUTHORIZED, [*headers, ("www-authenticate", "Bearer")], body)
