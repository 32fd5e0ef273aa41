"""The model card: base model, data, metrics with figures, training, limits, and code that uses the model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune import __version__
from hf_finetune.config import Config
from hf_finetune.console import is_main_process
from hf_finetune.data import Splits
from hf_finetune.evaluation.judge import MOST_SHOWN
from hf_finetune.evaluation.results import Results
from hf_finetune.files import is_on_hub, public_name
from hf_finetune.strategies import Plan
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task

# What the card reads of a run's ``timing``.
TIMING = ("train_seconds", "trainable_parameters", "parameters", "processes", "peak_memory_bytes")
NOT_EVALUATED = "No rows were held out, so the model was not evaluated."
FIGURES = "figures"  # their folder in that of the run
MOST_NAMES = 15  # with more classes the axes show their numbers in the table of labels


def write_model_card(config: Config, task: Task, splits: Splits, plan: Plan, results: Results) -> None:
    """Write ``README.md`` with metadata that the Hub accepts, without local paths."""
    if is_main_process():
        images = draw_figures(config.output_dir, results.details)
        text = model_card(config, task, splits, plan, results, images)
        (config.output_dir / "README.md").write_text(text, encoding="utf-8")


def model_card(
    config: Config, task: Task, splits: Splits, plan: Plan, results: Results, images: dict[str, str] | None = None
) -> str:
    """Return the text of the card; ``images`` is path of each figure → its alternative text."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    base, data = public_name(str(config.model.model_name_or_path)), public_name(splits.source)
    scores = results.metrics.get(results.judged, {})
    metrics = {key: hub for key, hub in splits.output.HUB_METRICS.items() if key in scores}
    rows: dict[str, Any] = {
        "task_type": task.name,
        "dataset_type": data if "/" in data else data.lower().replace(" ", "-"),
        "dataset_name": data,
        "dataset_split": results.judged,
    }
    evaluated = [
        EvalResult(**rows, metric_type=hub, metric_name=key, metric_value=round(scores[key], 4))
        for key, hub in metrics.items()
    ]
    name = config.training.get("hub_model_id", config.output_dir.name).split("/")[-1]
    card = ModelCardData(
        license=config.run.license,
        library_name="peft" if _adapter_only(config) else "transformers",
        pipeline_tag=task.name,
        tags=["hf-finetune", *(["timm"] if base.startswith("timm/") else [])],
        base_model=base if is_on_hub(str(config.model.model_name_or_path)) else None,
        datasets=[data] if is_on_hub(str(config.data.dataset_name or "")) else None,
        metrics=list(metrics.values()),
        model_name=name,
        eval_results=evaluated or None,
        widget=task.input.widget(splits.inputs),
    )
    counts = ", ".join(f"{len(split):,} {split_name}" for split_name, split in splits.items())
    link = f"[{base}](https://huggingface.co/{base})" if "/" in base else base
    per_label = results.details.get("per_label")
    sections = [
        f"# {name}",
        f"{link} fine-tuned for {task.name} on {data}: {splits.output.describe()}, {counts} rows.",
        "## Results",
        _results(splits.output, results),
        *(f"![{words}]({path})" for path, words in (images or {}).items()),
        "## Use",
        _usage(config, task, config.training.get("hub_model_id", name), splits, results.details.get("call", {})),
        "## Training",
        _training(config, plan, results.metrics["timing"]),
        *(["## By label", _label_table(per_label)] if per_label else []),
        "## Limits",
        "\n".join(f"- {sentence}" for sentence in _limits(splits, results)),
    ]
    return str(ModelCard("\n\n".join([f"---\n{card.to_yaml()}\n---", *sections]) + "\n"))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def pipeline_code(task: str, repo: str, sample: str, call: dict[str, Any], options: str = "") -> str:
    """Return code that calls the pipeline of a repository with a ``sample`` and the options ``call``."""
    for option, value in call.items():
        sample += f", {option}={json.dumps(value) if isinstance(value, str) else value}"
    return (
        f'```python\nfrom transformers import pipeline\n\nclassify = pipeline("{task}", model="{repo}"{options})\n'
        f"print(classify({sample}))\n```"
    )


def _adapter_only(config: Config) -> bool:
    return config.strategy.strategy == "lora" and not config.strategy.merge_adapter


