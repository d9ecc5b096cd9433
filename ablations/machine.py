"""Whether this machine can run stages: versions, devices, codecs, cache, room on the disks. No torch at the top."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import os
import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ablations.finding import GIB, Finding, size
from ablations.provenance import environment
from fima import indices

NAMED = ["torch", "torchvision", "av", "mlflow", "optuna", "numpy", "pandas", "matplotlib", "pydantic", "scikit-learn"]
LOADED = ["torch", "torchvision", "av", "numpy"]  # compiled, so that they may be there and not load
CODECS = {"h264": "libx264", "mpeg4": "mpeg4"}  # decoder -> the encoder that makes something to decode
LITTLE_MEMORY, LITTLE_ROOM, NO_ROOM = 2 * GIB, 10 * GIB, GIB  # bytes


def versions(package: str = "fima-ablate") -> Iterator[Finding]:
    """Whether what the package asks for is there, in the versions that it asks for, and loads."""
    found, wrong = [f"python {platform.python_version()}"], 0
    asked = _asked(package)
    for name in dict.fromkeys([*NAMED, *asked]):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong += 1
            yield Finding("problem", "versions", f"{name} is not installed", "make install, or pip install -e .")
            continue
        found += [f"{name} {version}"] * (name in NAMED)
        if name in asked and not asked[name][1](version):
            wrong += 1
            way_out = "make install, or pip install -e ."
            yield Finding("problem", "versions", f"{name} is {version}, and {asked[name][0]} is asked for", way_out)
    for name in LOADED:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken library raises
            wrong += 1
            what = f"{name} does not load: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield Finding("problem", "versions", what, "install it again; torch and torchvision must be a pair")
    if not asked:
        what = f"{package} is not installed here, so that versions are compared with nothing"
        yield Finding("warning", "versions", what, "pip install -e . in its checkout")
    if not wrong:
        yield Finding("ok", "versions", ", ".join(found))


def _asked(package: str) -> dict[str, tuple[str, Callable[[str], bool]]]:
    """Library -> what is asked for in words, and whether a version is that."""
    from packaging.requirements import Requirement

    try:
        declared = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    asked = [Requirement(line) for line in declared]
    return {one.name: (str(one), one.specifier.contains) for one in asked if one.marker is None}


def devices() -> Iterator[Finding]:
    """Cards, the processor and what it computes well, memory."""
    import torch

    if torch.cuda.is_available():
        for card in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(card)
            what = f"cuda:{card} {torch.cuda.get_device_name(card)}, {size(free)} of {size(total)} free"
            yield Finding("ok", "devices", what)
    elif Path("/dev/nvidiactl").exists():
        what = f"there is an NVIDIA card, and torch {torch.__version__} does not see it"
        yield Finding("problem", "devices", what, "compare the driver (nvidia-smi) with torch's CUDA")
    else:
        yield Finding("ok", "devices", "no CUDA card: stages run on the CPU")
    made = environment()
    bfloat16 = [
        name
        for name, there in (
            ("AVX512-BF16", torch.cpu._is_avx512_bf16_supported()),
            ("AMX tiles", torch.cpu._is_amx_tile_supported()),
        )
        if there
    ]
    note = f"bfloat16 by {' and '.join(bfloat16)}" if bfloat16 else "no bfloat16 instructions, where it is slow"
    what = f"{made['cpu']}, {made['cores']} cores, {torch.backends.cpu.get_cpu_capability()}, {note}"
    yield Finding("ok", "devices", what)
    free, total = memory()
    if free < LITTLE_MEMORY:
        yield Finding(
            "warning", "devices", f"only {size(free)} of {size(total)} of memory are free",
            "lower --jobs, --workers or optim.batch, or end what else runs",
        )  # fmt: skip
    else:
        yield Finding("ok", "devices", f"{size(free)} of {size(total)} of memory are free")


def memory() -> tuple[int, int]:
    """Bytes of memory: free for new processes, and in all."""
    path = Path("/proc/meminfo")
    if path.is_file():
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024, int(lines["MemTotal"].split()[0]) * 1024
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, total  # a system that does not say what is free


def codecs() -> Iterator[Finding]:
    """Whether PyAV's ffmpeg decodes what it encoded a moment ago."""
    import av

    for codec in CODECS:
        try:
            count = _decoded(codec)
        except (av.error.FFmpegError, ValueError) as error:
            yield Finding(
                "problem", "codecs", f"PyAV {av.__version__} decodes no {codec}: {' '.join(str(error).split())}",
                "pip install --force-reinstall av, whose wheels bring ffmpeg along",
            )  # fmt: skip
        else:
            version = ".".join(map(str, av.library_versions["libavcodec"]))
            yield Finding("ok", "codecs", f"{codec} decodes: {count} of 8 frames (libavcodec {version})")


def _decoded(codec: str) -> int:
    """Frames that come out of eight that are encoded into memory.

    Raises:
        ValueError: fewer than eight, or the codec is unknown.
    """
    import av
    import numpy as np

    with io.BytesIO() as file:
        with av.open(file, "w", format="matroska") as output:
            stream = output.add_stream(CODECS[codec], rate=8)
            assert isinstance(stream, av.VideoStream)  # for the type checker
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for number in range(8):
                picture = np.full((64, 64, 3), 30 * number, dtype=np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode())
        file.seek(0)
        with av.open(file, "r") as source:
            name = source.streams.video[0].codec_context.name
            count = len(list(source.decode(video=0)))
    if name != codec:
        raise ValueError(f"it is taken for {name}")
    if count != 8:
        raise ValueError(f"{count} of 8 frames came out")
    return count


def cache() -> Iterator[Finding]:
    """The folder of video indices, embedded videos and decoded ones."""
    folder = indices.cache_folder()
    if not folder.is_dir():
        yield Finding("ok", "cache", f"{folder}: no cache yet; the first run makes it")
        return
    if not os.access(folder, os.W_OK):
        what = f"{folder}: the cache cannot be written, so that every run indexes all videos anew"
        yield Finding("warning", "cache", what, "set FIMA_CACHE to a writable folder")
    bytes_ = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a run is at it
            bytes_ += path.stat().st_size if path.is_file() else 0
    videos = 0
    index = folder / "index.sqlite"
    if index.is_file():
        try:
            with closing(sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
                (sound,) = connection.execute("pragma quick_check(1)").fetchone()
                (videos,) = connection.execute("select count(*) from videos").fetchone()
        except sqlite3.Error as error:
            sound = str(error)
        if sound != "ok":
            what = f"{index}: the index of videos is damaged: {' '.join(sound.split())}"
            yield Finding("problem", "cache", what, "delete the file; the next run decodes each video once more")
            return
    yield Finding("ok", "cache", f"{folder}: {size(bytes_)}, {videos} videos indexed")


def room(name: str, folder: Path) -> Finding:
    """How much of the disk that a folder is on, or will be on, is left."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    what = f"{size(free)} are left on the disk of the {name}, {folder}"
    way_out = f"make room, or move it: {'FIMA_CACHE' if name == 'cache' else '--' + name}"
    if free < NO_ROOM:
        return Finding("problem", "disk", f"only {what}", way_out)
    return Finding("warning", "disk", f"only {what}", way_out) if free < LITTLE_ROOM else Finding("ok", "disk", what)
