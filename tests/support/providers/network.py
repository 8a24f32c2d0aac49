"""The only network of these tests: the providers' own addresses, which lead to this machine.

An integration is asked at the address that it has by itself, because a price depends on it. A name
that no double has cannot be resolved, and no connection leaves the machine.
"""

from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_LOCAL = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}
_getaddrinfo = socket.getaddrinfo
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


@contextmanager
def only_network(ports: Mapping[str, int]) -> Generator[list[str]]:
    """Resolves nothing inside but this machine's names and the hosts of `ports`.

    A connection to such a host, to whichever port, leads to its port on this machine. Yields the
    other names that were asked for, to which no connection was made.
    """
    refused: list[str] = []
    # An address for each host: asyncio and anyio connect to an address, and know no name any more.
    addresses = {host: f"127.77.0.{place}" for place, host in enumerate(ports, 1)}
    by_address = {addresses[host]: port for host, port in ports.items()}

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in addresses or name in by_address:
            return _getaddrinfo(addresses.get(name, name), port, *args, **kwargs)
        if name in _LOCAL:
            return _getaddrinfo(host, port, *args, **kwargs)
        refused.append(name)
        raise socket.gaierror(socket.EAI_NONAME, f"{name} is not on this machine")

    def target(connecting: socket.socket, address: Any) -> Any:
        if connecting.family not in {socket.AF_INET, socket.AF_INET6}:
            return address
        if address[0] in by_address:
            return ("127.0.0.1", by_address[address[0]])
        if address[0] not in _LOCAL:
            refused.append(address[0])
            raise OSError(errno.ENETUNREACH, f"{address[0]} is not on this machine")
        return address

    def connect(self: socket.socket, address: Any) -> None:
        _connect(self, target(self, address))

    def connect_ex(self: socket.socket, address: Any) -> int:
        return _connect_ex(self, target(self, address))

    with (
        patch.object(socket, "getaddrinfo", resolve),
        patch.object(socket.socket, "connect", connect),
        patch.object(socket.socket, "connect_ex", connect_ex),
    ):
        yield refused
