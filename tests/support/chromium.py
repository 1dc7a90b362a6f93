"""A headless Chromium that tests open pages in: driven over a pair of pipes by its own protocol, with nothing installed
beside the browser.

Source: the Chrome DevTools protocol; ``--remote-debugging-pipe`` reads commands from file descriptor 3 and writes
answers and events to 4, each a JSON text that ends with a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

#: Names of the browser's program, by which it is found.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Seconds that an answer may take: it comes within some milliseconds, unless the machine is busy.
PATIENCE = 60.0
#: Codes of keys that tests press.
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9, "Enter": 13,
        " ": 32}  # fmt: skip


def missing() -> str | None:
    """The reason why there is no browser to test with; None if there is one."""
    if not hasattr(os, "posix_spawn"):
        return "the browser is driven over POSIX pipes"
    if not any(map(shutil.which, NAMES)):
        return "no Chromium: install the package chromium"
    return None


class Chromium:
    """A running browser with one page. `problems` are its errors, also of its console; `requests` what it asked for."""

    def __init__(self) -> None:
        program = next(filter(None, map(shutil.which, NAMES)))
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs, self._to = _pipe()
        self._from, answers = _pipe()
        arguments = [program, "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
                     "--disable-background-networking", "--disable-extensions", "--disable-dev-shm-usage",
                     f"--user-data-dir={self._profile.name}", *["--no-sandbox"] * (os.geteuid() == 0),
                     "about:blank"]  # fmt: skip
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        pipes = [(os.POSIX_SPAWN_DUP2, theirs, 3), (os.POSIX_SPAWN_DUP2, answers, 4)]
        self._process = os.posix_spawn(program, arguments, dict(os.environ), file_actions=[*quiet, *pipes], setpgroup=0)
        os.close(theirs)
        os.close(answers)
        self._number, self._read, self._session = 0, b"", None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and all its processes."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self._session = None
            self.call("Browser.close")
        deadline = time.monotonic() + 10
        while os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                break
            time.sleep(0.01)
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    # -- the protocol ----------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command; RuntimeError with what the browser says if it refuses."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._event(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self._from], [], [], PATIENCE)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._read += part
        text, _, self._read = self._read.partition(b"\0")
        return json.loads(text)

    def _event(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.problems.append(str([one.get("value", one.get("description")) for one in told["args"]]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    # -- what a reader does ----------------------------------------------------------------------------------

    def open(self, file: Path, width: int = 1200, height: int = 900, *, dark: bool = False, still: bool = True) -> None:
        """Open a file in a window of this size; `still` is the wish for less motion."""
        self.problems.clear()
        self.requests.clear()
        window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        features = {"prefers-color-scheme": "dark" if dark else "light",
                    "prefers-reduced-motion": "reduce" if still else "no-preference"}  # fmt: skip
        wishes = [{"name": name, "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=wishes)
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait_for(f"document.readyState === 'complete' && location.href === {json.dumps(file.resolve().as_uri())}")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, which JSON can hold."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until an expression is true; TimeoutError with it otherwise."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(script):
            if time.monotonic() > deadline:
                raise TimeoutError(script)
            time.sleep(0.01)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def middle(self, element: str) -> tuple[float, float]:
        """The middle of an element, given as an expression, in the window."""
        box = f"const {{x, y, width, height}} = ({element}).getBoundingClientRect()"
        x, y = self.evaluate(f"(() => {{ {box}; return [x + width / 2, y + height / 2]; }})()")
        return x, y

    def mouse(self, kind: str, element: str) -> None:
        """One event of the mouse ("mousePressed", "mouseMoved" or "mouseReleased") in the middle of an element."""
        x, y = self.middle(element)
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def click(self, element: str) -> None:
        """Click into the middle of an element."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, element)

    def screenshot(self, file: Path) -> None:
        """Write what the page shows, all of it, as a PNG file."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        file.write_bytes(base64.b64decode(picture))


def _pipe() -> tuple[int, int]:
    """A pipe whose ends have numbers above those that the browser's get."""
    return tuple(_high(end) for end in os.pipe())  # type: ignore[return-value] # it has two ends


def _high(number: int) -> int:
    """A file descriptor under a number from 10 on."""
    high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(number)
    return high
