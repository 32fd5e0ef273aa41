"""Check in a fresh process, with ``transformers`` alone, that the saved model gives the logits that were evaluated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import broadcast_object_list

from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say
from hf_finetune.data import Splits
from hf_finetune.errors import UserError
from hf_finetune.files import write_json
from hf_finetune.models import Checkpoint
from hf_finetune.models.checkpoint import mlp_head_code
from hf_finetune.models.mlp_head import MODULE_NAME
from hf_finetune.publish.verify import fresh_process
from hf_finetune.publish.verify.differences import find_differences
from hf_finetune.publish.verify.sample import FOLDER, keep_sample, model_facts, read_sample
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task

SWITCH = "HF_FINETUNE_VERIFY"
# Beginnings of variables that launchers set, with which the fresh process would wait for other processes; and tokens.
_NOT_PASSED_ON = (
    "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "CROSS_RANK", "CROSS_SIZE", "LOCAL_", "GROUP_", "ROLE_",
    "ACCELERATE_", "FSDP_", "DEEPSPEED_", "DS_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "TORCHELASTIC_", "OMPI_", "PMI_",
    "PMIX_", "MPI_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
)  # fmt: skip


def verify(config: Config, task: Task, splits: Splits, checkpoint: Checkpoint) -> None:
    """Save a sample of the evaluated rows, and verify ``model/`` with it, in the main process.

    Raises:
        UserError: as :func:`verify_run`, in every process.
    """
    failure = None
    if is_main_process():
        try:
            rows = splits.test if splits.test is not None else splits.validation
            keep_sample(config.output_dir, task, rows, splits.output.names, checkpoint.processor)
            verify_before_use(config.output_dir, trust_remote_code=config.model.trust_remote_code)
        except UserError as error:
            failure = vars(error)
    [failure] = broadcast_object_list([failure])
    if failure:
        raise UserError(**failure)


def verify_before_use(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Call :func:`verify_run`, unless ``HF_FINETUNE_VERIFY=0`` is set in the environment."""
    if os.environ.get(SWITCH) == "0":
        say(f"Not verified, because {SWITCH}=0 is set; 'hf-finetune verify {folder}' does it.")
    else:
        verify_run(folder, trust_remote_code=trust_remote_code)


