"""Makes the site in a folder complete without a network, then looks for broken links.

The exit code is 1 if a link leads to no page or no heading of the site, or if a page loads
something from another host.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_SHIM: Final = "https://unpkg.com/iframe-worker/shim"
"""What lets the search work in a page that was opened as a file; Zensical loads it from there."""
_LOCAL_SHIM: Final = Path(__file__).with_name("iframe-worker.js")
_LOADS: Final = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
"""Elements whose address is loaded with the page."""
_ASKS_GITHUB: Final = "source"
"""The component that asks GitHub's API for the repository's figures."""
_NOT_LOADED: Final = {"canonical", "prev", "next", "alternate"}
"""Relations of a `link` that only name an address."""


class Page(HTMLParser):
    """The addresses and the anchors in one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {"", "__search"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the element's address and id."""
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if values.get("data-md-component") == _ASKS_GITHUB:
            self.loaded.append("https://api.github.com/")
        address = values.get(_LOADS.get(tag, ""), "")
        if address and values.get("rel") not in _NOT_LOADED:
            self.loaded.append(address)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


def complete(site: Path) -> None:
    """Lets the pages load the shim from the site itself."""
    name = _LOCAL_SHIM.name
    (site / "assets" / name).write_bytes(_LOCAL_SHIM.read_bytes())
    for path in site.rglob("*.html"):
        up = "../" * (len(path.relative_to(site).parts) - 1)
        path.write_text(path.read_text("utf-8").replace(_SHIM, f"{up}assets/{name}"), "utf-8")


def problems(site: Path) -> tuple[int, list[str]]:
    """Returns the number of local links, and a line for each that is broken."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    found: list[str] = []
    count = 0
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # served at any address; its links begin at the root of the site
        name = path.name
        found += [f"{name}: loads {one}" for one in page.loaded if urlsplit(one).netloc]
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{name}: {link} leads to no file")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name}: {link} leads to no heading")
    return count, found


def main() -> int:
    """Returns the exit code: 0, or 1 if something is wrong."""
    site = Path(sys.argv[1])
    complete(site)
    count, found = problems(site)
    for line in (*found, f"{site}/index.html: {count} local links, {len(found)} problems"):
        sys.stdout.write(f"{line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
