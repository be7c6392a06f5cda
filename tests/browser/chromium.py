"""A headless Chromium, driven over its own debugging protocol through two pipes; nothing else is needed.

https://chromedevtools.github.io/devtools-protocol/, with `--remote-debugging-pipe`: JSON messages that end in a zero byte,
written to the browser's descriptor 3 and read from its descriptor 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 60.0


def executable() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """One browser with one page. As a context manager; `console` gathers errors and warnings of the page."""

    def __init__(self, width: int = 1400, height: int = 1000, *, dark: bool = False) -> None:
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        to_browser, self._writer = os.pipe()
        self._reader, from_browser = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]
        command = [
            executable() or "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--remote-debugging-pipe", f"--user-data-dir={self._profile}", f"--window-size={width},{height}",
            "--hide-scrollbars", "--no-first-run", "--disable-extensions", "about:blank",
        ]  # fmt: skip
        # the shell puts the pipes where the browser looks for them; from above, so that neither is in the other's way
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash", *command],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self.console: list[str] = []
        self._buffer, self._number = b"", 0
        self._events: list[dict[str, Any]] = []
        target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.theme(dark)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._writer)
        os.close(self._reader)
        shutil.rmtree(self._profile, ignore_errors=True)

    def theme(self, dark: bool) -> None:
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._call(method, self._session, **parameters)

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file and wait until its first page is shown."""
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        self.wait("document.documentElement.dataset.ready")

    def go(self, fragment: str) -> float:
        """Show another page of the file; the milliseconds that it took, until it was painted."""
        self.run("delete document.getElementById('content').dataset.shown; null")
        self.run(f"location.hash = {json.dumps(fragment)}; null")
        self.wait("document.getElementById('content').dataset.shown !== undefined")
        return float(self.run("document.getElementById('content').dataset.milliseconds"))

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, condition: str, patience: float = PATIENCE) -> Any:
        """Until a condition holds in the page."""
        end = time.monotonic() + patience
        while True:
            value = self.run(f"(() => {{ try {{ return {condition} }} catch {{ return null }} }})()")
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"{condition} never came true; console: {self.console}")
            time.sleep(0.02)

    def text(self) -> str:
        return str(self.run("document.getElementById('content').innerText"))

    def press(self, key: str, code: int = 0) -> None:
        text = {"text": {"Enter": "\r"}.get(key, key)} if len(key) == 1 or key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for its own data."""
        self.run("null")
        urls = [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def screenshot(self, path: Path, of: str = "body") -> None:
        """Of the first element that a selector finds, whole, also where it does not fit the window."""
        box = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(of)}).getBoundingClientRect(); "
            "return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: Math.min(box.height, 6000)} })()"
        )
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**box, "scale": 1})
        path.write_bytes(base64.b64decode(found["data"]))

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {
            "id": self._number,
            "method": method,
            "params": parameters,
            **({"sessionId": session} if session else {}),
        }
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            if not select.select([self._reader], [], [], max(end - time.monotonic(), 0))[0]:
                raise AssertionError("the browser does not answer")
            block = os.read(self._reader, 1 << 20)
            if not block:
                raise AssertionError("the browser has ended")
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.console.append(
                " ".join(str(a.get("value", a.get("description"))) for a in parameters["args"])
            )
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.console.append(parameters["entry"]["text"])
