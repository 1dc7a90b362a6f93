"""Files that are written where they differ, so that Sphinx reads again only what has changed."""

from __future__ import annotations

from pathlib import Path


def replace(folder: Path, texts: dict[str, str]) -> None:
    """Make the text files of a folder these, by their names; those of other names and the same ending are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    endings = {Path(name).suffix for name in texts}
    for file in folder.iterdir():
        if file.suffix in endings and file.name not in texts:
            file.unlink()
    for name, text in texts.items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
