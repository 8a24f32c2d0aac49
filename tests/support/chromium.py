"""A real browser without a window, and what a page looks like in it."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-features=AutofillServerCommunication",  # it would ask about the field for the token
    # Chromium itself asks its maker for updates; a name that the page asked for would be asked too.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def browser():
    """The program, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Seen:
    """What the page shows after five seconds, and what it has asked for."""

    def __init__(self, url, folder):
        log = folder / "net.json"
        done = subprocess.run(
            [
                *(browser(), *QUIET, f"--user-data-dir={folder / 'profile'}"),
                *(f"--log-net-log={log}", "--virtual-time-budget=5000"),
                *("--dump-dom", url),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        self.html = done.stdout
        parser = _Tables()
        parser.feed(self.html)
        self.tables, self.cards, self.state = parser.tables, parser.cards, parser.state
        self.requests = _requests_of_the_page(log)


def _requests_of_the_page(log):
    """The addresses that were asked for with a referrer, or as the page itself."""
    text = log.read_text().rstrip()
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the browser was stopped while it wrote
        events = json.loads(text.rstrip(",") + "]}")["events"]
    found = [event["params"] for event in events if isinstance(event.get("params"), dict)]
    return {one["url"] for one in found if "url" in one and "127.0.0.1" in str(one)}


class _Tables(HTMLParser):
    """Each table by its caption as {name: {title: text}}, and the cards as {title: text}."""

    def __init__(self):
        super().__init__()
        self.tables, self.cards, self.state = {}, {}, ""
        self._row, self._titles, self._text = [], [], ""

    def handle_starttag(self, tag, _attributes):
        if tag in {"caption", "th", "td", "dt", "dd", "span"}:
            self._text = ""
        if tag == "tr":
            self._row = []

    def handle_data(self, data):
        self._text += data

    def handle_endtag(self, tag):
        match tag:
            case "caption":
                self._table = self.tables.setdefault(self._text, {})
                self._titles = []
            case "th" | "td":
                self._row.append(self._text)
            case "tr" if self._titles:
                self._table[self._row[0]] = dict(zip(self._titles, self._row[1:], strict=True))
            case "tr":
                self._titles = self._row[1:]
            case "dt":
                self._title = self._text
            case "dd":
                self.cards[self._title] = self._text
            case "span":
                self.state = self._text
