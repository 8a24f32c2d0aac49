"""A client of raw sockets, in a process of its own.

`python -m bench.load PORT PATH CONNECTIONS SECONDS` prints how many answers it read, how long that
took, and the CPU seconds that it used itself: as long as those are far below the time it took, it
is not what limits the service.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from dataclasses import dataclass
from time import perf_counter, process_time


@dataclass
class _Connection:
    socket: socket.socket
    unread: bytes = b""

    def answered(self) -> bool:
        """Read what is there; whether an answer is complete."""
        block = self.socket.recv(262_144)
        if not block:
            message = "the server closed the connection"
            raise ConnectionError(message)
        self.unread += block
        head, end, body = self.unread.partition(b"\r\n\r\n")
        if not end:
            return False
        if b"chunked" in head:
            done = body.endswith(b"0\r\n\r\n")
        else:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            done = len(body) >= length
        if done:
            self.unread = b""
        return done


def run(port: int, path: str, connections: int, seconds: float) -> dict[str, float]:
    """Keep `connections` busy for `seconds`."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    answers = 0
    with selectors.DefaultSelector() as ready:
        for _ in range(connections):
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(one, selectors.EVENT_READ, _Connection(one))
            one.sendall(request)
        started, busy = perf_counter(), process_time()
        while perf_counter() - started < seconds:
            for key, _ in ready.select(1):
                if key.data.answered():
                    answers += 1
                    key.data.socket.sendall(request)
        took, used = perf_counter() - started, process_time() - busy
        for key in tuple(ready.get_map().values()):
            key.data.socket.close()
    return {"answers": answers, "seconds": took, "client_cpu": used}


if __name__ == "__main__":
    port, path, connections, seconds = sys.argv[1:]
    print(json.dumps(run(int(port), path, int(connections), float(seconds))))
