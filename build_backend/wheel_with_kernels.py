"""How wheels are built (PEP 517): by setuptools, and with ``FASTCONV_WHEEL_KERNELS=1`` with compiled kernels inside.

Such a wheel is for one platform and Python. It carries a pack of kernels for each class of processors that this one
belongs to, and who installs it does not wait for those to be compiled.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 # the other hooks


def _with_kernels() -> bool:
    return os.environ.get("FASTCONV_WHEEL_KERNELS", "0") not in ("", "0")


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What must be there to build a wheel."""
    needed: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    if _with_kernels():  # the package compiles them, and `wheel` takes wheels apart
        needed += [*tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"], "wheel"]
    return needed


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build a wheel, and put kernels into it if they are asked for; the name of its file."""
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return _add_kernels(Path(wheel_directory) / name) if _with_kernels() else name


def _add_kernels(plain: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        _run(folder, "-m", "wheel", "unpack", "--dest", folder, str(plain))
        (tree,) = Path(folder).iterdir()
        kernels = tree / "fastconv" / "kernels"
        kernels.mkdir()
        # By the unpacked package itself: its sources are what kernels depend on.
        code = "import sys\nfrom fastconv import cache\nfrom fastconv.cpu.system.processor import CLASSES, host\n"
        code += "for one in CLASSES.values():\n    if one.features <= host().features:\n"
        code += "        print(one.name, cache.export_kernels(f'{sys.argv[1]}/{one.name}.zip', processor=one.name))\n"
        _run(str(tree), "-c", code, str(kernels))
        python = f"cp{sys.version_info.major}{sys.version_info.minor}"
        system = f"{platform.system().lower()}_{platform.machine()}"
        _run(folder, "-m", "wheel", "pack", "--dest-dir", folder, str(tree))
        (packed,) = Path(folder).glob("*.whl")
        tags = ["--python-tag", python, "--abi-tag", python, "--platform-tag", system]
        _run(folder, "-m", "wheel", "tags", "--remove", *tags, str(packed))
        (packed,) = Path(folder).glob("*.whl")
        plain.unlink()
        return packed.replace(plain.with_name(packed.name)).name


def _run(folder: str, *arguments: str) -> None:
    """Run Python where nothing but the package in this folder is found first."""
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=sys.stderr)
