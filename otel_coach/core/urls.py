"""Parts of URLs."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def host_in_url(host: str) -> str:
    """Returns `host` as URLs and Host headers name it: an IPv6 address is in brackets."""
    return f"[{host}]" if ":" in host else host


def basic_credentials(url: SplitResult) -> str:
    """Returns user and password of `url` as a header Authorization, "" if there are none.

    A user without a password is sent as `user:`; see RFC 7617.
    """
    if url.username is None:
        return ""
    login = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return f"Basic {b64encode(login.encode()).decode()}"
