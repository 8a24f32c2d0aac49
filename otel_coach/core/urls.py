"""Parts of URLs."""

from __future__ import annotations


def host_in_url(host: str) -> str:
    """Returns `host` as URLs and Host headers name it: an IPv6 address is in brackets."""
    return f"[{host}]" if ":" in host else host
