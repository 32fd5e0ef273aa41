"""The model card: what was trained from what on what, how good it is, and code that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_finetune import __version__
from hf_finetune.config import Config
from hf_finetune.console import is_main_process
from hf_finetune.data import Splits
from hf_finetune.data.problem import MULTI, REGRESSION
from hf_finetune.evaluation.results import Results
from hf_finetune.options import RunConfig
from hf_finetune.strategies import Plan
from hf_finetune.tasks import Task

# Figures of the card, and what its metadata calls those that the Hub knows.
SHOWN = (
    "accuracy", "f1_macro", "f1_weighted", "f1_micro", "average_precision", "precision_macro", "recall_macro", "mcc", "auroc",
    "rmse", "mae", "r2", "pearson", "spearman",
)  # fmt: skip
HUB_NAMES = {"accuracy": "accuracy", "f1_macro": "f1", "pearson": "pearsonr", "spearman": "spearmanr", "rmse": "rmse"}
FLOORS = {
    "majority_accuracy": "accuracy of always answering the most frequent class",
    "majority_f1_micro": "micro F1 of always answering the most frequent class",
    "mean_rmse": "RMSE of always answering the mean",
}


def write_model_card(config: Config, task: Task, splits: Splits, plan: Plan, results: Results) -> None:
    """Write ``README.md`` with metadata that the Hub accepts. No local path gets into it."""
    if is_main_process():
        text = model_card(config, task, splits, plan, results)
        (config.output_dir / "README.md").write_text(text, encoding="utf-8")


def model_card(config: Config, task: Task, splits: Splits, plan: Plan, results: Results) -> str:
    """The text of the card."""
    from huggingface_hub import ModelCard, ModelCardData

    base = public_name(str(config.model.model_name_or_path))
    data = public_name(splits.source)
    scores = results.metrics.get(results.judged, {})
    name = config.training.get("hub_model_id", config.output_dir.name).split("/")[-1]
    card = ModelCardData(
        library_name="peft" if _adapter_only(config) else "transformers",
        pipeline_tag=task.NAME,
        tags=["hf-finetune", *(["timm"] if base.startswith("timm/") else [])],
        base_model=base if _on_hub(str(config.model.model_name_or_path)) else None,
        datasets=[data] if _on_hub(str(config.data.dataset_name or "")) else None,
        metrics=[hub for key, hub in HUB_NAMES.items() if key in scores],
        model_name=name,
        eval_results=_eval_results(task, data, results) or None,
    )
    body = "\n\n".join(_sections(config, task, splits, plan, results, base=base, data=data, name=name))
    return str(ModelCard(f"---\n{card.to_yaml()}\n---\n\n{body}\n"))


def public_name(name: str) -> str:
    """A Hub id as it is; of a local path only its last part, so that no folder of the user's is published."""
    return name if _on_hub(name) else Path(name.rstrip("/")).name


def _on_hub(name: str) -> bool:
    return (
        bool(name)
        and not Path(name).exists()
        and not name.startswith(("/", ".", "~"))
        and name.count("/") <= 1
        and "\\" not in name
    )


def _adapter_only(config: Config) -> bool:
    return config.strategy.strategy == "lora" and not config.strategy.merge_adapter


def _eval_results(task: Task, data: str, results: Results) -> list[Any]:
    from huggingface_hub import EvalResult

    scores = results.metrics.get(results.judged, {})
    return [
        EvalResult(
            task_type=task.NAME,
            dataset_type=data if "/" in data else data.lower().replace(" ", "-"),
            dataset_name=data,
            dataset_split=results.judged,
            metric_type=hub,
            metric_name=key,
            metric_value=round(scores[key], 4),
        )
        for key, hub in HUB_NAMES.items()
        if key in scores
    ]


