"""Decides which callers' trace context and baggage are accepted: `OTEL_COACH_TRUST_INCOMING`.

A caller's sampled flag decides for a parent-based sampler, and its baggage is propagated with every
outgoing call. OpenTelemetry accepts both from all callers; here an operator may restrict them to
trusted callers.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.environment_variables import (
    FALSE,
    OTEL_COACH_TRUST_INCOMING,
    TRUE,
    is_true,
)
from otel_coach.configuration.header_names import HEADER_NAME
from otel_coach.configuration.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from otel_coach.configuration.environment import Environment

    Network = IPv4Network | IPv6Network

_HEADER: Final = "header:"
_ABOUT_THE_SERVICE: Final = frozenset({b"host", b"origin", b"referer"})
_CURE: Final = (
    "Give true, false, or addresses and networks (10.0.0.0/8) separated by commas, then optionally "
    "header:NAME=SECRET"
)
_EFFECT: Final = "Now nobody is trusted: each request begins a trace of its own, without baggage"


@dataclass(frozen=True, slots=True)
class Trust:
    """The callers that are trusted. Its `repr` does not contain the secret."""

    everybody: bool = True
    networks: tuple[Network, ...] = ()
    """Callers are trusted if the address of their connection's peer is in one of these."""
    header: bytes = b""
    """A header's name in lower case; callers that send it with the secret are trusted."""
    secret: bytes = field(default=b"", repr=False)

    @property
    def test(self) -> Callable[[MutableMapping[str, Any]], bool] | None:
        """The method `includes`; None if all callers are trusted."""
        return None if self.everybody else self.includes

    def includes(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether the caller that sent the request of an ASGI `scope` is trusted."""
        return self.everybody or self._knows_peer(scope) or self._knows_secret(scope)

    def _knows_peer(self, scope: MutableMapping[str, Any]) -> bool:
        client = scope.get("client")
        if not self.networks or not client:
            return False  # a Unix socket has no address
        host, port = client
        # A server may have taken the address from a header, as uvicorn does from X-Forwarded-For.
        # Then it is not the peer's: the sender of the header may choose it. Port 0 shows that, but
        # some servers take a port from the header, too.
        return bool(port) and _is_in(self.networks, host) and not _is_in_a_header(host, scope)

    def _knows_secret(self, scope: MutableMapping[str, Any]) -> bool:
        if not self.header:
            return False
        # All values are compared, so that the time does not reveal which one was right.
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


def _is_in_a_header(host: str, scope: MutableMapping[str, Any]) -> bool:
    """Whether a header contains `host`; headers about the service itself do not count."""
    # As a part of another address it does not count; but a port may follow.
    before = rb"[0-9a-f:]" if ":" in host else rb"[0-9.]"
    form = re.compile(
        rb"(?<!%b)%b(?![0-9a-f]|\.[0-9])" % (before, re.escape(host.lower().encode()))
    )
    return any(
        form.search(value.lower()) and name.lower() not in _ABOUT_THE_SERVICE
        for name, value in scope["headers"]
    )


def trust_incoming(environment: Environment) -> Trust:
    """Returns the value of the setting."""
    return trust_of(environment.text(OTEL_COACH_TRUST_INCOMING), environment.problems)


def trust_of(text: str, problems: list[Problem]) -> Trust:
    """Returns what the variable's `text` means; an invalid text trusts no caller.

    An invalid text adds one to `problems`.
    """
    try:
        return _parsed(text)
    except ValueError as error:
        variable = OTEL_COACH_TRUST_INCOMING
        problems.append(Problem(variable, f"{variable}: {error}. {_EFFECT}"))
        return Trust(everybody=False)


def _parsed(text: str) -> Trust:
    if text.lower() in {"", *TRUE, *FALSE}:
        return Trust(everybody=not text or is_true(text))
    # The text may end with a secret, which may contain commas. Messages repeat no part of it.
    peers, has_header, header = text.partition(_HEADER)
    try:
        name, secret = _named_secret(header) if has_header else (b"", b"")
        return Trust(everybody=False, networks=_networks(peers), header=name, secret=secret)
    except ValueError as error:
        message = f"is not valid: {error}. {_CURE}"
        raise ValueError(message) from None


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
    if not re.fullmatch(HEADER_NAME, name):
        message = "header: is not followed by the name of a header and ="
        raise ValueError(message)
    # Stripped, because HTTP strips the spaces around a header's value.
    if not (secret := secret.strip()):
        message = "the header has no secret"
        raise ValueError(message)
    return name.lower().encode(), secret.encode(errors="surrogateescape")


class TrustKind:
    """Which callers are trusted: a `Trust`, true or false, or the text of the variable."""

    def parse(self, text: str) -> Trust:
        """Accepts the text of the variable."""
        return _parsed(text)

    def check(self, value: object) -> Trust:
        """Accepts a `Trust`, a bool or a str."""
        if isinstance(value, Trust):
            return value
        if isinstance(value, bool):
            return Trust(everybody=value)
        if isinstance(value, str):
            return self.parse(value)
        message = "is not a Trust, a bool or a str"
        raise ValueError(message)