def _results(output: Output, results: Results) -> str:
    """Return the table of metrics with their 95 % intervals and the baseline, and the verdict."""
    scores = results.metrics.get(results.judged)
    if scores is None:
        return NOT_EVALUATED
    bounds, simple = results.metrics.get(f"{results.judged}_intervals", {}), results.metrics.get("baseline", {})
    rows = [
        (
            key,
            f"{scores[key]:.4f}",
            "{:.4f} to {:.4f}".format(*bounds[key]) if key in bounds else "",
            f"{simple[key]:.4f}" if key in simple else "",
        )
        for key in output.CARD_METRICS
        if key in scores
    ]
    floor = output.FLOOR
    rows.append((floor.words, f"{scores[f'{floor.kind}_{floor.metric}']:.4f}", "", ""))
    calibration = results.metrics.get("calibration", {})
    if "ece_calibrated" in calibration:
        divided = f"logits divided by {calibration['temperature']:.2f} (`calibration_temperature` in `config.json`)"
        rows.append(("calibration error (ECE) of the probabilities", f"{calibration['ece']:.4f}", "", ""))
        rows.append((f"ECE with {divided}", f"{calibration['ece_calibrated']:.4f}", "", ""))
    table = markdown_table(("metric", results.judged, "95 % interval", "baseline"), rows)
    return f"{table}\n\n{results.details['headline']['verdict']}"


def _usage(config: Config, task: Task, repo: str, splits: Splits, call: dict[str, Any]) -> str:
    """Return code that loads and calls the model; ``call`` are the options of the pipeline."""
    if _adapter_only(config):
        return (
            "```python\nfrom peft import PeftModel\n"
            f"from transformers import AutoConfig, {task.auto_class}\n\n"
            f'config = AutoConfig.from_pretrained("{repo}")\n'
            f'base = {task.auto_class}.from_pretrained(\n    "{public_name(str(config.model.model_name_or_path))}", '
            "config=config, ignore_mismatched_sizes=True\n)\n"
            f'model = PeftModel.from_pretrained(base, "{repo}").eval()\n```'
        )
    sample = task.input.usage_sample(splits.inputs)
    trust = ", trust_remote_code=True" if config.model.head_hidden_size else ""
    return pipeline_code(task.name, repo, sample, call, trust)


def _training(config: Config, plan: Plan, timing: dict[str, float]) -> str:
    """Return the strategy, the hyper-parameters, the measures against class imbalance, and the hardware."""
    import torch

    asked, run = config.training, config.run
    phases = "; ".join(
        f"{p.name} ({p.epochs:g} epochs at {p.learning_rate:.2g}, head {p.head_learning_rate:.2g})" for p in plan.phases
    )
    warmup = float(asked.get("warmup_steps") or 0)
    steps = f"{warmup:.0%} of the steps" if warmup < 1 else f"{warmup:.0f} steps"
    smoothing = asked.get("label_smoothing_factor") or 0
    measures = {
        "class weights by inverse frequency": run.class_weights == "balanced",
        "balanced sampling of classes": run.balanced_sampling,
        f"focal loss with gamma {run.focal_gamma:g} (arXiv 1708.02002)": run.focal_gamma,
        f"logit adjustment with tau {run.logit_adjustment:g} (arXiv 2007.07314)": run.logit_adjustment,
    }
    taken = ", ".join(words for words, used in measures.items() if used)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    processes = f", {timing['processes']:.0f} processes" if timing["processes"] > 1 else ""
    return (
        f"Strategy `{config.strategy.strategy}`: {phases}. Seed {asked.get('seed', 42)}, batch size "
        f"{asked.get('per_device_train_batch_size')} a device, {asked.get('lr_scheduler_type', 'linear')} schedule with "
        f"{steps} of warm-up, weight decay {asked.get('weight_decay', 0):g}"
        f"{f', label smoothing {smoothing:g}' if smoothing else ''}. {f'Against imbalance: {taken}. ' if taken else ''}"
        f"{timing['trainable_parameters']:,.0f} of {timing['parameters']:,.0f} weights were trained in "
        f"{timing['train_seconds']:.0f} s on {gpu}{processes}, {timing['peak_memory_bytes'] / 1e9:.1f} GB at the peak, "
        f"with hf-finetune {__version__}; `config.yaml` of the run repeats it."
    )


