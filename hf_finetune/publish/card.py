"""The model card: base model, data, metrics, training, limits, and code that uses the model."""

from __future__ import annotations

import json
import os
from typing import Any

from hf_finetune import __version__
from hf_finetune.config import Config
from hf_finetune.config.options import RunConfig
from hf_finetune.console import is_main_process
from hf_finetune.data import Splits
from hf_finetune.evaluation.judge import MOST_SHOWN
from hf_finetune.evaluation.results import Results
from hf_finetune.files import is_on_hub, public_name
from hf_finetune.publish.card_figures import draw_figures
from hf_finetune.strategies import Plan
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task

# What the card reads of a run's ``timing``.
TIMING = ("train_seconds", "trainable_parameters", "parameters", "processes", "peak_memory_bytes")


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
    from huggingface_hub import ModelCard, ModelCardData

    base = public_name(str(config.model.model_name_or_path))
    data = public_name(splits.source)
    scores = results.metrics.get(results.judged, {})
    name = config.training.get("hub_model_id", config.output_dir.name).split("/")[-1]
    card = ModelCardData(
        license=config.run.license,
        library_name="peft" if _adapter_only(config) else "transformers",
        pipeline_tag=task.name,
        tags=["hf-finetune", *(["timm"] if base.startswith("timm/") else [])],
        base_model=base if is_on_hub(str(config.model.model_name_or_path)) else None,
        datasets=[data] if is_on_hub(str(config.data.dataset_name or "")) else None,
        metrics=[hub for key, hub in splits.output.HUB_METRICS.items() if key in scores],
        model_name=name,
        eval_results=_eval_results(task, splits.output, data, results) or None,
        widget=task.input.widget(splits.inputs),
    )
    body = "\n\n".join(_sections(config, task, splits, plan, results, images or {}, base=base, data=data, name=name))
    return str(ModelCard(f"---\n{card.to_yaml()}\n---\n\n{body}\n"))


def _adapter_only(config: Config) -> bool:
    return config.strategy.strategy == "lora" and not config.strategy.merge_adapter


def _eval_results(task: Task, output: Output, data: str, results: Results) -> list[Any]:
    from huggingface_hub import EvalResult

    scores = results.metrics.get(results.judged, {})
    return [
        EvalResult(
            task_type=task.name,
            dataset_type=data if "/" in data else data.lower().replace(" ", "-"),
            dataset_name=data,
            dataset_split=results.judged,
            metric_type=hub,
            metric_name=key,
            metric_value=round(scores[key], 4),
        )
        for key, hub in output.HUB_METRICS.items()
        if key in scores
    ]


def _sections(
    config: Config,
    task: Task,
    splits: Splits,
    plan: Plan,
    results: Results,
    images: dict[str, str],
    *,
    base: str,
    data: str,
    name: str,
) -> list[str]:
    phases = "; ".join(
        f"{p.name} ({p.epochs:g} epochs at {p.learning_rate:.2g}, head {p.head_learning_rate:.2g})" for p in plan.phases
    )
    counts = ", ".join(f"{len(split):,} {split_name}" for split_name, split in splits.items())
    link = f"[{base}](https://huggingface.co/{base})" if "/" in base else base
    sections = [
        f"# {name}",
        f"{link} fine-tuned for {task.name} on {data}: {splits.output.describe()}, {counts} rows.",
        "## Results",
        _results_table(splits.output, results),
        *(f"![{words}]({name})" for name, words in images.items()),
        "## Use",
        _usage(config, task, name, splits),
        "## Training",
        f"Strategy `{config.strategy.strategy}`: {phases}. Seed {config.training.get('seed', 42)}, "
        f"batch size {config.training.get('per_device_train_batch_size')} a device, {_schedule(config)}. {_imbalance(config.run)}"
        f"{_hardware(results.metrics['timing'])} with hf-finetune {__version__}; `config.yaml` of the run repeats it.",
    ]
    if results.details.get("per_label"):
        sections += ["## By label", _label_table(results.details["per_label"])]
    sections += ["## Limits", "\n".join(f"- {sentence}" for sentence in _limits(splits, results))]
    return sections


def _schedule(config: Config) -> str:
    """The rest of the hyper-parameters."""
    asked = config.training
    smoothing = asked.get("label_smoothing_factor") or 0
    warmup = float(asked.get("warmup_steps") or 0)
    steps = f"{warmup:.0%} of the steps" if warmup < 1 else f"{warmup:.0f} steps"
    return (
        f"{asked.get('lr_scheduler_type', 'linear')} schedule with {steps} of warm-up, weight decay "
        f"{asked.get('weight_decay', 0):g}{f', label smoothing {smoothing:g}' if smoothing else ''}"
    )


