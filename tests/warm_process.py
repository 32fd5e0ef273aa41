"""Command lines in processes of their own that need not import torch first: forks of one that did.

The worker of pytest forks once, after its tests are collected: by then it has imported what they import, and has started
no thread of torch's. That process waits for command lines and forks for each of them; the child gets its own ``argv``,
environment, folder and standard streams, runs the code as ``python`` would, and ends. Its figures are sketched. What a
library reads from the environment while it is imported is read again by the modules of ``SETTINGS`` alone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alone import training_alone
from sketch import Figures

# What the commands of the package import sooner or later, and no test file may have.
WARM = (
    "transformers",
    "transformers.trainer",
    "datasets",
    "accelerate",
    "peft",
    "sklearn.linear_model",
    "safetensors.torch",
)
# Modules that keep what they read from the environment.
SETTINGS = ("huggingface_hub.constants", "datasets.config")
ENDED: dict[int, int] = {}  # started processes that ended while another one was waited for


class WarmProcess:
    """A process with the libraries imported, which runs command lines in forks of itself."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.detach()
            _serve(theirs)
        theirs.close()
        self.line = ours.makefile("rw", encoding="utf-8")

    def __call__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        input: str = "",
        processes: int = 1,
        alone: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python ARGV`` (``FILE …``, ``-m MODULE …`` or ``-c CODE …``) to its end.

        Args:
            argv: the words after ``python``.
            env: the whole environment; by default this process's.
            cwd: the working folder; by default this process's.
            input: what stands on standard input.
            processes: how many of them, with the variables by which ``accelerate launch`` tells each its rank.
            alone: runs of this package train alone, as ``alone.py`` has it.

        Returns:
            As of ``subprocess.run``; the status of the first process that failed, and what all of them printed.
        """
        asked: dict[str, Any] = {"argv": [str(word) for word in argv], "env": dict(os.environ if env is None else env)}
        asked |= {"cwd": str(cwd or Path.cwd()), "input": input, "processes": processes, "alone": alone}
        done = self._ask(asked)
        return subprocess.CompletedProcess(list(argv), done["status"], done["stdout"], done["stderr"])

    def start(self, argv: Sequence[str | Path], folder: Path, env: Mapping[str, str]) -> Running:
        """Start ``python ARGV`` and return while it runs; what it prints goes to files in ``folder``."""
        asked = {"argv": [str(word) for word in argv], "env": dict(env), "cwd": str(Path.cwd()), "folder": str(folder)}
        return Running(self, self._ask(asked)["pid"], folder / "stdout", folder / "stderr")

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.line.write(json.dumps(asked) + "\n")
        self.line.flush()
        return json.loads(self.line.readline())

    def close(self) -> None:
        self.line.close()
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def verification_in_a_fork(warm: WarmProcess) -> Iterator[None]:
    """Have the process that loads saved models be a fork of the warm one, which knows this package."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess:
        if command[:2] != [sys.executable, "-P"]:  # git, for example
            return start(command, **options)
        return warm(command[2:], env=options["env"], input=options["input"])

    start, subprocess.run = subprocess.run, run
    try:
        yield
    finally:
        subprocess.run = start


@dataclass(frozen=True)
class Running:
    """A process that :meth:`WarmProcess.start` started, and the files that it prints to."""

    warm: WarmProcess
    pid: int
    stdout: Path
    stderr: Path

    def end(self, how: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        os.kill(self.pid, how)
        return self.warm._ask({"wait": self.pid})["status"]

    def kill(self) -> None:
        """End the process if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _serve(line: socket.socket) -> None:
    """Answer command lines until the other side closes."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(3, line.fileno())  # the pipes of pytest's worker are not held open
    os.closerange(line.fileno() + 1, 4096)
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    Figures().switch(drawing=False)
    try:
        with line.makefile("rw", encoding="utf-8") as requests:
            for request in requests:
                for name in WARM:  # by the first that asks
                    __import__(name)
                gc.freeze()  # forks share the memory of what is never collected
                requests.write(json.dumps(_answer(json.loads(request))) + "\n")
                requests.flush()
    finally:
        os._exit(0)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    if "wait" in asked:
        state = ENDED.pop(asked["wait"], None)
        return {"status": os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1] if state is None else state)}
    if "folder" in asked:
        with (
            Path(os.devnull).open() as given,
            Path(asked["folder"], "stdout").open("w") as out,
            Path(asked["folder"], "stderr").open("w") as err,
        ):
            return {"pid": _child(asked, {}, [file.fileno() for file in (given, out, err)])}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(asked["input"].encode())
        given.seek(0)
        streams = [file.fileno() for file in (given, out, err)]
        children = [_child(asked, rank, streams) for rank in _ranks(asked["processes"])]
        status = _wait(set(children))
        out.seek(0)
        err.seek(0)
        said = {"stdout": out.read().decode(errors="replace"), "stderr": err.read().decode(errors="replace")}
    return said | {"status": status}


def _wait(children: set[int]) -> int:
    """The status of the first process that fails, which ends the others: they would wait for it; 0 if none does."""
    failed = 0
    while children:
        child, state = os.wait()
        if child not in children:
            ENDED[child] = state
            continue
        children.discard(child)
        if (status := os.waitstatus_to_exitcode(state)) and not failed:
            failed = status
            for other in children:
                os.kill(other, signal.SIGKILL)
    return failed


def _ranks(processes: int) -> list[dict[str, str]]:
    """The variables of each process; those of ``accelerate_configs/cpu.yaml``."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
              "ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1",
              "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}  # fmt: skip
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _child(asked: dict[str, Any], rank: dict[str, str], streams: list[int]) -> int:
    """The process id of a fork that runs one command line."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(asked["env"] | rank)
        os.chdir(asked["cwd"])
        _read_settings()
        with training_alone() if asked.get("alone") else contextlib.nullcontext():
            status = _run(asked["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
        os._exit(status)


def _read_settings() -> None:
    """Have the libraries read the environment again, as a process does that imports them."""
    import huggingface_hub
    from transformers import dynamic_module_utils

    for name in SETTINGS:
        importlib.reload(sys.modules[name])
    dynamic_module_utils.HF_MODULES_CACHE = os.environ.get("HF_MODULES_CACHE", dynamic_module_utils.HF_MODULES_CACHE)
    huggingface_hub.hf_api.api.endpoint = huggingface_hub.constants.ENDPOINT


def _run(argv: list[str]) -> int:
    """Run a command line as ``python`` would and return its exit status."""
    import faulthandler
    import logging
    import runpy

    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    logging.getLogger().handlers.clear()  # pytest's
    for logger in list(logging.Logger.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", []):
            if "stream" in vars(handler):  # the standard error of pytest
                handler.stream = sys.stderr
    try:
        if argv[0] == "-m":
            sys.argv = argv[1:]
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        elif argv[0] == "-c":
            sys.argv = ["-c", *argv[2:]]
            sys.path.insert(0, "")
            exec(compile(argv[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = list(argv)
            sys.path.insert(0, str(Path(argv[0]).absolute().parent))
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    return 0
