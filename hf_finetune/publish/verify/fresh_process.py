"""The fresh process of ``verify``: load saved models without this package, and report their logits and inputs.

It runs as a script, with jobs as JSON on standard input and the file for the answers as its argument. It does not import
this package and blocks every import of it, because the models must load without it.
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

# Settings of an image processor that change the pixels.
IMAGES = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std", "do_pad", "do_flip_channel_order", "rescale_offset", "include_top",
)  # fmt: skip
TIMM = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
TEXTS = ("model_max_length", "truncation_side", "padding_side", "pad_token")
PIXELS = 16  # that are compared for each image


def main() -> None:
    """Answer every job."""
    sys.modules["hf_finetune"] = None  # type: ignore[assignment]
    reports: list[dict[str, Any]] = []
    _watch_loading(reports)
    answers = [answer(job, reports) for job in json.load(sys.stdin)]
    Path(sys.argv[1]).write_text(json.dumps(answers), encoding="utf-8")


def answer(job: dict[str, Any], reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Load a saved model, and run it on some inputs.

    Args:
        job: ``model`` (folder), ``task``, ``auto_class``, ``inputs`` (as for ``pipeline()``), ``call`` (keywords of a call of
            the pipeline), ``processor`` (the keyword of ``pipeline()`` for the preprocessing), ``trust_remote_code``;
            optionally ``dtype`` to load the weights in, and ``device``.
        reports: receives the loading reports of transformers.

    Returns:
        ``failed``: the error, or None. Without an error also ``labels`` in the order of the logits, ``logits`` of each input
        by label, ``inputs`` and ``processor`` (see the functions below), ``missing`` and ``unexpected`` weights, and the
        ``device``.
    """
    reports.clear()
    try:
        classify, missing, unexpected = load(job, reports)
        labels = classify.model.config.id2label
        call = job["call"]
        options = {"function_to_apply": "none", "top_k": len(labels), **call}
        processor = classify.tokenizer or classify.image_processor
        return {
            "failed": None,
            "labels": [labels[index] for index in range(len(labels))],
            "inputs": [input_facts(classify.preprocess(item, **call)) for item in job["inputs"]],
            "logits": [{row["label"]: row["score"] for row in classify(item, **options)} for item in job["inputs"]],
            "processor": processor_facts(processor),
            "missing": sorted(missing),
            "unexpected": sorted(unexpected),
            "device": classify.device.type,
        }
    except Exception as error:  # any error of a library is an answer about the model
        if type(error).__name__ == "OutOfMemoryError" and "device" not in job:  # the run may still use the GPU
            return answer(job | {"device": "cpu"}, reports)
        return {"failed": f"{type(error).__name__}: {error}"}


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
    where = {job["processor"]: str(folder)} | ({"device": job["device"]} if "device" in job else {})
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


def processor_facts(processor: Any) -> dict[str, Any]:
    """Return the settings of a tokenizer or image processor that change the model's inputs."""
    if hasattr(processor, "data_config"):  # timm's
        return {name: _plain(processor.data_config.get(name)) for name in TIMM}
    if not hasattr(processor, "get_vocab"):
        found = {name: _plain(getattr(processor, name, None)) for name in IMAGES}
        return {name: value for name, value in found.items() if value is not None}
    found = {name: getattr(processor, name) for name in TEXTS}
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None:
        vocabulary: Any = sorted(processor.get_vocab().items())
    else:
        state = json.loads(backend.to_str())
        vocabulary = state["model"]
        found |= {name: state[name] for name in ("normalizer", "pre_tokenizer", "post_processor")}
    checksum = zlib.crc32(json.dumps(vocabulary, sort_keys=True).encode())
    return found | {"vocabulary": f"{len(processor)} entries, checksum {checksum:08x}"}


def input_facts(inputs: Any) -> dict[str, Any]:
    """Return the token ids of one row, or the shape, channel statistics and some pixels of its image.

    Args:
        inputs: model inputs of one row: token ids as a list or a batch of one, or pixels as a batch of one.
    """
    if "pixel_values" not in inputs:
        tokens = {name: inputs[name] for name in ("input_ids", "token_type_ids") if name in inputs}
        return {name: ids[0].tolist() if hasattr(ids, "tolist") else list(ids) for name, ids in tokens.items()}
    pixels = inputs["pixel_values"][0].float()
    flat = pixels.flatten()
    return {
        "shape": list(pixels.shape),
        "mean": pixels.mean(dim=(1, 2)).tolist(),
        "std": pixels.std(dim=(1, 2)).tolist(),
        "pixels": flat[:: max(1, len(flat) // PIXELS)][:PIXELS].tolist(),
    }


def _plain(value: Any) -> Any:
    """Return a setting as JSON represents it."""
    value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    if hasattr(value, "items"):
        return {key: inner for key, inner in value.items() if inner is not None}
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


if __name__ == "__main__":
    main()
