"""A real browser without a window, driven by its developer tools' protocol."""

import json
import os
import select
import shutil
import subprocess
import sys
from contextlib import contextmanager

from tests.support.waiting import eventually

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-features=AutofillServerCommunication",  # it would ask about the field for the token
    # Chromium itself asks its maker for updates; a name that the page asked for would be asked too.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_PATIENCE = 60
"""Seconds for an answer of the browser."""
_EXEC = """
import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3])
os.dup2(reading, 3)
os.dup2(writing, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts the browser with its pipes as descriptors 3 and 4, where it expects them."""
_KEYS = {
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    " ": {"code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
    "ArrowRight": {"code": "ArrowRight", "windowsVirtualKeyCode": 39},
}
_SHOWN = """
(() => {
  const text = node => node.textContent, found = {tables: {}, cards: {}};
  for (const table of document.querySelectorAll("table")) {
    if (!table.checkVisibility()) continue;
    const titles = [...table.tHead.rows[0].cells].map(text).slice(1);
    const rows = found.tables[text(table.caption)] = {};
    for (const row of table.tBodies[0].rows) {
      const [name, ...cells] = [...row.cells].map(text);
      rows[name] = Object.fromEntries(titles.map((title, i) => [title, cells[i]]));
    }
  }
  for (const box of document.querySelectorAll("dl div"))
    found.cards[text(box.querySelector("dt"))] = text(box.querySelector("dd"));
  found.window = text(document.querySelector("#window"));
  found.state = text(document.querySelector("[role=status]"));
  return found;
})()
"""


def browser():
    """The program, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class _Protocol:
    """The pipes to a browser: commands, each with its answer."""

    def __init__(self, writing, reading):
        self._writing, self._reading = writing, reading
        self._number, self._received = 0, b""

    def call(self, method, parameters, on_event=lambda _event: None, **session):
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._writing, json.dumps(asked).encode() + b"\0")
        while (message := self._message()).get("id") != self._number:
            if message.items() >= session.items():
                on_event(message)
        assert "error" not in message, message
        return message["result"]

    def _message(self):
        while b"\0" not in self._received:
            assert select.select([self._reading], [], [], _PATIENCE)[0], "Chromium says nothing"
            piece = os.read(self._reading, 1 << 16)
            assert piece, "Chromium has ended"
            self._received += piece
        whole, _, self._received = self._received.partition(b"\0")
        return json.loads(whole)


class Tab:
    """A tab of the browser, without a page at first."""

    def __init__(self, protocol, storage):
        self._protocol = protocol
        target = protocol.call("Target.createTarget", {"url": "about:blank", **storage})
        found = protocol.call("Target.attachToTarget", {"flatten": True, **target})
        self._session = {"sessionId": found["sessionId"]}
        self.requests = set()
        """The addresses that the page has asked for, itself included."""
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method, **parameters):
        return self._protocol.call(method, parameters, self._note, **self._session)

    def _note(self, event):
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.add(event["params"]["request"]["url"])

    def open(self, url):
        self.call("Page.navigate", url=url)
        eventually(lambda: self.js("document.readyState") == "complete", within=_PATIENCE)

    def js(self, expression):
        """What the JavaScript, or its promise, returns."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def shown(self):
        """The visible tables, the cards, and what the page says of itself, at one moment."""
        return self.js(_SHOWN)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **_KEYS[key])

    def type(self, text):
        self.call("Input.insertText", text=text)

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])


@contextmanager
def chromium(folder):
    """A browser whose profile is in `folder`: opens tabs.

    One that is not `private` belongs to the profile; the others have a storage of their own.
    """
    (to_read, writing), (reading, to_write) = os.pipe(), os.pipe()
    program = subprocess.Popen(
        [
            *(sys.executable, "-c", _EXEC, str(to_read), str(to_write), browser(), *QUIET),
            *(f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe"),
            f"--log-net-log={folder / 'net.json'}",
        ],
        pass_fds=(to_read, to_write),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    protocol = _Protocol(writing, reading)

    @contextmanager
    def tab(*, private=True):
        storage = protocol.call("Target.createBrowserContext", {}) if private else {}
        try:
            yield Tab(protocol, storage)
        finally:
            if storage:
                protocol.call("Target.disposeBrowserContext", storage)

    try:
        yield tab
    finally:
        os.close(writing)  # the browser ends with its pipe
        os.close(reading)
        try:
            program.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def asked_for(folder):
    """The local addresses that the browser whose profile was in `folder` has asked for at all."""
    text = (folder / "net.json").read_text().rstrip()
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the browser was stopped while it wrote
        events = json.loads(text.rstrip(",") + "]}")["events"]
    found = [event["params"] for event in events if isinstance(event.get("params"), dict)]
    return {one["url"] for one in found if "url" in one and "127.0.0.1" in str(one)}
