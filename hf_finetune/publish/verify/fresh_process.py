"""The fresh process of ``verify``: load saved models without this package, and report their logits and inputs.

It runs as a script, with jobs as JSON on standard input and the file for the answers as its argument. It does not import
this package and blocks every import of it, because the models must load without it.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any


def main() -> None:
    """Answer every job."""
    sys.modules["hf_finetune"] = None  # type: ignore[assignment]
    reports: list[dict[str, Any]] = []
    _watch_loading(reports)
    answers = [answer(job, reports) for job in json.load(sys.stdin)]
    Path(sys.argv[1]).write_text(json.dumps(answers), encoding="utf-8")


def answer(job: dict[str, Any], reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Load a saved model, and run it on the inputs of a job, which ``verify.job`` describes.

    ``reports`` are the loading reports of transformers. Return the error as ``failed``, or None with ``labels`` in the order of
    the logits, ``answers`` of each input as name → number, ``inputs`` and ``processor`` (from ``facts``), ``missing`` and
    ``unexpected`` weights, and the ``device``.
    """
    reports.clear()
    try:
        classify, missing, unexpected = load(job, reports)
        labels = classify.model.config.id2label
        call = job["call"]
        prepared, _, _ = classify._sanitize_parameters(**call)
        facts = _load_facts(job["facts"])
        items = [facts.pipeline_input(item) for item in job["inputs"]]
        return {
            "failed": None,
            "labels": [labels[index] for index in range(len(labels))],
            "inputs": [facts.input_facts(_first(classify.preprocess(item, **prepared))) for item in items],
            "answers": [numbers(classify(item, **call, **job["options"])) for item in items],
            "processor": facts.processor_facts(getattr(classify, job["processor"])),
            "missing": sorted(missing),
            "unexpected": sorted(unexpected),
            "device": classify.device.type,
        }
    except Exception as error:  # any error of a library is an answer about the model
        if type(error).__name__ == "OutOfMemoryError" and "device" not in job:  # the run may still use the GPU
            return answer(job | {"device": "cpu"}, reports)
        return {"failed": f"{type(error).__name__}: {error}"}


def numbers(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return the logit of each label, or the score of each entity, which its label and place name."""
    return {
        row["label"] if "label" in row else f"{row['entity_group']} {row['start']}:{row['end']}": float(row["score"])
        for row in found
    }


def _first(prepared: Any) -> Any:
    """Return the inputs of a text, of which some pipelines make several parts."""
    return prepared if hasattr(prepared, "keys") else next(iter(prepared))


def load(job: dict[str, Any], reports: list[dict[str, Any]]) -> tuple[Any, set[str], set[str]]:
    """Return the pipeline, and the names of missing and of unexpected weights in its files."""
    from transformers import pipeline

    if Path(job["model"], "adapter_config.json").exists():
        return _load_adapter(job, reports)
    options = {name: job[name] for name in ("trust_remote_code", "dtype", "device") if name in job}
    classify = pipeline(job["task"], model=job["model"], **options)
    return classify, set(reports[-1]["missing_keys"]), set(reports[-1]["unexpected_keys"])


def _load_adapter(job: dict[str, Any], reports: list[dict[str, Any]]) -> tuple[Any, set[str], set[str]]:
    """Load an adapter as the model card shows it; weights that are neither in the base nor in the adapter are missing."""
    import transformers
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    folder = Path(job["model"])
    base_name = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    config = transformers.AutoConfig.from_pretrained(folder)
    factory = getattr(transformers, job["auto_class"])
    base = factory.from_pretrained(base_name, config=config, ignore_mismatched_sizes=True)
    model = PeftModel.from_pretrained(base, str(folder)).eval()
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        held = set(file.keys())
    wanted = set(get_peft_model_state_dict(model))
    mismatched = {key if isinstance(key, str) else key[0] for key in reports[-1]["mismatched_keys"]}
    fresh = {f"base_model.model.{name}" for name in set(reports[-1]["missing_keys"]) | mismatched}
    # Not its path: for a model that is in memory, the pipeline cannot load a feature extractor.
    processor = getattr(transformers, "Auto" + job["processor"].title().replace("_", "")).from_pretrained(folder)
    where = {job["processor"]: processor} | ({"device": job["device"]} if "device" in job else {})
    classify = transformers.pipeline(job["task"], model=model.get_base_model(), **where)
    return classify, (wanted | fresh) - held, held - wanted - fresh


def _watch_loading(reports: list[dict[str, Any]]) -> None:
    """Collect the loading report of every model that transformers loads."""
    from transformers import PreTrainedModel

    original = PreTrainedModel.from_pretrained.__func__

    def reporting(cls: type, *names: Any, **options: Any) -> Any:
        model, report = original(cls, *names, **(options | {"output_loading_info": True}))
        reports.append(report)
        return model

    PreTrainedModel.from_pretrained = classmethod(reporting)


def _load_facts(path: str) -> ModuleType:
    """Return the module that describes a row and its processor as the model gets them; it does not import this package."""
    module = ModuleType("facts")
    SourceFileLoader("facts", path).exec_module(module)
    return module


if __name__ == "__main__":
    main()
