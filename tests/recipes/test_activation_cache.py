"""Training from activations that were computed once is the training that would have been without."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
from pathlib import Path

import pytest
import torch

from hf_finetune.evaluation.baseline import make_baseline
from hf_finetune.packaged import fine_tune
from hf_finetune.training import Interrupted
from hf_finetune.training.callbacks import StopOnSignal

pytestmark = pytest.mark.usefixtures("training_alone")

TEXT, IMAGE = "text-classification", "image-classification"
SLOW = pytest.mark.slow  # test_cut.py cuts every kind of model at every stage
CASES = [
    (TEXT, "bert", "freeze:1"),
    (TEXT, "bert", "lp_ft"),
    (IMAGE, "resnet", "lp_ft"),
]
CASES += [
    pytest.param(*case, marks=SLOW)
    for case in (
        (TEXT, "bert", "head"),
        (TEXT, "bert", "freeze:embeddings"),
        (TEXT, "modernbert", "freeze:1"),
        (TEXT, "deberta", "freeze:1"),
        (IMAGE, "resnet", "head"),
        (IMAGE, "resnet", "freeze:1"),
        (IMAGE, "vit", "head"),
        (IMAGE, "vit", "freeze:1"),
        (IMAGE, "vit", "lp_ft"),
        (IMAGE, "timm-resnet", "head"),
        (IMAGE, "timm-resnet", "freeze:layer3"),
        (IMAGE, "timm-resnet", "lp_ft"),
        (IMAGE, "timm-efficientnet", "freeze:2"),
    )
]


def run(task: str, model: str, strategy: str, folder: Path, data: dict[str, str], cache: str, **flags) -> dict:
    """Losses of every step and the weights that were saved; three batches of unequal size an epoch."""
    from safetensors.torch import load_file

    given = {"augmentation": "none"} if task == IMAGE else {}
    given |= {"learning_rate": 1e-3, "num_train_epochs": 2, "logging_steps": 1, "logging_strategy": "steps"}
    given |= {"bf16": False, "per_device_train_batch_size": 20, "save_total_limit": 5} | flags
    given = {"activation_cache_dir": folder / "activations"} | given
    metrics = fine_tune(
        task,
        model_name_or_path=model,
        output_dir=folder,
        strategy=strategy,
        activation_cache=cache,
        **data,
        **given,
    )
    weights = load_file(folder / "model" / "model.safetensors")
    return {"losses": losses(folder), "weights": weights, "test": metrics["test"]}


def losses(folder: Path) -> list[float]:
    """Of all steps of the last phase, as its last checkpoint tells them."""
    states = folder.glob("checkpoints/*/checkpoint-*/trainer_state.json")
    last = max(states, key=lambda path: (path.parts[-3], int(path.parts[-2].split("-")[1])))
    history = json.loads(last.read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def data_of(task: str, text_files: dict[str, str], image_folder: str) -> dict[str, str]:
    return {f"{s}_file": f for s, f in text_files.items()} if task == TEXT else {"dataset_name": image_folder}


def assert_same(one: dict, other: dict, bound: float) -> None:
    assert one["losses"] == pytest.approx(other["losses"], rel=bound)
    assert len(one["losses"]) > 4
    assert one["test"] == pytest.approx(other["test"], rel=max(bound, 1e-4), abs=1e-6)
    assert one["weights"].keys() == other["weights"].keys()
    for name, weight in one["weights"].items():
        scale = float(weight.abs().max())
        assert float((weight.float() - other["weights"][name].float()).abs().max()) <= bound * max(scale, 1.0), name


@pytest.fixture(scope="module")
def trained(checkpoints, text_files, image_folder, tmp_path_factory):
    """``trained(task, model, strategy, cache, **flags)``: such a run, which is trained once, and what it ``printed``."""
    root = tmp_path_factory.mktemp("trained")
    runs: dict[str, dict] = {}

    def get(task: str, model: str, strategy: str, cache: str, **flags) -> dict:
        key = repr((task, model, strategy, cache, flags))
        if key not in runs:
            data, printed = data_of(task, text_files, image_folder), io.StringIO()
            with contextlib.redirect_stdout(printed):
                found = run(task, checkpoints(model), strategy, root / str(len(runs)), data, cache, **flags)
            runs[key] = found | {"printed": printed.getvalue()}
        return runs[key]

    return get


@pytest.mark.parametrize(("task", "model", "strategy"), CASES)
def test_cached_and_uncached_training_are_the_same(task, model, strategy, trained):
    plain, kept = (trained(task, model, strategy, cache) for cache in ("off", "on"))
    assert "Activation cache" not in plain["printed"]
    assert "Activation cache: on" in kept["printed"]
    assert_same(kept, plain, 1e-5)


def said(capsys, about: str = "phase") -> list[str]:
    """The lines about the activation cache, of the phases or of the evaluation."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if ("Activation cache" in line or "activations" in line) and about in line]


