"""The run folder: checked before any work is done, and filled with what is needed to repeat the run."""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import logging
import logging.handlers
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import yaml
from accelerate import PartialState

from hf_finetune.config import Config, without_secrets
from hf_finetune.console import is_main_process, is_terminal, logger, say
from hf_finetune.data.rows.bad_rows import SKIPPED, write_skipped
from hf_finetune.errors import UserError
from hf_finetune.files import write_json, writing
from hf_finetune.strategies import check_name
from hf_finetune.training.resume import refuse_other_run, wants_resume

# What a run and later commands write: any of it means that the folder contains a run.
_RECORDS = ("config.yaml", "environment.json", "history.json", "splits.parquet", SKIPPED, "checkpoints", "model")
_RESULTS = ("metrics.json", "evaluation.json", "evaluations", "predictions.parquet", "report.html", "figures")
TRACES = (*_RECORDS, *_RESULTS, "README.md", "onnx", "onnx-int8", "verify.json", "verify")
_HUGGING_FACE = ("transformers", "datasets", "accelerate", "evaluate", "peft", "huggingface_hub")
PACKAGES = ("hf-finetune", "torch", "torchvision", "timm", *_HUGGING_FACE)


def prepare(config: Config) -> Config:
    """Set this process up for a run or a check of its data; return the configuration with its run folder.

    Raises:
        UserError: there is no such strategy, or the run folder is a file.
    """
    # First of all, because without `cpu` accelerate does not connect processes on a machine without GPUs.
    PartialState(cpu=not torch.accelerator.is_available())
    keep_freed_memory()
    datasets.disable_progress_bars()
    config = with_output_dir(config)
    check_name(config.strategy.strategy)
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise UserError("this is a file, not a folder", where=f"--output_dir {config.output_dir}", fix="give a folder.")
    transformers.set_seed(int(config.training.get("seed", 42)))
    return config


def start_run(config: Config, dataset: Any = None) -> Config:
    """Choose and check the run folder, and seed all random generators; write nothing.

    Returns:
        The configuration with its run folder; ``dataset`` (rows in memory) means ``--streaming`` if it is a stream.

    Raises:
        UserError: there is no such strategy; or the folder contains another run or other files, or is a file.
    """
    config = prepare(config)
    pass_over_imports()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Messages are kept until the run folder exists, so that a refused run writes nothing.
    logger.handlers = [logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)]
    if not is_terminal():  # bars would fill a redirected file
        transformers.utils.logging.disable_progress_bar()
    if isinstance(dataset, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        config = replace(config, data=replace(config.data, streaming=True))
    _check_folder(config)
    refuse_other_run(config)
    PartialState().wait_for_everyone()  # no process writes before all have checked the folder
    return config


def open_run(config: Config, skipped: list[dict[str, Any]] | None = None) -> None:
    """Create the run folder; write ``config.yaml``, ``environment.json``, ``skipped.jsonl`` and the log so far."""
    folder = config.output_dir
    once = ("overwrite_output_dir", "resume_from_checkpoint")
    settings = {key: value for key, value in config.to_flat().items() if key not in once}
    if is_main_process():
        if config.run.overwrite_output_dir and not wants_resume(config):
            for trace in (*TRACES, "train.log"):
                path = folder / trace
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        with writing("folder", f"--output_dir {folder}", "choose another one."):
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
            (folder / "config.yaml").write_text(text, encoding="utf-8")
            write_skipped(skipped or [], folder)
        write_json(folder / "environment.json", _environment())
        file = logging.FileHandler(folder / "train.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        for handler in logger.handlers:  # messages from before the folder existed
            if isinstance(handler, logging.handlers.MemoryHandler):
                handler.setTarget(file)
                handler.close()
        logger.handlers = [file]
    PartialState().wait_for_everyone()
    say(f"Run folder: {folder}")


def save_history(folder: Path, phase: str, entries: list[dict[str, Any]]) -> None:
    """Append the ``log_history`` of a phase to the history of the run, or replace what is there.

    After resuming, it includes the entries before the interruption.
    """
    if not is_main_process():
        return
    path = folder / "history.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [entry for entry in before if entry["phase"] != phase]
    write_json(path, kept + [{"phase": phase} | entry for entry in entries])


def _check_folder(config: Config) -> None:
    folder = config.output_dir
    found = [trace for trace in TRACES if (folder / trace).exists()]
    is_run = "config.yaml" in found or "metrics.json" in found
    if not found or wants_resume(config) or (is_run and config.run.overwrite_output_dir):
        return
    flags = ", resume with --resume_from_checkpoint auto, or add --overwrite_output_dir" if is_run else ""
    raise UserError(
        "the folder contains " + ("another run" if is_run else f"{', '.join(found)}, but not from a run"),
        where=f"--output_dir {folder}",
        fix=f"choose another folder{flags}.",
    )


def keep_freed_memory() -> None:
    """Prevent glibc from returning the memory of large tensors to the system after each use.

    On a CPU the page faults of allocating it again can take longer than the computation. Up to 2 GiB at the top of the
    heap is kept. ``HF_FINETUNE_KEEP_MEMORY=0`` turns this off; it does nothing with a GPU or another C library.
    """
    off = os.environ.get("HF_FINETUNE_KEEP_MEMORY") == "0"
    if off or torch.accelerator.is_available() or platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 2**31 - 1)


@cache  # to ask the collector whether it was done takes as long as a small step of training
def pass_over_imports() -> None:
    """Exclude the objects of all imports from garbage collection.

    They are never garbage, but each full collection (accelerate runs one before each phase) would visit them for a quarter
    of a second. This is done once per process, before there is a model, and not in interactive sessions, whose earlier
    objects may become garbage.
    """
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    if not interactive:
        gc.freeze()
        atexit.register(gc.unfreeze)  # else libraries that count their objects at exit report leaks


def _environment() -> dict[str, Any]:
    """Return versions, hardware, git revision and command line, without secrets."""
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "hardware": {"cpus": os.cpu_count(), "gpus": cuda, "threads": torch.get_num_threads()},
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "git_revision": _git_revision(),
        "command": without_secrets(sys.argv),
    }


def with_output_dir(config: Config) -> Config:
    """Return the configuration with a run folder: ``runs/<data>-<backbone>``, and ``-<strategy>`` if the user chose one."""
    if "output_dir" in config.training:
        return config
    data = config.data.dataset_name or config.data.train_dir or config.data.train_file or "data"
    stem = Path(data).resolve().name if Path(data).exists() else data.replace("/", "-")
    backbone = Path(str(config.model.model_name_or_path)).name
    strategy = config.strategy.strategy.replace(":", "-")
    name = "-".join([Path(stem).stem, backbone, *([strategy] if strategy != "auto" else [])])
    return replace(config, training={**config.training, "output_dir": str(Path("runs") / name)})


@cache  # each is a file to be read and parsed
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Return the git commit of the working directory; None outside of a repository or without git."""
    if shutil.which("git") is None:
        return None
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
