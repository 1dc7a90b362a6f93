"""A Dask cluster on one machine filters an image on disk: ``python -m benchmarks.dask_cluster --gib 4 --folder DIR``.

The image is a zarr of float32 and of one channel, written chunk by chunk. Two processes of two threads filter it by a
Gaussian, by a strided convolution and by a pooling, from disk to disk. Four parts, all or those named by ``--parts``:

* memory: the most that each worker's process takes, beyond what it takes when its kernels are loaded, in chunks;
* peer: the time of the Gaussian beside dask-image's, from disk to disk and from memory, and how far numbers are apart;
  the time to copy the image from disk to disk is the limit that the disk and zarr set;
* scaling: one worker of one thread, pinned to a core, and two;
* killed: a worker is killed in the middle; the result is to be the same.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastconv
import fastconv.ndimage as ndi

with contextlib.suppress(ImportError):  # asv imports every module here, where these need not be installed
    import dask
    import dask.array as da
    import zarr
    from distributed import Client, LocalCluster, wait

    from fastconv.dask import WarmUp

PARTS = ("memory", "peer", "scaling", "killed")
SIGMA = 2.0

Filter = Callable[[Any], Any]


# -- the image and the filters -------------------------------------------------------------------------------


def stored(path: Path, shape: tuple[int, ...], size: int) -> Any:
    """A new zarr of float32, with chunks of so many elements along each axis; not compressed, so that times are those
    of filters."""
    chunks = tuple(min(one, size) for one in shape)
    return zarr.create_array(store=str(path), shape=shape, chunks=chunks, dtype="float32", compressors=None,
                             overwrite=True)  # fmt: skip


def write(path: Path, side: int, chunk: int, size: int) -> None:
    """Write a square image to disk, chunk by chunk."""
    image, rng = stored(path, (1, side, side), size), np.random.default_rng(0)
    for top in range(0, side, chunk):
        for left in range(0, side, chunk):
            rows, columns = min(chunk, side - top), min(chunk, side - left)
            image[0, top : top + rows, left : left + columns] = rng.random((rows, columns), np.float32)


def opened(path: Path, chunk: int) -> Any:
    """An image on disk as a Dask array."""
    return da.from_zarr(zarr.open_array(str(path), mode="r"), chunks=(1, chunk, chunk))


def gaussian(x: Any) -> Any:
    return ndi.gaussian_filter(x, SIGMA, axes=(1, 2))


def strided(x: Any) -> Any:
    """Eight channels of windows of 7x7, four pixels apart."""
    weight = np.random.default_rng(1).standard_normal((8, 1, 7, 7)).astype(np.float32)
    return fastconv.conv2d(x, weight, stride=4, padding=3)


def pooling(x: Any) -> Any:
    return fastconv.max_pool2d(x, 3, 2, 1)


FILTERS: dict[str, Filter] = {"gaussian": gaussian, "conv2d, stride 4": strided, "max_pool2d": pooling}


#: Elements along an axis of a stored chunk of a result.
STORED = 512


def to_disk(x: Any, path: Path) -> Any:
    """The lazy store of a result."""
    return da.store(x, stored(path, x.shape, STORED), lock=False, compute=False)


# -- clusters ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(workers: int, threads: int, pinned: bool = False) -> Iterator[Client]:
    """A cluster of processes whose kernels are ready; each `pinned` to a core of its own."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, processes=True, dashboard_address=None,
                     memory_limit=None) as local,
        Client(local) as client,
    ):  # fmt: skip
        client.register_plugin(WarmUp(["ndimage.gaussian_filter"]))
        if pinned:
            cores = sorted(os.sched_getaffinity(0))
            for core, worker in zip(cores, client.scheduler_info(n_workers=-1)["workers"], strict=False):
                client.run(os.sched_setaffinity, 0, {core}, workers=[worker])
        x = da.zeros((1, 3000, 3000), chunks=(1, 1000, 1000), dtype=np.float32)
        for one in FILTERS.values():  # on each worker: the kernels of the blocks
            for worker in client.scheduler_info(n_workers=-1)["workers"]:
                wait(client.compute(one(x), workers=[worker], allow_other_workers=False))
        yield client