def _label_table(per_label: dict[str, dict[str, float]]) -> str:
    keys = [key for key in next(iter(per_label.values())) if all(key in scores for scores in per_label.values())]
    rows = [
        (_safe(label), *(f"{scores[key]:.{0 if key == 'support' else 3}f}" for key in keys))
        for label, scores in per_label.items()
    ]
    return markdown_table(("", *keys), rows)


def _limits(splits: Splits, results: Results) -> list[str]:
    """Return sentences on the limits of data and model."""
    limits = list(splits.notes)
    if results.judged == "validation":
        limits.append(
            "There was no test split. The validation rows also chose the best epoch, so the metrics are optimistic."
        )
    if not results.judged:
        limits.append(NOT_EVALUATED)
    pairs = (results.details.get("confusion") or {}).get("pairs", [])
    limits += [
        f"{_safe(pair['label'])} is predicted as {_safe(pair['prediction'])} in {pair['rows']} rows ({pair['share']:.0%})."
        for pair in pairs[:3]
    ]
    suspected = len(results.details.get("label_errors", []))
    if suspected:
        more = " or more" if suspected == MOST_SHOWN else ""
        limits.append(f"The labels of {suspected}{more} of the {results.judged} rows are probably wrong.")
    return [
        *limits,
        f"It was evaluated on rows of {_safe(public_name(splits.source))}; other data may differ from them.",
    ]


def _safe(text: str) -> str:
    """Return a name from the data, escaped for a line of Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def draw_figures(folder: Path, details: dict[str, Any]) -> dict[str, str]:
    """Draw the figures of a run into ``figures/`` of its folder, which is emptied first.

    ``details`` is the content of ``evaluation.json``. Return path of each image in the folder → its alternative text.
    """
    shutil.rmtree(folder / FIGURES, ignore_errors=True)
    matrix = np.array((details.get("confusion") or {}).get("matrix") or [], dtype=float)
    made = {}
    if matrix.size:
        words = "Rows of each true label by predicted label"
        made["confusion_matrix.png"] = _confusion(matrix, details["labels"]), words
    if details.get("calibration"):
        made["reliability.png"] = _reliability(details["calibration"]), "Share of correct predictions by confidence"
    if details.get("numbers"):
        made["predictions.png"] = _numbers(details["numbers"][0]), "Predicted over true numbers"
    for name, (figure, _) in made.items():
        (folder / FIGURES).mkdir(exist_ok=True)
        # Without matplotlib's version, so that the same run gives the same file.
        figure.savefig(folder / FIGURES / name, dpi=150, metadata={"Software": None})
    return {f"{FIGURES}/{name}": words for name, (_, words) in made.items()}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def _confusion(matrix: np.ndarray, names: list[str]) -> Any:
    side = 3 + 0.25 * min(len(names), MOST_NAMES)
    figure, axes = _figure(side + 1, side)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(0.5, len(names) + 0.5, len(names) + 0.5, 0.5))
    figure.colorbar(image, label="share of the true label's rows")
    # The font lacks many scripts.
    if len(names) <= MOST_NAMES and all(name.isascii() for name in names):
        short = [name if len(name) <= 20 else name[:19] + "…" for name in names]
        axes.set_xticks(range(1, len(names) + 1), short, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(1, len(names) + 1), short, parse_math=False)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _reliability(calibration: dict[str, Any]) -> Any:
    figure, axes = _figure(4.5, 4)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    for part in ("before", "after"):
        if calibration[part]:
            points = [(each["confidence"], each["accuracy"]) for each in calibration[part]["curve"]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=f"{part} temperature scaling")
    axes.set(xlabel="confidence", ylabel="share of correct predictions")
    axes.legend()
    return figure


def _numbers(target: dict[str, Any]) -> Any:
    figure, axes = _figure(4.5, 4)
    ends = [min(target["labels"] + target["predictions"]), max(target["labels"] + target["predictions"])]
    axes.plot(ends, ends, color="grey", linestyle=":")
    axes.plot(target["labels"], target["predictions"], ".", alpha=0.4)
    axes.set(xlabel="true", ylabel="predicted")
    return figure