@pytest.mark.parametrize(
    ("task", "model", "strategy", "flags"),
    [
        (TEXT, "bert", "lora", {"lora_target_modules": r"bert\.encoder\.layer\.1\..*", "merge_adapter": True}),
        (TEXT, "bert", "freeze:1", {"head_hidden_size": 8, "gradient_accumulation_steps": 2, "group": True}),
        (
            IMAGE,
            "resnet",
            "head",
            {"head_hidden_size": 8, "dataloader_num_workers": 1, "dataloader_persistent_workers": True},
        ),
        (
            IMAGE,
            "vit",
            "freeze:1",
            {"gradient_checkpointing": True, "class_weights": "balanced", "label_smoothing_factor": 0.1},
        ),
    ],
)
def test_options_that_touch_batches_change_nothing(
    task, model, strategy, flags, checkpoints, text_files, image_folder, tmp_path, capsys
):
    data = data_of(task, text_files, image_folder)
    if flags.pop("group", False):
        flags |= {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 6}
    plain = run(task, checkpoints(model), strategy, tmp_path / "off", data, "off", **flags)
    kept = run(task, checkpoints(model), strategy, tmp_path / "on", data, "on", **flags)
    assert len(said(capsys)) == 1
    assert_same(kept, plain, 1e-5)


@pytest.fixture
def written(monkeypatch) -> list[tuple[str, int]]:
    """Every file of activations that is written, as folder and number."""
    from hf_finetune.activations.store import ActivationStore

    seen: list[tuple[str, int]] = []
    original = ActivationStore.write

    def write(self, number, kept):
        original(self, number, kept)
        if "trial" not in self.folder.name:
            seen.append((self.folder.name, number))

    monkeypatch.setattr(ActivationStore, "write", write)
    return seen


@pytest.mark.parametrize(("task", "model"), [pytest.param(IMAGE, "vit", marks=SLOW), (TEXT, "bert")])
def test_later_runs_compute_nothing(task, model, checkpoints, text_files, image_folder, tmp_path, capsys, written):
    data = data_of(task, text_files, image_folder)

    def again(name, **flags):
        written.clear()
        options = {"activation_cache_dir": tmp_path / "kept"} | flags
        return run(task, checkpoints(model), "head", tmp_path / name, data, "on", **options)

    first = again("first")
    assert len(written) == len(set(written)) == 2 + 1 + 1  # files of 32 rows of training, validation, test
    assert "found from an earlier run" not in said(capsys)[0]
    assert_same(again("same"), first, 0.0)
    assert written == []
    assert said(capsys) == ["Activation cache: on in phase head: found from an earlier run."]
    others = again("other", seed=7, learning_rate=3e-3, head_hidden_size=8, per_device_train_batch_size=7)
    assert others["losses"] != first["losses"]
    assert written == []
    if task == TEXT:
        again("shorter", max_length=6)
        assert len(written) == 4


