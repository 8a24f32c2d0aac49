"""A real Chromium without a window, driven by the WebDriver protocol."""

from __future__ import annotations

import base64
import shutil
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tests.support.chromium import QUIET
from tests.support.programs import Program, free_port
from verification.end_to_end.tools import ToolError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_ARGUMENTS: Final = (*QUIET, "--hide-scrollbars", "--force-device-scale-factor=1.5")


class Browser:
    """A browser with one window of `width` times `height` points, inside a `with` block.

    Raises:
        ToolError: Chromium or its driver is not installed.
        ProgramError: the driver did not start.
    """

    def __init__(self, folder: Path, width: int, height: int) -> None:
        driver = shutil.which("chromedriver")
        if driver is None:
            message = "chromedriver is not here: Debian's package `chromium-driver` has it"
            raise ToolError(message)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self._program = Program(
            [driver, f"--port={port}"],
            cwd=folder,
            ready=f"{url}/status",
            environment={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            log=folder / "chromedriver.log",
        )
        self._client = httpx.Client(base_url=url, timeout=60)
        options = {"args": [*_ARGUMENTS, f"--window-size={width},{height}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ask("DELETE", self._session)
        self._client.close()
        self._program.stop()

    def show(self, url: str) -> None:
        """Opens `url`, and waits until it is loaded."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def picture(self, selector: str, path: Path) -> None:
        """Writes a picture of the element that `selector` (CSS) finds to `path`."""
        where = {"using": "css selector", "value": selector}
        (element,) = self._ask("POST", f"{self._session}/element", where).values()
        data = self._ask("GET", f"{self._session}/element/{element}/screenshot")
        path.write_bytes(base64.b64decode(data))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()["value"]
