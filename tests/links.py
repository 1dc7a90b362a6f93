"""A built site is looked through, as a reader would: ``python -m tests.links build/site [--browser] [--external]``.

Every link and picture within the site leads somewhere, anchors included, and no page loads anything from elsewhere.
With ``--browser`` (Chromium, as ``chromium`` or ``google-chrome``) all pages are opened, too, on the width of a phone:
there is no message of an error, no picture that is not shown, no request that fails or leaves this machine, and nothing
wider than the page. Links to other sites are only listed, with ``--external``.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: Tags whose addresses a browser fetches by itself, with the attribute that has them.
LOADED = {"img": "src", "script": "src", "iframe": "src", "video": "src", "source": "src"}
#: Seconds for all pages in the browser.
PATIENCE = 300
#: Pages that are open at the same time.
FRAMES = 4


class Page(HTMLParser):
    """What a page links to, loads, and can be linked to by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.anchors |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif tag == "link" and set(told.get("rel", "").split()) & {"stylesheet", "icon", "preload"}:
            self.loads.append(told.get("href", ""))
        elif tag in LOADED and LOADED[tag] in told:
            self.loads.append(told[LOADED[tag]])


def pages_of(site: Path) -> dict[Path, Page]:
    """All pages of a site by their paths in it; what a theme keeps in `_static` is no page."""
    files = (file.relative_to(site) for file in sorted(site.rglob("*.html")))
    return {file: Page((site / file).read_text(encoding="utf-8")) for file in files if file.parts[0] != "_static"}


def broken(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Each link that leads nowhere, and each thing that a page loads and that is missing, or elsewhere."""
    for path, page in pages.items():
        for target in page.loads:
            if urlsplit(target).netloc:
                yield f"{path} loads {target}, which is not of this site"
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (site / path.parent / unquote(parts.path)).resolve() if parts.path else site / path
            if file.is_dir():
                file = file / "index.html"
            if not file.is_file():
                yield f"{path} links to {target}, which is not there"
            elif parts.fragment and file.suffix == ".html":
                known = pages.get(file.relative_to(site.resolve()) if parts.path else path)
                if known is not None and unquote(parts.fragment) not in known.anchors:
                    yield f"{path} links to {target}, where this anchor is not"


def external(pages: dict[Path, Page]) -> list[str]:
    """The links to other sites."""
    return sorted({link for page in pages.values() for link in page.links if urlsplit(link).netloc})


#: Opens the pages one after the other, in frames, and tells what it has seen.
DRIVER = """<!doctype html><meta charset="utf-8"><script>
const pages = PAGES, found = [], seen = {count: 0};
const wait = ms => new Promise(done => setTimeout(done, ms));
async function look(page) {
  const frame = document.createElement("iframe");
  frame.style = "width: 390px; height: 800px";
  await new Promise(done => { frame.onload = done; frame.src = "/" + page; document.body.append(frame); });
  const inside = frame.contentDocument, inner = frame.contentWindow;
  for (const image of inside.images) { image.loading = "eager"; }
  for (let turn = 0; turn < 100 && [...inside.images].some(image => !image.complete); turn++) await wait(20);
  for (const image of inside.images) {
    if (!image.naturalWidth) found.push(page + ": the picture " + image.getAttribute("src") + " is not shown");
  }
  for (const entry of inner.performance.getEntriesByType("resource")) {
    if (entry.responseStatus >= 400) found.push(page + ": " + entry.name + " gives " + entry.responseStatus);
    if (!entry.name.startsWith(location.origin + "/") && !entry.name.startsWith("data:")) {
      found.push(page + " loads " + entry.name);
    }
  }
  const width = inside.documentElement.scrollWidth;
  if (width > 391) found.push(page + " is " + width + " pixels wide on a phone of 390");
  frame.remove();
  seen.count++;
}
async function worker() { while (pages.length) await look(pages.pop()); }
addEventListener("DOMContentLoaded", async () => {
  await Promise.all(Array.from({length: FRAMES}, worker));
  await fetch("/report", {method: "POST", body: JSON.stringify({found, seen: seen.count})});
});
</script><body></body>"""


class Server(http.server.SimpleHTTPRequestHandler):
    """A site's files, the driver, and its report."""

    driver = b""
    report: dict[str, Any] | None = None
    done = threading.Event()

    def do_GET(self) -> None:
        if self.path != "/driver":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.driver)
        return None

    def do_POST(self) -> None:
        Server.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def chromium() -> str | None:
    """The browser's command; None if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


def opened(site: Path, pages: list[Path], browser: str) -> list[str]:
    """What is wrong with pages that are opened in a browser."""
    names = json.dumps([path.as_posix() for path in pages])
    Server.driver = DRIVER.replace("PAGES", names).replace("FRAMES", str(FRAMES)).encode()
    Server.done.clear()
    handler = functools.partial(Server, directory=str(site))
    with (http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
          tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
          tempfile.TemporaryFile() as errors):  # fmt: skip
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run",
            "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}", "--remote-debugging-port=0", "--window-size=1700,900",
            f"http://127.0.0.1:{server.server_port}/driver",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            finished = Server.done.wait(PATIENCE)
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if not finished or Server.report is None:
        return [f"the browser did not open all pages within {PATIENCE} s", *said.splitlines()[-5:]]
    found = list(Server.report["found"])
    if Server.report["seen"] != len(pages):
        found.append(f"{Server.report['seen']} of {len(pages)} pages were opened")
    return found + re.findall(r"CONSOLE[^\n]*?\] (\"(?:Uncaught|Failed|Error|Refused|Access)[^\n]*)", said)


def main() -> int:
    """Look through a site; the number of findings, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser", action="store_true", help="open all pages in Chromium, if it is installed")
    parser.add_argument("--external", action="store_true", help="list links to other sites")
    told = parser.parse_args()
    pages = pages_of(told.site)
    found = list(broken(told.site, pages))
    if not pages:
        found.append(f"there is no page in {told.site}")
    links, loads = (sum(len(getattr(page, kind)) for page in pages.values()) for kind in ("links", "loads"))
    print(f"{len(pages)} pages, {links} links, {loads} pictures, styles and scripts: {len(found)} broken")
    if told.external:
        print(*external(pages), sep="\n")
    if told.browser:
        browser = chromium()
        if browser is None:
            print("There is no Chromium to open them with.")
        else:
            seen = opened(told.site, list(pages), browser)
            print(f"opened in {Path(browser).name}: {len(seen)} findings")
            found += seen
    print(*found, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