@pytest.mark.parametrize("how", ["killed", "removed"])
def test_a_fill_that_was_cut_short_is_continued(how, checkpoints, image_folder, tmp_path, monkeypatch, written):
    from hf_finetune.activations.store import ActivationStore

    data, kept, model = {"dataset_name": image_folder}, tmp_path / "kept", checkpoints("vit")

    def again(name):
        written.clear()
        return run(IMAGE, model, "head", tmp_path / name, data, "on", activation_cache_dir=kept)

    whole = run(IMAGE, model, "head", tmp_path / "whole", data, "on")
    every = list(written)
    if how == "killed":
        with monkeypatch.context() as patch:
            patch.setattr(ActivationStore, "write", killed_after(ActivationStore.write, 1))
            with pytest.raises(KeyboardInterrupt):
                again("first")
        left = every[:1]
    else:
        again("first")
        paths = sorted(kept.glob("*/*.npy"))
        for path in paths[::2]:
            path.unlink()
        left = [(path.parent.name, int(path.stem)) for path in paths[1::2]]
    assert_same(again("second"), whole, 0.0)
    assert sorted(written) == sorted(set(every) - set(left))
    assert list(kept.rglob("*.partial")) == []


def killed_after(write, files: int, error: BaseException | None = None):
    """``ActivationStore.write`` that fails from some file on."""
    done: list[int] = []

    def once(self, number, kept):
        if len(done) == files:
            raise error or KeyboardInterrupt
        done.append(number)
        write(self, number, kept)

    return once


@pytest.mark.parametrize("files", [0, 2])
def test_a_full_disk_costs_time_and_nothing_else(
    files, trained, checkpoints, image_folder, tmp_path, monkeypatch, capsys
):
    from hf_finetune.activations.store import ActivationStore

    data, model = {"dataset_name": image_folder}, checkpoints("vit")
    plain = trained(IMAGE, "vit", "freeze:1", "off")
    full = killed_after(ActivationStore.write, files, OSError(28, "No space left on device"))
    monkeypatch.setattr(ActivationStore, "write", full)
    assert_same(run(IMAGE, model, "freeze:1", tmp_path / "on", data, "on"), plain, 0.0)
    sentence = (
        "Warning: activations cannot be cached ([Errno 28] No space left on device); "
        "phase above-{} computes its frozen stages in every epoch."
    )
    off = "Activation cache: off in phase above-block1: the folder cannot be written ([Errno 28] No space left on device)."
    lines = said(capsys)
    assert len(lines) == (1 if files == 0 else 2)
    assert lines[-1] == (off if files == 0 else sentence.format("block1"))


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (
            {"activation_cache_max_gb": 0.001, "image_size": 128},
            r"2.0 MB are needed and 1.0 MB are available \(--activation_cache_max_gb\)",
        ),
        (
            {"activation_cache_dir": "/dev/null/activations"},
            r"the folder cannot be written \(\[Errno 20\] Not a directory: .*\)",
        ),
        (
            {"augmentation": "light"},
            r"its views are random \(--activation_views K caches K of them, --augmentation none turns them off\)",
        ),
        pytest.param({"mixup": 0.2}, "rows are mixed", marks=SLOW),
        ({"cutmix": 0.2, "augmentation": "light", "activation_views": 2}, "rows are mixed"),
    ],
)
def test_where_nothing_can_be_kept_that_is_said_once(flags, why, checkpoints, image_folder, tmp_path, capsys):
    data, model = {"dataset_name": image_folder}, checkpoints("resnet")
    plain = run(IMAGE, model, "freeze:1", tmp_path / "off", data, "off", **flags)
    assert said(capsys) == []
    kept = run(IMAGE, model, "freeze:1", tmp_path / "on", data, "on", **flags)
    (line,) = said(capsys)
    assert re.fullmatch(f"Activation cache: off in phase above-stage1: {why}\\.", line), line
    assert_same(kept, plain, 0.0)


def test_auto_measures_and_says_in_one_line_what_it_does(checkpoints, image_folder, tmp_path, capsys):
    run(IMAGE, checkpoints("vit"), "lp_ft", tmp_path, {"dataset_name": image_folder}, "auto")
    (line,) = said(capsys)
    figures = r"the frozen stages take [\d.e-]+ ms per row, reading their output [\d.e-]+ ms"
    on, off = (
        rf"on in phase head: {figures}, over 4 epochs; [\d.]+ MB",
        rf"off in phase head: {figures}, writing it .* saves no time",
    )
    assert re.fullmatch(f"Activation cache: ({on}|{off})\\.", line), line