def resident(reset: bool) -> tuple[int, int]:
    """Bytes that this process takes, and the most that it took since the last reset."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return found["VmRSS"], found["VmHWM"]


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# -- parts ---------------------------------------------------------------------------------------------------


def memory(image: Path, chunk: int, folder: Path) -> None:
    """Peaks of each worker, in chunks of the input."""
    size = chunk * chunk * 4
    for name, one in FILTERS.items():
        with cluster(2, 2) as client:
            before = client.run(resident, True)
            took = seconds(lambda one=one: dask.compute(to_disk(one(opened(image, chunk)), folder / "out")))
            after = client.run(resident, False)
            peaks = [(after[worker][1] - before[worker][0]) / size for worker in before]
        told = ", ".join(f"{peak:.2f}" for peak in peaks)
        print(f"memory: {name}: {told} chunks of {size >> 20} MiB beyond the kernels; {took:.1f} s from disk to disk")


def peer(image: Path, chunk: int, folder: Path) -> None:
    """The Gaussian beside dask-image's."""
    from dask_image.ndfilters import gaussian_filter as theirs

    with cluster(2, 2) as client:
        ways = {"fastconv": gaussian, "dask-image": lambda x: theirs(x, (0, SIGMA, SIGMA))}
        found = {}
        for name, one in {**ways, "copy": lambda x: x}.items():
            found[name] = seconds(lambda one=one, name=name: dask.compute(
                to_disk(one(opened(image, chunk)), folder / name)))  # fmt: skip
        told_apart = opened(folder / "fastconv", chunk) - opened(folder / "dask-image", chunk)
        apart = float(abs(told_apart).max().compute())
        print(f"peer: from disk to disk: {found['fastconv']:.1f} s, dask-image {found['dask-image']:.1f} s: "
              f"{found['dask-image'] / found['fastconv']:.1f} times as fast; at most {apart:.1e} apart; a copy takes "
              f"{found['copy']:.1f} s, so {found['dask-image'] / found['copy']:.1f} times is the limit")  # fmt: skip
        side = min(zarr.open_array(str(image)).shape[1], 4 * chunk)
        part = client.persist(opened(image, chunk)[:, :side, :side])
        wait(part)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(5):
            for name, one in ways.items():
                before = sum(client.run(time.process_time).values())
                took = seconds(lambda one=one: wait(client.compute(one(part).map_blocks(_corner))))
                times[name].append((took, sum(client.run(time.process_time).values()) - before))
        for number, what in enumerate(("seconds", "seconds of CPU")):
            ours, other = (statistics.median(one[number] for one in times[name]) for name in ways)
            print(f"peer: from memory ({side}x{side}): {ours:.2f} {what}, dask-image {other:.2f}: "
                  f"{other / ours:.1f} times as fast")  # fmt: skip


def _corner(block: np.ndarray) -> np.ndarray:
    """A little of a block: what is timed is to make it."""
    return block[:, :1, :1].copy()


def scaling(image: Path, chunk: int, folder: Path) -> None:
    """One pinned worker, and two: each reads and filters the whole image, and keeps nothing."""
    times: dict[int, float] = {}
    for workers in (1, 2):
        with cluster(workers, 1, pinned=True):
            x = opened(image, chunk)
            times[workers] = min(seconds(lambda x=x: gaussian(x).map_blocks(_corner).compute()) for _ in range(3))
    print(f"scaling: {times[1]:.2f} s with one pinned worker, {times[2]:.2f} s with two: {times[1] / times[2]:.2f} "
          "times as fast")  # fmt: skip


def killed(image: Path, chunk: int, folder: Path) -> None:
    """Kill a worker when a third is done; compare with the result of an undisturbed run."""
    x = opened(image, chunk)
    with cluster(2, 2) as client:
        dask.compute(to_disk(gaussian(x), folder / "undisturbed"))
        victim = next(iter(client.run(os.getpid).values()))
        work = client.compute(to_disk(gaussian(x), folder / "disturbed"))
        third = x.size // STORED**2 // 3
        while len(list((folder / "disturbed").rglob("c/0/*/*"))) < third and not work.done():
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        was_done = work.done()
        work.result()
        apart = opened(folder / "disturbed", chunk) != opened(folder / "undisturbed", chunk)
        print(f"killed: a worker, {'after the end' if was_done else 'in the middle'}: "
              f"{int(apart.sum().compute())} elements differ from an undisturbed run")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the image")
    parser.add_argument("--chunk", type=int, default=4096, help="elements along an axis of a Dask chunk")
    parser.add_argument("--stored", type=int, default=256, help="elements along an axis of a chunk on disk")
    parser.add_argument("--folder", type=Path, help="where the image is written; as much again is needed for results")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    told = parser.parse_args()
    if "WarmUp" not in globals():
        parser.error("dask, distributed and zarr are not installed: the extra 'test' has them")
    side = int((told.gib * 2**30 / 4) ** 0.5)
    with tempfile.TemporaryDirectory(dir=told.folder, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        took = seconds(lambda: write(folder / "image", side, told.chunk, told.stored))
        print(f"{side}x{side} float32 written in {took:.0f} s; Dask chunks of {told.chunk}x{told.chunk}, on disk "
              f"{told.stored}x{told.stored}")  # fmt: skip
        for part in told.parts.split(","):
            globals()[part](folder / "image", told.chunk, folder)
            for made in folder.iterdir():
                if made.name != "image":
                    shutil.rmtree(made)


if __name__ == "__main__":
    main()
