"""What is measured of this machine, and kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fastconv.cpu import machine


def test_the_ceiling_of_one_thread_does_not_count_while_it_waits() -> None:
    """On a busy machine another program's turns are waiting, too."""
    assert machine._least_seconds(lambda: time.sleep(0.01), 1) < 0.005


def test_the_peak_is_measured_once_and_damage_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cache_folder", lambda: tmp_path / "cache")
    measure, measured = machine.fma_ceiling, []
    monkeypatch.setattr(machine, "fma_ceiling", lambda *args: measured.append(args) or measure(*args))

    def peak() -> float:
        machine._peak.cache_clear()
        return machine._peak()

    try:
        first = peak()
        assert 1e8 < first < 1e13
        assert peak() == first
        assert len(measured) == 1
        (file,) = (tmp_path / "cache").iterdir()
        for damage in (b"", b"nan", b"1", b"\xff", b"-1e11"):
            file.write_bytes(damage)
            assert 1e8 < peak() < 1e13
        assert len(measured) == 6
    finally:
        machine._peak.cache_clear()
