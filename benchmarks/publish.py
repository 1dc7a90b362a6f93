"""Makes the pages of the kept results: ``python -m benchmarks.publish [FOLDER]`` (default: asv's, ``.asv/html``).

asv draws a graph of each benchmark over the commits. Its pages load their libraries from the network; here they get
the copies of ``benchmarks/www``, and need none. They fetch their data, so a browser must get them from a server (``asv
preview``, or wherever the documentation lies): of a page that is opened as a file, browsers fetch nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = Path(__file__).resolve().parent / "www"
#: What asv writes to have a library loaded: the attribute, and the library's file at the end of its address.
LOADED = re.compile(r'(src|href)="https://[^"]*/([^"/]+\.(?:js|css))" integrity="[^"]*"[^>]*>')


def publish(folder: Path) -> None:
    """Write the pages into a folder, which asv empties before."""
    asv = [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(folder.resolve())]
    subprocess.run(asv, cwd=ROOT, check=True)
    page = folder / "index.html"
    text = LOADED.sub(lambda found: f'{found[1]}="{_copied(found[2], folder)}">', page.read_text())
    text = text.replace("<title>airspeed velocity</title>", "<title>Benchmarks of fastconv</title>")
    if 'src="http' in text or '"stylesheet" href="http' in text:
        raise RuntimeError(f"{page} still loads from the network: asv writes its page otherwise than it did")
    page.write_text(text)
    # The list of benchmarks has all that this tree has. Those that no commit has results of have no graph to show.
    index = folder / "index.json"
    told = json.loads(index.read_text())
    graphs = {file.stem for file in (folder / "graphs" / "summary").glob("*.json")}
    told["benchmarks"] = {name: one for name, one in told["benchmarks"].items() if name in graphs}
    index.write_text(json.dumps(told))


def _copied(name: str, folder: Path) -> str:
    """Put a library beside the page, and give its name there: that of its readable form, where that is kept."""
    for kept in (name, name.replace(".min.", ".")):
        if (LIBRARIES / kept).is_file():
            shutil.copy(LIBRARIES / kept, folder)
            return kept
    raise RuntimeError(f"asv's page loads {name}, of which there is no copy in {LIBRARIES}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=ROOT / ".asv" / "html")
    publish(parser.parse_args().folder)


if __name__ == "__main__":
    main()
