"""Parses the head of a request to the page's own port."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FIRST_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])", re.ASCII)
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.ASCII)


class BadRequestError(ValueError):
    """The bytes are not a request as RFC 9112 defines it."""


class RequestHead(NamedTuple):
    """The request line and the headers; the body is never read."""

    method: str
    path: str
    hosts: frozenset[str]
    """The requested host and port: from the Host header, and from the target if it names one."""
    headers: Mapping[str, str]
    """The headers by lower-case name; several with one name are joined by commas."""
    query: str
    """What follows `?` in the target, as it was sent."""

    def get(self, name: str) -> str:
        """Returns the header `name`, or an empty string."""
        return self.headers.get(name, "")


def read_head(data: bytes) -> RequestHead:
    """Parses `data`, a request's head without the empty line after it.

    Raises:
        BadRequestError: `data` is not the head of a request.
    """
    first, *lines = data.decode("latin-1").split("\r\n")
    found = _FIRST_LINE.fullmatch(first)
    if found is None:
        raise BadRequestError
    method, target, minor = found.groups()
    headers = _headers(lines)
    hosts = {headers["host"]} if "host" in headers else set[str]()
    if not hosts and minor == "1":
        raise BadRequestError
    if not target.startswith("/"):  # absolute form, as sent to a proxy
        try:
            url = urlsplit(target)
        except ValueError:
            raise BadRequestError from None
        hosts.add(url.netloc)
        target = f"{url.path}?{url.query}"
    path, _, query = target.partition("?")
    return RequestHead(method, unquote(path), frozenset(hosts), headers, query)


def _headers(lines: Iterable[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise BadRequestError
        name, value = found[1].lower(), found[2]
        if name in headers:
            if name == "host":
                raise BadRequestError
            value = f"{headers[name]},{value}"
        headers[name] = value
    return headers
