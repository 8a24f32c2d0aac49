"""Whose trace context and baggage are taken up: `OTEL_COACH_TRUST_INCOMING`.

A caller's sampled flag comes before a sampler that respects its parent, and his baggage travels on
with every outgoing call. OpenTelemetry takes up both, of everybody. Here an operator may name those
of whom they are.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from otel_coach.environment_variables import OTEL_COACH_TRUST_INCOMING, is_true

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    Network = IPv4Network | IPv6Network

_HEADER: Final = "header:"
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, section 5.6.2."""
_CURE: Final = (
    "nobody is trusted: each request begins a trace of its own, without baggage. Give true, false, "
    "or a list by comma of addresses and networks (10.0.0.0/8), last perhaps header:NAME=SECRET"
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is trusted; the secret is in no text of it."""

    everybody: bool = True
    networks: tuple[Network, ...] = ()
    """Of the peer of the connection."""
    header: bytes = b""
    """In lower case; whoever sends it with the secret is trusted. Empty for none."""
    secret: bytes = field(default=b"", repr=False)

    @property
    def test(self) -> Callable[[MutableMapping[str, Any]], bool] | None:
        """`includes`; None where it says yes to all."""
        return None if self.everybody else self.includes

    def includes(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether whoever made the request of an ASGI `scope` is trusted."""
        return self.everybody or self._knows_peer(scope) or self._knows_secret(scope)

    def _knows_peer(self, scope: MutableMapping[str, Any]) -> bool:
        client = scope.get("client")
        if not self.networks or not client:
            return False  # a Unix socket has no address
        host, port = client
        # Servers that take the address out of a header, as uvicorn does of X-Forwarded-For, know no
        # port. It is not the peer's, and whoever writes the header may choose it.
        return bool(port) and _is_in(self.networks, host)

    def _knows_secret(self, scope: MutableMapping[str, Any]) -> bool:
        if not self.header:
            return False
        # All are compared, so that the time says nothing of which was right.
        sent = [value for name, value in scope["headers"] if name.lower() == self.header]
        return sum(hmac.compare_digest(value, self.secret) for value in sent) > 0


@lru_cache(maxsize=1024)
def _is_in(networks: tuple[Network, ...], host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def trust_of(text: str, problems: list[str]) -> Trust:
    """What the variable's `text` says; where it says nothing, nobody, and a line in `problems`."""
    if text.lower() in {"", "true", "1", "false", "0"}:
        return Trust(everybody=not text or is_true(text))
    # Its end may be a secret, with commas in it. No part of it is repeated.
    peers, has_header, header = text.partition(_HEADER)
    try:
        name, secret = _named_secret(header) if has_header else (b"", b"")
        return Trust(everybody=False, networks=_networks(peers), header=name, secret=secret)
    except ValueError as error:
        problems.append(f"{OTEL_COACH_TRUST_INCOMING}: {error}; {_CURE}")
        return Trust(everybody=False)


def _networks(text: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for position, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        try:
            networks.append(ip_network(entry))
        except ValueError:
            message = f"entry {position} is no address and no network"
            raise ValueError(message) from None
    return tuple(networks)


def _named_secret(text: str) -> tuple[bytes, bytes]:
    name, _, secret = text.partition("=")
    name = name.strip()
    if not _HEADER_NAME.fullmatch(name):
        message = "header: is not followed by the name of a header and ="
        raise ValueError(message)
    # As a client sends it: without space around it.
    if not (secret := secret.strip()):
        message = "the header has no secret"
        raise ValueError(message)
    return name.lower().encode(), secret.encode(errors="surrogateescape")