def verify_run(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Compare the logits of a fresh process with ``predictions.parquet``; write ``verify.json`` and print the result.

    An MLP head of this package does not need ``trust_remote_code``.

    Raises:
        UserError: the model does not load, or gives other logits; or the run has nothing to compare with.
    """
    began = time.perf_counter()
    (folder / "verify.json").unlink(missing_ok=True)
    sample = read_sample(folder)
    [answer] = ask([job(folder, sample, trust_remote_code=trust_remote_code)])
    largest, tolerance = judge(folder, sample, answer)
    rows, left_out = len(sample["rows"]), sample["left_out"]
    found = {"rows": rows, "largest_difference": largest, "tolerance": tolerance}
    write_json(folder / "verify.json", found | {"seconds": time.perf_counter() - began, "left_out": left_out})
    say(sentence(rows, largest, left_out))


def sentence(rows: int, largest: float, left_out: dict[str, int]) -> str:
    """Return the result as a sentence; ``left_out`` is reason → number of rows that a pipeline cannot repeat."""
    if not rows:
        return "Verified: a fresh process loads the model. There were no held-out rows to compare logits on."
    left = "".join(f" {count} rows were left out: {reason}." for reason, count in left_out.items())
    return (
        "Verified: a fresh process without hf-finetune gives the same logits for "
        f"{rows} rows (largest difference {largest:.0e}).{left}"
    )


def job(folder: Path, sample: dict[str, Any], *, trust_remote_code: bool = False) -> dict[str, Any]:
    """Return the job for the fresh process.

    Raises:
        UserError: there is no model, or it contains Python code and ``trust_remote_code`` is off.
    """
    model = folder / "model"
    if not model.is_dir():
        raise UserError("there is no saved model", where=str(model), fix="give the folder of a finished run.")
    code = _code_names(model)
    own = bool(code) and _is_our_code(model, code)
    if code and not own and not trust_remote_code:
        what = "the model contains Python code, which does not run without your consent"
        raise UserError(what, where=str(model), fix="read the code, and add --trust_remote_code if you trust it.")
    task = get_task(sample["task"])
    halves = any(weight.startswith(("F16", "BF16")) for weight in sample["weights"].values())
    return {
        "model": str(model),
        "task": task.name,
        "auto_class": task.auto_class,
        "call": sample["call"],
        "options": _output(sample).pipeline_numbers(),
        "processor": task.input.processor_name,
        "facts": task.input.facts.__file__,
        "inputs": [task.input.pipeline_input(row["input"], folder / FOLDER) for row in sample["rows"]],
        "trust_remote_code": own or trust_remote_code,
        # As in the evaluation; by default a pipeline computes in the dtype of the file.
        **({"dtype": "float32"} if halves else {}),
    }


def ask(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run jobs in one fresh process and return its answers; see :mod:`hf_finetune.publish.verify.fresh_process`.

    Raises:
        UserError: the process ended before it answered.
    """
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()  # the other process needs memory
    with tempfile.TemporaryDirectory() as scratch:
        answers = Path(scratch, "answers.json")
        done = subprocess.run(
            [sys.executable, "-P", fresh_process.__file__, str(answers)],
            input=json.dumps(jobs),
            env=_environment(scratch),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise UserError(
                f"the fresh process that verifies the model ended with status {done.returncode} ({last[:200]})",
                where=jobs[0]["model"],
                fix="the run is complete; free memory and disk space, then run 'hf-finetune verify' on its folder.",
            )
        return list(json.loads(answers.read_text(encoding="utf-8")))


def judge(folder: Path, sample: dict[str, Any], answer: dict[str, Any]) -> tuple[float, float]:
    """Return the largest difference of two logits, and the tolerance.

    Raises:
        UserError: the answer differs from the evaluation; the message says how.
    """
    facts = model_facts(folder / "model")
    measured, scale = _measured(folder, sample), _output(sample).SMALLEST_SCALE
    causes, largest, tolerance = find_differences(sample, facts, answer, measured, scale)
    if causes:
        raise UserError(
            f"the saved model differs from the one that was evaluated: {'; '.join(causes[:5])}",
            where=str(folder / "model"),
            fix="do not publish it: restore the files of model/ as the run wrote them, or train again (docs/verify.md). "
            "metrics.json and predictions.parquet are not affected.",
        )
    return largest, tolerance


def _output(sample: dict[str, Any]) -> Output:
    """Return the output of the run, as its sample describes it."""
    settings = sample["settings"].get("config.json", {})
    return get_task(sample["task"]).outputs.restore(settings.get("problem_type"), sample["labels"], {})


def _measured(folder: Path, sample: dict[str, Any]) -> list[dict[str, float]]:
    """Return the answers for the sample's rows, name → number; rows are found by position, as ids may repeat."""
    rows, output = [row["row"] for row in sample["rows"]], _output(sample)
    if not rows:
        return []
    path = folder / "predictions.parquet"
    try:
        logits = pd.read_parquet(path, columns=["logits"])["logits"]
        return [output.comparable(row) for row in output.read_raw(list(logits.iloc[rows]))]
    except (OSError, ValueError, IndexError, KeyError) as error:
        what = "the file lacks the logits of the rows in verify/"
        raise UserError(what, where=str(path), fix="restore the file as the run wrote it.") from error


def _environment(scratch: str) -> dict[str, str]:
    """Return an environment for a single process without network and token, with as many threads as this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
    # Threads that spin on busy cores tripled the time of single rows.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return kept | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_TOKEN_PATH": str(Path(scratch, "token")),  # there is none
        "HF_MODULES_CACHE": str(Path(scratch, "modules")),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONIOENCODING": "utf-8",
    }


def _code_names(model: Path) -> list[str]:
    """Return the classes in Python files that the configurations of the folder refer to."""
    found: list[Any] = []
    for path in model.glob("*config.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # the fresh process reports it
        named = content.get("auto_map") if isinstance(content, dict) else None
        found += named.values() if isinstance(named, dict) else [named] if named else []
    return [str(name) for name in found]


def _is_our_code(model: Path, names: list[str]) -> bool:
    """Return whether these classes are those of the MLP head of this package, unchanged."""
    path = model / f"{MODULE_NAME}.py"
    if not path.is_file() or not all(name.startswith(f"{MODULE_NAME}.") for name in names):
        return False
    base_name = json.loads((model / "config.json").read_text(encoding="utf-8")).get("mlp_head_on", "")
    return str(base_name).isidentifier() and path.read_text(encoding="utf-8") == mlp_head_code(str(base_name))