def test_the_baseline_reads_what_the_head_was_trained_on(checkpoints, image_folder, tmp_path, written, monkeypatch):
    monkeypatch.setattr("hf_finetune.evaluation.results.make_baseline", make_baseline)
    run(IMAGE, checkpoints("resnet"), "lp_ft", tmp_path, {"dataset_name": image_folder}, "on", augmentation="none")
    assert len({folder for folder, _ in written}) == 3  # training and validation rows of the first phase, test rows
    assert len(set(written)) == len(written)
    assert "baseline" in json.loads((tmp_path / "metrics.json").read_text())


def test_nothing_is_said_or_kept_where_everything_trains(checkpoints, image_folder, tmp_path, capsys):
    run(IMAGE, checkpoints("vit"), "full", tmp_path, {"dataset_name": image_folder}, "on")
    out = capsys.readouterr().out
    assert "ctivation" not in out
    assert not (tmp_path / "activations").exists()


@pytest.mark.parametrize(("model", "strategy"), [pytest.param("resnet", "freeze:1", marks=SLOW), ("vit", "head")])
def test_epochs_take_the_views_in_turn(
    model, strategy, checkpoints, image_folder, tmp_path, monkeypatch, capsys, written
):
    from hf_finetune.tasks.inputs.image.encoding import Images

    data, model = {"dataset_name": image_folder}, checkpoints(model)
    flags = {"augmentation": "light", "rotation_degrees": 5, "num_train_epochs": 4, "activation_views": 2}
    options = flags | {"activation_cache_dir": tmp_path / "kept"}
    kept = run(IMAGE, model, strategy, tmp_path / "on", data, "on", **options)
    assert said(capsys)[0].startswith("Activation cache: on")
    assert len({folder for folder, _ in written}) == 4  # two views of the training rows, validation, test
    written.clear()
    other = run(IMAGE, model, strategy, tmp_path / "other", data, "on", **options, learning_rate=1e-4)
    assert (written, other["losses"] == kept["losses"]) == ([], False)
    with monkeypatch.context() as patch:
        patch.setattr(Images, "set_epoch", lambda self, epoch: self.epoch.fill_(epoch % 2))
        plain = run(IMAGE, model, strategy, tmp_path / "off", data, "off", **flags)
    assert_same(kept, plain, 1e-5)
    run(IMAGE, model, strategy, tmp_path / "seed", data, "on", **options, seed=5)
    assert len({folder for folder, _ in written}) == 2  # other views of the training rows alone


@pytest.mark.parametrize(
    ("task", "model", "strategy", "bound"),
    [
        (TEXT, "bert", "freeze:1", 1e-3),
        pytest.param(IMAGE, "vit", "head", 1e-6, marks=SLOW),
        pytest.param(IMAGE, "resnet", "head", 1e-6, marks=SLOW),
    ],
)
def test_half_precision_is_near(task, model, strategy, bound, checkpoints, text_files, image_folder, tmp_path, capsys):
    """Losses agree within ``bound``, relatively: what is kept is bf16, which a head reads in any case, but not a block."""
    data = data_of(task, text_files, image_folder)
    plain = run(task, checkpoints(model), strategy, tmp_path / "off", data, "off", bf16=True)
    kept = run(task, checkpoints(model), strategy, tmp_path / "on", data, "on", bf16=True)
    assert said(capsys)[0].startswith("Activation cache: on")
    off = max(abs(a / b - 1) for a, b in zip(kept["losses"], plain["losses"], strict=True))
    assert off <= bound