def _sections(
    config: Config, task: Task, splits: Splits, plan: Plan, results: Results, *, base: str, data: str, name: str
) -> list[str]:
    phases = "; ".join(
        f"{p.name} ({p.epochs:g} epochs at {p.learning_rate:.2g}, head {p.head_learning_rate:.2g})" for p in plan.phases
    )
    counts = ", ".join(f"{len(split):,} {split_name}" for split_name, split in splits.items())
    sections = [
        f"# {name}",
        f"[{base}] fine-tuned for {task.NAME} on {data}: {_labels(splits)}, {counts} rows.",
        "## Results",
        _results_table(results),
        "## Use",
        _usage(config, task, name, splits),
        "## Training",
        f"Strategy `{config.strategy.strategy}`: {phases}. Seed {config.training.get('seed', 42)}, "
        f"batch size {config.training.get('per_device_train_batch_size')} a device. {_imbalance(config.run)}"
        f"Trained in {results.metrics['timing']['train_seconds']:.0f} s with hf-finetune {__version__}; "
        "`config.yaml` of the run repeats it.",
    ]
    if results.per_class:
        sections += ["## By label", _label_table(results)]
    if splits.notes:
        sections += ["## Notes on the data", "\n".join(f"- {note}" for note in splits.notes)]
    return sections


def _imbalance(run: RunConfig) -> str:
    """What was done about rare classes and easy rows."""
    done = [
        sentence
        for sentence, used in (
            ("classes weighed by the inverse of their frequency", run.class_weights == "balanced"),
            ("rows drawn so that classes are seen equally often", run.balanced_sampling),
            (f"focal loss with gamma {run.focal_gamma:g} (arXiv 1708.02002)", run.focal_gamma),
            (f"logit adjustment with tau {run.logit_adjustment:g} (arXiv 2007.07314)", run.logit_adjustment),
        )
        if used
    ]
    return f"Against imbalance: {', '.join(done)}. " if done else ""


def _labels(splits: Splits) -> str:
    count = len(splits.labels)
    if splits.problem == REGRESSION:
        return f"{count} numbers" if count > 1 else "a number"
    return f"{count} classes, several a row" if splits.problem == MULTI else f"{count} classes"


def _results_table(results: Results) -> str:
    scores = results.metrics.get(results.judged)
    if scores is None:
        return "No rows were held out, so nothing was measured."
    lines = [f"| metric | {results.judged} |", "|---|---|"]
    lines += [f"| {key} | {scores[key]:.4f} |" for key in SHOWN if key in scores]
    lines += [f"| {sentence} | {scores[key]:.4f} |" for key, sentence in FLOORS.items() if key in scores]
    tail = (
        ""
        if results.judged == "test"
        else "\n\nThere was no test split: these rows also chose the best epoch, so the figures are optimistic."
    )
    return "\n".join(lines) + tail


def _label_table(results: Results) -> str:
    keys = list(next(iter(results.per_class.values())))
    lines = ["| | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for label, scores in results.per_class.items():
        safe = label.replace("|", "\\|").replace("<", "&lt;")
        cells = (f"{scores[key]:.0f}" if key == "support" else f"{scores[key]:.3f}" for key in keys)
        lines.append(f"| {safe} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _usage(config: Config, task: Task, name: str, splits: Splits) -> str:
    repo = config.training.get("hub_model_id", name)
    if _adapter_only(config):
        return (
            "```python\nfrom peft import PeftModel\n"
            f"from transformers import AutoConfig, {task.AUTO_CLASS}\n\n"
            f'config = AutoConfig.from_pretrained("{repo}")\n'
            f'base = {task.AUTO_CLASS}.from_pretrained(\n    "{public_name(str(config.model.model_name_or_path))}", '
            "config=config, ignore_mismatched_sizes=True\n)\n"
            f'model = PeftModel.from_pretrained(base, "{repo}").eval()\n```'
        )
    trust = ", trust_remote_code=True" if config.model.head_hidden_size else ""
    pairs = "text_pair" in splits.inputs.values()
    text = '{"text": "Some text.", "text_pair": "Another."}' if pairs else '"Some text."'
    sample = f"{text}, truncation=True" if task.KIND == "text" else '"picture.jpg"'
    if splits.problem == MULTI:
        sample += ", top_k=None"
    elif splits.problem == REGRESSION:
        sample += ', function_to_apply="none"'
    return (
        f'```python\nfrom transformers import pipeline\n\nclassify = pipeline("{task.NAME}", model="{repo}"{trust})\n'
        f"print(classify({sample}))\n```"
    )
