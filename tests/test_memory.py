"""How much memory a process may use, from the limits of its control groups, and what a call does with that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.base import memory

#: Files that tell a limit of 3000 bytes: what version 2 and 1 have, together, in a container that sees its group as the
#: root, and in one that is told its path outside.
GROUPS = {
    "version 2": {"proc/self/cgroup": "0::/user.slice/job\n", "sys/fs/cgroup/user.slice/job/memory.max": "3000\n",
                  "sys/fs/cgroup/user.slice/memory.max": "max\n"},
    "a group above": {"proc/self/cgroup": "0::/user.slice/job\n", "sys/fs/cgroup/user.slice/job/memory.max": "4000\n",
                      "sys/fs/cgroup/user.slice/memory.max": "3000\n"},
    "version 2, the root of a container": {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "3000\n"},
    "version 1": {"proc/self/cgroup": "5:cpu,cpuacct:/a\n4:hugetlb,memory:/a/b\n1:name=systemd:/c\n0::/d\n",
                  "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
                  "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "3000\n",
                  "sys/fs/cgroup/memory/c/memory.limit_in_bytes": "1000\n"},
    "version 1, a path outside": {"proc/self/cgroup": "4:memory:/docker/0a1b\n",
                                  "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n"},
    "both versions": {"proc/self/cgroup": "4:memory:/a\n0::/a:b\n", "sys/fs/cgroup/a:b/memory.max": "3000\n",
                      "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4000\n"},
}  # fmt: skip


@pytest.mark.parametrize("files", GROUPS.values(), ids=GROUPS)
def test_limits_of_control_groups(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert min(memory.group_limits(tmp_path)) == 3000


@pytest.mark.parametrize("text", [None, "", "\n", "nonsense", "0::/gone", "0::/..", "4:memory", "::"])
def test_control_groups_without_a_limit(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(text)
    assert memory.group_limits(tmp_path) == []


def test_a_call_counts_the_limit_of_its_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((1, 1, 600, 600), np.float32)
    expected = fastconv.max_pool2d(x, 1)
    monkeypatch.setattr(memory, "group_limits", lambda: [2**30, x.nbytes - 1])
    memory.usable_memory.cache_clear()
    try:
        for call in (lambda: fastconv.max_pool2d(x, 1), lambda: fastconv.conv2d(x, x[:, :, :1, :1]),
                     lambda: fastconv.unfold2d(x, 1), lambda: fastconv.plan_conv2d(x.shape, x)):  # fmt: skip
            with pytest.raises(MemoryError, match=r"needs 1\.4 MiB, more than the 1\.4 MiB .* control group"):
                call()
        np.testing.assert_array_equal(fastconv.max_pool2d(x[..., :500], 1), expected[..., :500])
    finally:
        memory.usable_memory.cache_clear()