@pytest.mark.parametrize(
    ("task", "model", "strategy", "step"),
    [
        (TEXT, "bert", "freeze:1", 4),
        (TEXT, "bert", "lp_ft", 2),
        (IMAGE, "timm-resnet", "freeze:layer3", 3),
        pytest.param(IMAGE, "resnet", "head", 5, marks=SLOW),
    ],
)
def test_a_run_that_is_resumed_ends_with_the_same_weights(
    task, model, strategy, step, trained, checkpoints, text_files, image_folder, tmp_path, monkeypatch, capsys
):
    data = data_of(task, text_files, image_folder)
    flags = {"activation_views": 2, "augmentation": "light"} if strategy == "freeze:layer3" else {}
    whole = trained(task, model, strategy, "on", **flags)
    assert "Activation cache: on" in whole["printed"]
    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_step_end", stopping(StopOnSignal.on_step_end, step))
        with pytest.raises(Interrupted):
            run(task, checkpoints(model), strategy, tmp_path / "stopped", data, "on", **flags)
    resumed = run(
        task, checkpoints(model), strategy, tmp_path / "stopped", data, "on", resume_from_checkpoint="auto", **flags
    )
    assert said(capsys)[-1].endswith("found from an earlier run.")
    assert [
        name for name in whole["weights"] if not torch.equal(whole["weights"][name], resumed["weights"][name])
    ] == []


def stopping(original, step: int):
    """``StopOnSignal.on_step_end`` with a signal at the end of some step of the run."""
    seen: list[int] = []

    def on_step_end(self, args, state, control, **kwargs):
        seen.append(state.global_step)
        if len(seen) == step:
            self.received = signal.SIGTERM
        return original(self, args, state, control, **kwargs)

    return on_step_end


IN_TWO_PROCESSES = """
import json, sys
from hf_finetune.packaged import fine_tune
for task, output_dir, flags in json.load(open(sys.argv[1])):
    fine_tune(task, output_dir=output_dir, **flags)
"""
SHARED = [(TEXT, "bert-without-dropout", "freeze:1")]
SHARED_SLOWLY = [(IMAGE, "resnet", "lp_ft"), (IMAGE, "vit", "head"), (IMAGE, "timm-resnet", "freeze:layer3")]


@pytest.mark.parametrize("shared", [SHARED, pytest.param(SHARED_SLOWLY, marks=SLOW)], ids=["few", "more"])
def test_two_processes_share_the_work_and_train_as_without(
    shared, python, checkpoints, text_files, image_folder, tmp_path
):
    """Both sides run in two processes: one launch for all of them."""
    fixed = {
        "learning_rate": 1e-3,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "logging_strategy": "steps",
        "bf16": False,
    }
    fixed |= {"per_device_train_batch_size": 10, "save_total_limit": 5}
    jobs = []
    for number, (task, model, strategy) in enumerate(shared):
        for cache in ("off", "on"):
            folder = tmp_path / f"{number}-{cache}"
            flags = fixed | {"model_name_or_path": checkpoints(model), "strategy": strategy, "activation_cache": cache}
            flags |= {"augmentation": "none"} if task == IMAGE else {}
            flags |= data_of(task, text_files, image_folder) | {"activation_cache_dir": str(tmp_path / "kept")}
            jobs.append((task, str(folder), flags))
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "both.py").write_text(IN_TWO_PROCESSES)
    argv = [str(tmp_path / "both.py"), str(tmp_path / "jobs.json")]
    done = python(argv, cwd=Path(__file__).parents[2], processes=2, alone=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(re.findall("Activation cache: on in phase", done.stdout)) == len(shared)
    for number, _ in enumerate(shared):
        kept, plain = (result(tmp_path / f"{number}-{cache}") for cache in ("on", "off"))
        assert_same(kept, plain, 1e-5)
    rows = {len(list(folder.glob("*.npy"))) for folder in (tmp_path / "kept").iterdir()}
    assert rows <= {1, 2}
    assert list((tmp_path / "kept").rglob("*.partial")) == []


def result(folder: Path) -> dict:
    from safetensors.torch import load_file

    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["timing"]["processes"] == 2
    return {
        "losses": losses(folder),
        "weights": load_file(folder / "model" / "model.safetensors"),
        "test": metrics["test"],
    }
