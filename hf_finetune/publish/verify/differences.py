"""Differences between a run and its saved model, by cause: settings, preprocessing, weights, logits."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hf_finetune.publish.verify.sample import UNREADABLE

# Other batches and padding in float32 caused differences of up to 3e-7 of the spread (MiniLM, MobileNet and EfficientNet
# on a CPU). A hundred times that leaves room for deeper models, and still finds every change of a model that was tried.
SPREAD_SHARE = 3e-5  # of the distance between the largest and the smallest logit
SIZE_SHARE = 1e-5  # of the largest logit, to which rounding is proportional
GPU_FACTOR = 50  # GPUs multiply in TF32, with a mantissa of 10 bits
PIXEL_TOLERANCE = 1e-2  # one of 256 steps is 1.7e-2 after normalisation

_MEANINGS = {
    "image size": ("size", "input_size"),
    "resizing": ("do_resize",),
    "interpolation": ("resample", "interpolation"),
    "centre crop": ("do_center_crop", "crop_size", "crop_pct", "crop_mode"),
    "normalisation": ("do_normalize", "do_rescale", "rescale_factor"),
    "normalisation (mean)": ("image_mean", "mean"),
    "normalisation (standard deviation)": ("image_std", "std"),
    "maximum length of texts": ("model_max_length",),
    "truncation of texts": ("truncation_side",),
    "padding of texts": ("padding_side", "pad_token"),
    "vocabulary of the tokenizer": ("vocabulary",),
    "normaliser of the tokenizer (lower-casing, accents)": ("normalizer",),
    "splitting into words of the tokenizer": ("pre_tokenizer",),
    "special tokens of the tokenizer": ("post_processor",),
}
_NAMES = {key: meaning for meaning, keys in _MEANINGS.items() for key in keys}


Answers = list[dict[str, float]]  # of each row: name → number


def _tolerance(measured: Answers, scale: float, sample: dict[str, Any], answer: dict[str, Any]) -> float:
    """Return the largest allowed difference of two numbers: what other batches and padding cause in float32."""
    values = [value for row in measured for value in row.values()]
    if not values:
        return 0.0
    largest = max(scale, float(np.abs(values).max()))
    factor = 1 if {sample["device"], answer.get("device", "cpu")} == {"cpu"} else GPU_FACTOR
    return float(SPREAD_SHARE * np.ptp(values) + SIZE_SHARE * largest) * factor


def find_differences(
    sample: dict[str, Any], model: dict[str, Any], answer: dict[str, Any], measured: Answers, scale: float
) -> tuple[list[str], float, float]:
    """Return what differs, the likely cause first, the largest difference of two numbers, and the tolerance.

    ``sample`` is what the run saved, ``model`` the facts of ``model/`` now, ``answer`` that of the fresh process, and
    ``measured`` the answers of the evaluation, whose size rounding depends on, but at least on ``scale``.
    """
    tolerance = _tolerance(measured, scale, sample, answer)
    weights = _weights(sample["weights"], model["weights"])
    causes = _settings(sample["settings"], model["settings"])
    if answer["failed"]:
        causes += [_short(f"it cannot be loaded ({answer['failed']})", 300), *weights]
        return causes, float("nan"), tolerance
    causes += _labels(sample["labels"], answer["labels"])
    causes += _changed(sample["processor"], answer["processor"])
    causes += _loading(answer["missing"], answer["unexpected"])
    if not causes:
        causes += _inputs(sample["rows"], answer["inputs"])
    causes += weights
    largest = _largest(answer["answers"], measured)
    if largest > tolerance:
        if sample["base"] != model["base"]:
            causes.append(f"base checkpoint of the adapter {sample['base']!r} → {model['base']!r}")
        if not causes:
            of = f" or those of its base checkpoint {sample['base']}" if sample["base"] else ""
            causes.append(f"the same inputs give other logits: its weights{of} are not those that were evaluated")
        causes.append(f"logits differ by up to {largest:.2g}; {tolerance:.2g} is allowed")
    return causes, largest, tolerance


def _largest(answers: Answers, measured: Answers) -> float:
    """Return the largest difference between numbers of the same row and name; infinite if a name is missing."""
    apart = [
        abs(found.get(name, np.nan) - row.get(name, np.nan))
        for found, row in zip(answers, measured, strict=True)
        for name in found.keys() | row.keys()
    ]
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def _settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the changed values of the configuration files."""
    causes = []
    for name in sorted(before.keys() | now.keys()):
        if name not in now or name not in before:
            causes.append(f"{name} is {'missing' if name in before else 'new'}")
        elif UNREADABLE in now[name]:
            causes.append(f"{name} is {now[name][UNREADABLE]}")
        else:
            old, new = before[name], now[name]
            # timm's preprocessing: the comparison of processors reports it more clearly.
            keys = sorted((old.keys() | new.keys()) - {"pretrained_cfg"})
            causes += [f"{name}: {_change(key, old, new)}" for key in keys if old.get(key) != new.get(key)]
    return causes


def _labels(before: list[str], now: list[str]) -> list[str]:
    if before == now:
        return []
    what = "label order" if sorted(before) == sorted(now) else "label names"
    return [f"{what} {_value(before)} → {_value(now)}"]


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the changed settings of the preprocessing."""
    keys = [key for key in [*before, *(now.keys() - before.keys())] if before.get(key) != now.get(key)]
    return [f"{_NAMES.get(key, key)}: {_change(key, before, now)}" for key in keys]


def _loading(missing: list[str], unexpected: list[str]) -> list[str]:
    """Return the weights that are missing in the files, or unexpected."""
    causes = []
    if any("lora_" in name or ".base_layer." in name for name in unexpected):
        causes.append(f"the adapter is not merged: the file has separate LoRA weights ({_some(unexpected)})")
    elif unexpected:
        causes.append(f"{len(unexpected)} weights do not belong to the model ({_some(unexpected)})")
    if missing:
        adapters = any("lora_" in name for name in missing)
        what = "weights of the adapter are missing" if adapters else "weights are missing, and random after loading"
        causes.append(f"{len(missing)} {what}: {_some(missing)}")
    return causes


def _inputs(rows: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[str]:
    """Return the first row whose model input differs from that of the run."""
    for row, found in zip(rows, now, strict=True):
        for key, old in row["facts"].items():
            new: Any = found.get(key)
            rounded = key in ("mean", "std", "pixels") and new is not None and len(new) == len(old)
            if not (np.allclose(old, new, rtol=0, atol=PIXEL_TOLERANCE) if rounded else old == new):
                return [f"row {row['row']} becomes another input: {_change(key, row['facts'], found)}"]
    return []


def _weights(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the tensors whose type, shape or content changed since the run."""
    if before == now:
        return []
    saved, found = (sorted({weight.partition(" ")[0] for weight in each.values()}) for each in (before, now))
    if saved != found and now:
        return [f"weights are saved as {_some(found)}; the run saved {_some(saved)}"]
    named = {
        "removed": before.keys() - now.keys(),
        "added": now.keys() - before.keys(),
        "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    return [f"weights {what} since the run: {_some(sorted(names))}" for what, names in named.items() if names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _change(key: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    return f"{key} {_value(before.get(key))} → {_value(now.get(key))}"


def _value(value: Any) -> str:
    return "nothing" if value is None else _short(repr(value), 100)


def _short(text: str, most: int) -> str:
    line = re.sub(r"\s+", " ", text)
    return line if len(line) <= most else line[: most - 1] + "…"