def _hardware(timing: dict[str, float]) -> str:
    import torch

    gpu = f"{torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    processes = f", {timing['processes']:.0f} processes" if timing["processes"] > 1 else ""
    return (
        f"{timing['trainable_parameters']:,.0f} of {timing['parameters']:,.0f} weights were trained in "
        f"{timing['train_seconds']:.0f} s on {gpu}{processes}, {timing['peak_memory_bytes'] / 1e9:.1f} GB at the peak,"
    )


def _limits(splits: Splits, results: Results) -> list[str]:
    """Return sentences on the limits of data and model."""
    limits = list(splits.notes)
    if results.judged == "validation":
        limits.append(
            "There was no test split. The validation rows also chose the best epoch, so the metrics are optimistic."
        )
    if not results.judged:
        limits.append("No rows were held out, so the model was not evaluated.")
    pairs = (results.details.get("confusion") or {}).get("pairs", [])
    limits += [
        f"{_safe(pair['label'])} is predicted as {_safe(pair['prediction'])} in {pair['rows']} rows ({pair['share']:.0%})."
        for pair in pairs[:3]
    ]
    suspected = len(results.details.get("label_errors", []))
    if suspected:
        more = " or more" if suspected == MOST_SHOWN else ""
        limits.append(f"The labels of {suspected}{more} of the {results.judged} rows are probably wrong.")
    limits.append(f"It was evaluated on rows of {_safe(public_name(splits.source))}; other data may differ from them.")
    return limits


def _safe(text: str) -> str:
    """Return a name from the data, escaped for a line of Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _imbalance(run: RunConfig) -> str:
    """Return a sentence about the measures against class imbalance."""
    done = [
        sentence
        for sentence, used in (
            ("class weights by inverse frequency", run.class_weights == "balanced"),
            ("balanced sampling of classes", run.balanced_sampling),
            (f"focal loss with gamma {run.focal_gamma:g} (arXiv 1708.02002)", run.focal_gamma),
            (f"logit adjustment with tau {run.logit_adjustment:g} (arXiv 2007.07314)", run.logit_adjustment),
        )
        if used
    ]
    return f"Against imbalance: {', '.join(done)}. " if done else ""


def _results_table(output: Output, results: Results) -> str:
    """Return the table of metrics with their 95 % intervals and the baseline."""
    scores = results.metrics.get(results.judged)
    if scores is None:
        return "No rows were held out, so the model was not evaluated."
    bounds, simple = results.metrics.get(f"{results.judged}_intervals", {}), results.metrics.get("baseline", {})
    lines = [f"| metric | {results.judged} | 95 % interval | baseline |", "|---|---|---|---|"]
    for key in output.CARD_METRICS:
        if key in scores:
            interval = "{:.4f} to {:.4f}".format(*bounds[key]) if key in bounds else ""
            lines.append(
                f"| {key} | {scores[key]:.4f} | {interval} | {f'{simple[key]:.4f}' if key in simple else ''} |"
            )
    floor = output.FLOOR
    lines.append(f"| {floor.words} | {scores[f'{floor.kind}_{floor.metric}']:.4f} | | |")
    calibration = results.metrics.get("calibration", {})
    if "ece_calibrated" in calibration:
        lines.append(f"| calibration error (ECE) of the probabilities | {calibration['ece']:.4f} | | |")
        after = f"{calibration['ece_calibrated']:.4f} | | |"
        lines.append(
            f"| ECE with logits divided by {calibration['temperature']:.2f} (`calibration_temperature` in `config.json`) | {after}"
        )
    return "\n".join(lines) + f"\n\n{results.details['headline']['verdict']}"


def _label_table(per_label: dict[str, dict[str, float]]) -> str:
    keys = [key for key in next(iter(per_label.values())) if all(key in scores for scores in per_label.values())]
    lines = ["| | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for label, scores in per_label.items():
        cells = (f"{scores[key]:.0f}" if key == "support" else f"{scores[key]:.3f}" for key in keys)
        lines.append(f"| {_safe(label)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _usage(config: Config, task: Task, name: str, splits: Splits) -> str:
    repo = config.training.get("hub_model_id", name)
    if _adapter_only(config):
        return (
            "```python\nfrom peft import PeftModel\n"
            f"from transformers import AutoConfig, {task.auto_class}\n\n"
            f'config = AutoConfig.from_pretrained("{repo}")\n'
            f'base = {task.auto_class}.from_pretrained(\n    "{public_name(str(config.model.model_name_or_path))}", '
            "config=config, ignore_mismatched_sizes=True\n)\n"
            f'model = PeftModel.from_pretrained(base, "{repo}").eval()\n```'
        )
    trust = ", trust_remote_code=True" if config.model.head_hidden_size else ""
    sample = task.input.usage_sample(splits.inputs)
    for option, value in splits.output.PIPELINE_OPTIONS.items():
        sample += f", {option}={json.dumps(value) if isinstance(value, str) else value}"
    return (
        f'```python\nfrom transformers import pipeline\n\nclassify = pipeline("{task.name}", model="{repo}"{trust})\n'
        f"print(classify({sample}))\n```"
    )
