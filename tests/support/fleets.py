"""Servers with several workers."""

from dataclasses import replace

from verification.soak.servers import APP


def plain(server):
    """The same with the application that has no model: each worker starts in half the time."""
    return replace(
        server, command=tuple("plain_app:app" if w == APP else w for w in server.command)
    )
