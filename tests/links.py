"""A built site is looked through, as a reader would: ``python -m tests.links build/site [--browser] [--external]``.

Every link and picture within the site leads somewhere, anchors included, and no page loads anything from elsewhere.
With ``--browser`` (Chromium, where it is installed) all pages are opened, too, on the width of a phone:
there is no message of an error, no picture that is not shown, no request that fails or leaves this machine, and nothing
wider than the page. Links to other sites are only listed, with ``--external``.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.chromium import Chromium, missing

#: Tags whose addresses a browser fetches by itself, with the attribute that has them.
LOADED = {"img": "src", "script": "src", "iframe": "src", "video": "src", "source": "src"}
#: asv's pages fetch their data, which browsers allow from a server only: `tests/test_asv.py` opens them so.
SERVED = {"asv"}
#: Pixels of a phone's width.
PHONE = 390


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
            elif parts.fragment and file.suffix == ".html" and path.parts[0] not in SERVED:
                known = pages.get(file.relative_to(site.resolve()) if parts.path else path)
                if known is not None and unquote(parts.fragment) not in known.anchors:
                    yield f"{path} links to {target}, where this anchor is not"


def external(pages: dict[Path, Page]) -> list[str]:
    """The links to other sites."""
    return sorted({link for page in pages.values() for link in page.links if urlsplit(link).netloc})


#: The pictures that are not shown, as a list of their addresses; those far below are fetched now, too.
NOT_SHOWN = """(async () => {
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  return [...document.images].filter(image => !image.naturalWidth).map(image => image.getAttribute("src"));
})()"""


def opened(site: Path, pages: Iterable[Path]) -> Iterator[str]:
    """What is wrong with pages that are opened in a browser, on the width of a phone."""
    with contextlib.closing(Chromium()) as browser:
        for page in pages:
            browser.open(site / page, PHONE)
            for picture in browser.evaluate(NOT_SHOWN):
                yield f"{page}: the picture {picture} is not shown"
            width = browser.evaluate("document.documentElement.scrollWidth")
            if width > PHONE:
                yield f"{page} is {width} pixels wide on a phone of {PHONE}"
            for request in browser.requests:
                if urlsplit(request).scheme not in ("file", "data"):
                    yield f"{page} loads {request}"
            for problem in dict.fromkeys(browser.problems):
                yield f"{page}: {problem}"


def main() -> int:
    """Look through a site; 1 if something was found, else 0."""
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
        reason = missing()
        seen = [] if reason else list(opened(told.site, (page for page in pages if page.parts[0] not in SERVED)))
        print(reason or f"opened in a browser: {len(seen)} findings")
        found += seen
    for line in found:
        print(line)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
