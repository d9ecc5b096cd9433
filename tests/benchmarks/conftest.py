"""What every benchmark prints: time, share of this machine's matrix-product peak, ratio to the record, peak memory.

make bench                                          all: 15 minutes, without AVX-512 three times that;
                                                    ARGS='...' takes the options below
pytest tests/benchmarks -k step --threads 2         some, on two cores
pytest tests/benchmarks --published DIR             the authors' step beside ours (DIR: a clone of their repository)
pytest tests/benchmarks --record                    put what was run into record.json: only on a quiet machine
pytest tests/benchmarks --slow-bfloat16             bfloat16 also without instructions for it: minutes a step
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

RECORD = Path(__file__).with_name("record.json")
SIDE = 2048  # of the square matrices that measure the peak


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fima-ablate benchmarks")
    group.addoption("--threads", type=int, default=1, help="threads of PyTorch (1)")
    group.addoption("--published", type=Path, help="a clone of the authors' code, to measure beside ours")
    group.addoption("--record", action="store_true", help="put this run into record.json")
    group.addoption("--slow-bfloat16", action="store_true", help="bfloat16 steps also without instructions for it")


def pytest_configure(config: pytest.Config) -> None:
    # What skips for want of a package, of clips or of the authors' code times nothing.
    config.addinivalue_line("filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")


@pytest.fixture(autouse=True)
def _bfloat16(request: pytest.FixtureRequest) -> None:
    """Leave out what would take hours and tell nothing: PyTorch's bfloat16 convolutions without instructions for it."""
    import torch

    callspec = getattr(request.node, "callspec", None)
    asked = callspec is not None and any("bfloat16" in str(value) for value in callspec.params.values())
    slow = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if asked and slow and not request.config.getoption("--slow-bfloat16"):
        pytest.skip("this processor has no bfloat16 instructions: minutes a step; --slow-bfloat16 does it all the same")


@pytest.fixture
def published(request: pytest.FixtureRequest) -> Path | None:
    """A clone of the authors' code, if one was given."""
    folder: Path | None = request.config.getoption("--published")
    return folder


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest, _seed: None) -> None:
    import torch

    torch.set_num_threads(request.config.getoption("--threads"))


@pytest.fixture(autouse=True)
def _held(benchmark: Any, _peak: None) -> Iterator[None]:
    """The most that this process holds in a benchmark (Linux), unless the benchmark knows better.

    PyTorch and what earlier benchmarks left are in it; `test_peak_memory` starts a process for each step.
    """
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        yield
        return
    gc.collect()
    clear.write_text("5")  # the high-water mark begins anew
    yield
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    benchmark.extra_info.setdefault("peak_gb", int(line.split()[1]) / 1e6)


def measured_peak(precision: str) -> float:
    """GFLOP/s of a large matrix product, the best of three; of a small one where a large one would take seconds.

    A processor without bfloat16 instructions needs a minute for it.
    """
    import torch

    def rate(side: int, rounds: int) -> float:
        one, other = torch.randn(2, side, side).to(getattr(torch, precision))
        times = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            one @ other
            times.append(time.perf_counter() - began)
        return 2 * side**3 / min(times[1:]) / 1e9

    small = rate(SIDE // 8, 1)
    return small if small < 2 * SIDE**3 / 1e9 / 5 else rate(SIDE, 3)


LOOKS: dict[str, list[float]] = {}  # float32 peaks by benchmark: of a machine that others use, one moment tells little


@pytest.fixture(autouse=True)
def _peak(request: pytest.FixtureRequest, _threads: None) -> Iterator[None]:
    """Look before and after each benchmark, which takes a second."""
    looks = LOOKS[request.node.nodeid.rpartition("/")[2]] = [measured_peak("float32")]
    yield
    looks.append(measured_peak("float32"))


@pytest.fixture
def flops() -> Callable[[Callable[[], Any]], float]:
    """GFLOP of a call, convolutions and matrix products of its forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(call: Callable[[], Any]) -> float:
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops() / 1e9

    return count


# --- the record and the summary ---


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    benchmarks = [] if session is None else [one for one in session.benchmarks if not one.has_error]
    if not benchmarks:
        return
    threads = config.getoption("--threads")
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"threads": threads, "benchmarks": {}}
    seen = [look for looks in LOOKS.values() for look in looks]
    most = {"float32": max(seen), "bfloat16": measured_peak("bfloat16")}
    write = terminalreporter.write_line
    write("")
    write(f"{threads} thread(s); matrix product: " + ", ".join(f"{n} {p:.0f} GFLOP/s" for n, p in most.items()))
    write(f"of peak: share of it; float32 is the fastest of {len(seen)} looks, the slowest {min(seen):.0f}")
    write("to record: time against record.json, each in matrix products of its moment, looked at before and after")
    write(f"{'':52}{'seconds':>10}{'GFLOP':>9}{'of peak':>9}{'peak GB':>9}{'to record':>11}  further")
    found = {}
    for one in benchmarks:
        name, extra = one.fullname.rpartition("/")[2], dict(one.extra_info)
        median, peak = one.stats.median, mean(LOOKS[name])
        found[name] = {"seconds": median, "peak": peak}
        work = extra.pop("gflop", None)
        share = None if work is None else work / median / most[extra.pop("precision", "float32")]
        held = extra.pop("peak_gb", None)
        known = record["benchmarks"].get(name) if threads == record["threads"] else None
        ratio = None if known is None else median * peak / (known["seconds"] * known["peak"])
        columns = (
            f"{median:10.4f}",
            f"{'' if work is None else f'{work:.3g}':>9}",
            f"{'' if share is None else f'{share:.0%}':>9}",
            f"{'' if held is None else f'{held:.2f}':>9}",
            f"{'' if ratio is None else f'{ratio:.2f}':>11}",
        )
        further = ", ".join(f"{key} {value:.4g}" for key, value in extra.items() if isinstance(value, int | float))
        write(f"{name.split('::')[-1][:52]:52}{''.join(columns)}  {further}")
    if config.getoption("--record"):
        kept = record["benchmarks"] if threads == record["threads"] else {}
        RECORD.write_text(json.dumps({"threads": threads, "benchmarks": kept | found}, indent=1) + "\n")
        write(f"written: {RECORD}")
