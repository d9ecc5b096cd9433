"""Commands that start warm: forked from a process that has loaded what they load, instead of by a Python of their own.

torch, scikit-learn and matplotlib take a command seconds to load, and its fork server seconds again; what the commands
of tests then do with a few small videos takes less. A warm command is forked while its parent has one thread. It has
its own session, folder, environment, output and ending, and processes of its own, its fork server among them: they are
forked as well, before it begins, and wait until they are asked to be what `multiprocessing` starts.

What starts Python anew where users do: `make demo`, and the tests that do without this.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import multiprocessing.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn, cast

LOADED = [
    "ablations.cli",
    "ablations.conducting",
    "ablations.report",
    "ablations.plots",
    "ablations.landscape",
    "mlflow",
]
SPARES = 4  # processes that a command may start: a fork server, trackers of what is shared, searchers of a sweep
START_PYTHON = multiprocessing.util.spawnv_passfds


class Command:
    """A running command: what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self.folder = pid, folder

    @property
    def returncode(self) -> int | None:
        """Its exit code, or the negative signal that ended it."""
        file = self.folder / "code"
        return int(file.read_text()) if file.exists() else None

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        """kill -9 to it and what it started in its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        """`returncode`, as of `subprocess.Popen`."""
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """Until it ended."""
        deadline = time.monotonic() + timeout
        while (code := self.returncode) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """What it said, in the end."""
        self.wait(timeout)
        return (self.folder / "out").read_text(), (self.folder / "err").read_text()

    def says(self, line: str, timeout: float = 300) -> None:
        """Wait until it has printed a line."""
        deadline = time.monotonic() + timeout
        while f"{line}\n" not in (self.folder / "out").read_text():
            assert self.returncode is None and time.monotonic() < deadline, (self.folder / "err").read_text()
            time.sleep(0.01)

    def send_signal(self, sign: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


class Warm:
    """The process that has everything loaded."""

    def __init__(self) -> None:
        from ablations.engines import local

        self._folder = tempfile.TemporaryDirectory(prefix="fima-warm-")
        self._commands = 0
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": local.SPINS}
        command = [sys.executable, __file__, *local.PRELOAD, *LOADED]
        self._server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(
        self, main: str, *words: str, cwd: Path, env: Mapping[str, str] = os.environ, said: Path | None = None
    ) -> Command:
        """Start "module:function" as a command with these words behind it.

        Args:
            main: "module:function", found as it is here, which ends by itself or by `sys.exit`.
            words: what follows the name of the program.
            cwd: its folder.
            env: its environment.
            said: a file that all it says is added to; None: two files that `communicate` reads.
        """
        folder = Path(self._folder.name, str(self._commands))
        folder.mkdir()
        self._commands += 1
        files = [str(said or folder / name) for name in ("out", "err")]
        for file in files:
            Path(file).touch()
        asked = {
            "main": main, "words": words, "cwd": str(cwd), "env": dict(env), "path": sys.path, "files": files,
            "folder": str(folder),
        }  # fmt: skip
        to, of = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        print(json.dumps(asked), file=to, flush=True)
        return Command(int(of.readline()), folder)

    def close(self) -> None:
        """End the process, and not its commands."""
        cast("IO[str]", self._server.stdin).close()
        self._server.wait()
        cast("IO[str]", self._server.stdout).close()
        self._folder.cleanup()


@functools.cache
def _process() -> Warm:
    """The one of this process."""
    warm = Warm()
    atexit.register(warm.close)
    return warm


def start(main: str, *words: str, **where: Any) -> Command:
    """`Warm.start` of a process that lives as long as this one."""
    return _process().start(main, *words, **where)


def run(code: str, *words: str, **where: Any) -> Command:
    """`python -c code words...`."""
    return start("warm:_code", code, *words, **where)


# --- in the process


def serve(modules: Sequence[str]) -> None:
    """Load modules and start what is asked for."""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # what is loaded by now is no garbage; looking for some in it takes each command time
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a command is nobody's business
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked = json.loads(line)
            if (pid := os.fork()) == 0:
                end_with(become(asked))
            print(pid, flush=True)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            file = Path(asked["folder"], "code")
            file.with_suffix(".new").write_text(str(code))
            file.with_suffix(".new").rename(file)
            os._exit(0)


def become(asked: Mapping[str, Any]) -> Callable[[], None]:
    """Turn this process into the command that is asked for."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[:] = [asked["cwd"], *asked["path"]]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(asked["files"], 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    module, _, function = asked["main"].partition(":")
    sys.argv = [str(importlib.import_module(module).__file__), *asked["words"]]
    take_spares()
    return cast("Callable[[], None]", getattr(sys.modules[module], function))


def _code() -> None:
    """What `run` runs."""
    code = sys.argv.pop(1)
    sys.argv[0] = "-c"
    exec(code, {"__name__": "__main__"})


def take_spares() -> None:
    """Fork the processes that will be what this one starts by `multiprocessing`: now, while it has one thread."""
    spares: list[tuple[int, socket.socket]] = []
    for _ in range(SPARES):
        ours, theirs = socket.socketpair()
        if (pid := os.fork()) == 0:
            ours.close()
            for _, other in spares:
                other.close()
            wait_and_be(theirs)
        theirs.close()
        spares.append((pid, ours))

    def take(path: bytes, words: Sequence[str], numbers: Sequence[int]) -> int:
        if not spares:
            return START_PYTHON(path, words, numbers)
        pid, ours = spares.pop()
        with ours:
            code, *rest = words[list(words).index("-c") + 1 :]
            what = json.dumps({"code": code, "words": rest, "env": dict(os.environ), "numbers": list(numbers)})
            socket.send_fds(ours, [what.encode()], list(numbers))
        return pid

    multiprocessing.util.spawnv_passfds = take


def wait_and_be(asks: socket.socket) -> NoReturn:
    """Wait for the command to ask, and be the Python that it would have started: its code, its open files."""
    what, given, *_ = socket.recv_fds(asks, 1 << 20, 16)
    if not what:
        os._exit(0)
    asked = json.loads(what)
    asks.close()
    top = 1 + max([*given, *asked["numbers"]])
    for at, number in enumerate(given):
        os.dup2(number, top + at)
        os.close(number)
    for at, number in enumerate(asked["numbers"]):
        os.dup2(top + at, number)
        os.close(top + at)
    os.environ.clear()
    os.environ.update(asked["env"])
    if "spawn_main" in asked["code"]:  # a searcher of a sweep, which has a fork server of its own
        take_spares()
    sys.argv = ["-c", *asked["words"]]
    end_with(lambda: exec(asked["code"], {"__name__": "__main__"}))


def end_with(work: Callable[[], None]) -> NoReturn:
    """Work and end as Python does, but for taking apart all that is loaded."""
    code: Any = 0
    try:
        work()
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1:])
