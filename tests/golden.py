"""Golden runs: compare the run folders of fourteen tiny trainings between an earlier commit and this tree.

    python tests/golden.py [--base COMMIT] [--only NAME ...] [--keep FOLDER]

Models and data are made here, offline. This file imports nothing from the package or other tests, which may move.
The exit status is 0 if every run is equal or close (numbers within 1e-9 of each other), else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# The commit whose behaviour is the reference. It gives the weights of f8ea4bd, the last one before the code was moved, bit by
# bit if texts are padded to a multiple of 8 as they were there.
BEFORE = "57faeb1"

# Intended differences, and why. A key is a pattern for ``RUN/FILE`` or ``RUN/FILE: KEY``, such as
# "*/notes.json" for a new file or "text-full/evaluation.json: data.notes.*" for a changed sentence.
EXPECTED: dict[str, str] = {}

HERE = Path(__file__).resolve().parents[1]
ASPECTS = ("weights", "metrics", "predictions", "evaluation", "files")
MOST_SHOWN = 10  # differences to show per run
CLOSE = 1e-9  # relative tolerance
RESNET, TIMM, VIT = (f"--model_name_or_path ../made/{name}" for name in ("resnet", "timm", "vit"))
# Longer than images: an encoder that predicts one class for every row would hide faults in most metrics.
BERT = "--model_name_or_path ../made/bert --num_train_epochs 8 --learning_rate 5e-3"
ROWS = "--train_file ../made/train.csv --validation_file ../made/validation.csv --test_file ../made/test.csv"
TEXTS = f"{BERT} {ROWS} --text_column text"
IMAGES = f"{ROWS} --image_root ../made/images --image_column path"
FOLDER = "--dataset_name ../made/images"
STREAM = ROWS.replace(".csv", ".parquet") + " --streaming --image_column image --label_column label"
WHISPER = "--model_name_or_path ../made/whisper --dataset_name ../made/recordings"
TWO = "--accelerate_config cpu --num_processes 2"
# Options that depend on free memory or timing are fixed. The learning rate is high, so that few steps show a change.
COMMON = (
    "--bf16 false --num_train_epochs 2 --per_device_train_batch_size 8 --per_device_eval_batch_size 8 "
    "--learning_rate 2e-3 --activation_cache off --image_cache ram"
)
# Names start with the task. The last of repeated flags counts.
RUNS = {
    "text-full": f"{TEXTS} --strategy full --layer_decay 0.9 --slice_column source",
    "text-pairs-head": f"{TEXTS} --text_column premise --text_pair_column hypothesis --label_column agree --strategy head "
    "--activation_cache on --logit_adjustment 1",
    "text-several-gradual": f"{TEXTS} --label_column tags --label_delimiter , --metric f1_macro --strategy gradual",
    "text-numbers-freeze": f"{BERT} --train_file ../made/train.csv --text_column text --label_column score "
    "--group_column author --test_split 0.2 --strategy freeze:1",
    "text-lora-two": f"{TWO} {TEXTS} --strategy lora --balanced_sampling --focal_gamma 2",
    "text-chunks": f"{TEXTS} --text_column long --long_text chunk --max_length 12 --class_weights balanced --strategy lp_ft",
    "text-stream": f"{TEXTS} --streaming --strategy full --head_hidden_size 16",
    "image-full-mixup": f"{RESNET} {FOLDER} --strategy full --augmentation randaug --mixup 0.4 --cutmix 1 "
    "--label_smoothing_factor 0.1",
    "image-several-head": f"{VIT} {IMAGES} --label_column tags --label_delimiter , --strategy head --activation_cache on "
    "--augmentation light --activation_views 2",
    "image-numbers-two": f"{TWO} {TIMM} {IMAGES} --label_columns redness brightness --strategy lp_ft",
    "image-stream-freeze": f"{TIMM} {STREAM} --strategy freeze:1",
    "image-lora-merged": f"{VIT} {FOLDER} --strategy lora --merge_adapter --rotation_degrees 10",
    "token-freeze": f"{TEXTS} --label_column entities --strategy freeze:1 --activation_cache on --num_train_epochs 24 "
    "--learning_rate 1e-2 --slice_column source",
    "audio-lp-ft": f"{WHISPER} --strategy lp_ft --activation_cache on --num_train_epochs 12 --learning_rate 3e-3 --augmentation none",
}
# Verify the model in a fresh process only in these runs: it takes longer than the training.
VERIFIED = ("text-full", "image-full-mixup")
MOODS = (("bad", "awful", "gloomy", "dull", "sad"), ("good", "great", "lovely", "bright", "happy"))
MOOD = re.compile("|".join(MOODS[0] + MOODS[1]))
FILLER = ("the", "film", "was", "a", "and", "very", "plot", "it", "scene", "end")


@dataclass(frozen=True)
class Difference:
    """A difference; ``place`` is ``RUN/FILE`` or ``RUN/FILE: KEY``."""

    place: str
    words: str
    close: bool = False

    @property
    def reason(self) -> str | None:
        """Return why the difference is intended; None if it is not."""
        return next((reason for pattern, reason in EXPECTED.items() if fnmatch(self.place, pattern)), None)


def make_checkpoints(folder: Path) -> None:
    """Save models with random weights from a fixed seed; the timm model in the layout of the Hub."""
    import timm
    import torch
    import transformers as tf
    from safetensors.torch import save_file

    tf.utils.logging.disable_progress_bar()
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    bert = tf.BertConfig(vocab_size=25, pad_token_id=0, max_position_embeddings=64, **small)
    tf.BertForMaskedLM(bert).save_pretrained(folder / "bert")
    make_tokenizer(folder / "bert")
    resnet = tf.ResNetConfig(num_labels=10, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    tf.ResNetForImageClassification(resnet).save_pretrained(folder / "resnet")
    vit = tf.ViTConfig(num_labels=10, image_size=32, patch_size=8, **small)
    tf.ViTForImageClassification(vit).save_pretrained(folder / "vit")
    for name in ("resnet", "vit"):
        tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / name)
    sizes = {"encoder_layers": 2, "encoder_attention_heads": 2, "decoder_layers": 1, "decoder_attention_heads": 2}
    sizes |= {"d_model": 32, "encoder_ffn_dim": 64, "max_source_positions": 100, "num_mel_bins": 40}
    whisper = tf.WhisperConfig(vocab_size=20, pad_token_id=0, decoder_ffn_dim=32, **sizes)
    tf.WhisperForConditionalGeneration(whisper).save_pretrained(folder / "whisper")
    tf.WhisperFeatureExtractor(feature_size=40, chunk_length=2).save_pretrained(folder / "whisper")
    model = timm.create_model("test_resnet", num_classes=10)
    (folder / "timm").mkdir()
    save_file(model.state_dict(), folder / "timm" / "model.safetensors", metadata={"format": "pt"})
    pixels = {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.9, "num_classes": 10}
    pixels |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    settings = {"architecture": "test_resnet", "num_classes": 10, "num_features": model.num_features}
    settings |= {"model_args": {"num_classes": 10}, "pretrained_cfg": pixels}
    (folder / "timm" / "config.json").write_text(json.dumps(settings))


def make_tokenizer(folder: Path) -> None:
    """Save a tokenizer with the words of the data."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    words = {word: i for i, word in enumerate([*special.values(), *MOODS[1], *MOODS[0], *FILLER])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)


def make_data(folder: Path) -> None:
    """Write three splits: CSV files of texts and image paths, folders of images and recordings by class, and Parquet files.

    There are 21 test rows, which two processes cannot share equally.
    """
    for seed, (split, count) in enumerate({"train": 48, "validation": 16, "test": 21}.items()):
        random = np.random.default_rng(seed)
        images = make_images(folder / "images", split, count, random)
        rows = [make_texts(index, random) | images[index] for index in range(count)]
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)
        make_recordings(folder / "recordings" / split, count, random)
        cells = [{"path": None, "bytes": (folder / "images" / row["path"]).read_bytes()} for row in images]
        labels = [Path(row["path"]).parent.name for row in images]
        pd.DataFrame({"image": cells, "label": labels}).to_parquet(folder / f"{split}.parquet")


def make_texts(index: int, random: np.random.Generator) -> dict[str, Any]:
    """Return a row of texts with every kind of label. The label depends on one word, not on its position or the length."""

    def sentence(mood: int) -> str:
        words = list(random.choice(FILLER, size=random.integers(3, 9)))
        words.insert(int(random.integers(0, len(words) + 1)), str(random.choice(MOODS[mood])))
        return " ".join(words)

    one, other = index % 2, index // 2 % 2
    text = sentence(one)
    return {
        "text": text,
        "premise": sentence(one),
        "hypothesis": sentence(other),
        "long": " ".join(sentence(one) for _ in range(1 + index % 3)),
        "label": ("negative", "positive")[one],
        "entities": json.dumps([{"start": m.start(), "end": m.end(), "label": "mood"} for m in MOOD.finditer(text)]),
        "agree": "same" if one == other else "different",
        "tags": ",".join([("sad", "glad")[one], *(word for word in ("film", "plot") if word in text.split())]),
        "score": round(2 * one + float(random.normal(0, 0.3)), 3),
        "source": ("web", "mail", "web")[index % 3],
        "author": f"author {index // 4}",
    }


def make_images(folder: Path, split: str, count: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Write images of reddish, greenish and bluish noise; return path and numbers of each."""
    from PIL import Image

    rows = []
    for index in range(count):
        pixels = random.integers(0, 120, size=(*random.integers(30, 60, 2), 3))
        # Some have the colour of another class, because perfect predictions would hide faults in metrics.
        pixels[..., (index + int(random.random() < 0.25)) % 3] += 120
        path = Path(split, ("class 10", "class 2", "class 1")[index % 3], f"{index}.png")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / path)
        redness, brightness = float(pixels[..., 0].mean() / 255), float(pixels.mean() / 25)
        rows.append({"path": str(path), "redness": round(redness, 4), "brightness": round(brightness, 4)})
    return rows


def make_recordings(folder: Path, count: int, random: np.random.Generator) -> None:
    """Write tones of half a second, low and high, of which some are those of the other class."""
    import soundfile

    for index in range(count):
        path = folder / ("low", "high")[index % 2] / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        pitch = (200, 2000)[(index + int(random.random() < 0.2)) % 2] * random.uniform(0.8, 1.2)
        samples = 0.5 * np.sin(2 * np.pi * pitch * np.arange(8_000) / 16_000) + random.normal(0, 0.05, 8_000)
        soundfile.write(path, samples, 16_000)


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of a commit."""
    git = ["git", "-C", str(HERE), "worktree"]
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        tree = Path(folder, "tree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def settings_of(tree: Path, caches: Path, name: str) -> dict[str, str]:
    """Return the environment of a run: no network, and its own caches, so that runs do not share results."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "ACCELERATE_"))}
    return kept | {
        "PYTHONPATH": str(tree),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(caches / "hub"),
        "HF_FINETUNE_CACHE": str(caches / "own"),
        "HF_FINETUNE_VERIFY": "1" if name in VERIFIED else "0",
        "OMP_NUM_THREADS": "1",  # for a fixed order of sums
        "TOKENIZERS_PARALLELISM": "false",
    }


def train(name: str, tree: Path, side: Path) -> str:
    """Train a run of a tree in ``SIDE/runs/NAME``; return the last output if it failed."""
    command = [sys.executable, "-m", "hf_finetune", "train", f"{name.split('-')[0]}-classification"]
    command += [*COMMON.split(), *RUNS[name].split(), "--output_dir", f"runs/{name}"]
    env = settings_of(tree, side / "caches" / name, name)
    done = subprocess.run(command, cwd=side, env=env, capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout)[-3000:] if done.returncode else ""


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key path, value) of nested values, without measured times."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if not isinstance(value, (dict, list)) or not value:
        yield key, value
        return
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        name = str(name)
        if name != "timing" and not name.endswith(("_seconds", "_bytes", "_per_second")):
            yield from leaves(each, f"{key}.{name}" if key else name)


def compare(prefix: str, one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Return the differences of two flat mappings; a place is the prefix and the key."""
    found = []
    for key in dict.fromkeys([*one, *other]):
        if key not in one or key not in other:
            found.append(Difference(prefix + key, "only after" if key in other else "only before"))
        elif not is_same(one[key], other[key]):
            words = f"{str(one[key])[:60]} before, {str(other[key])[:60]} after"
            found.append(Difference(prefix + key, words, is_close(one[key], other[key])))
    return found


def is_same(one: Any, other: Any) -> bool:
    """Return whether values and types are equal; NaN equals NaN."""
    return type(one) is type(other) and (one == other or (one != one and other != other))


def is_close(one: Any, other: Any) -> bool:
    """Return whether two numbers differ only by rounding."""
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (one, other))
    return numbers and math.isclose(one, other, rel_tol=CLOSE)


def compare_weights(name: str, folders: tuple[Path, Path]) -> list[Difference]:
    """Compare tensors and files of ``model/`` by SHA-256. Different files with equal tensors are close."""
    tensors, files = ({}, {}), ({}, {})
    for side, folder in enumerate(folders):
        for path in sorted(folder.glob("model/**/*.safetensors")):
            file = path.relative_to(folder).as_posix()
            files[side][file] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            tensors[side].update({f"{file}: {key}": digest for key, digest in hash_tensors(path).items()})
    if not files[0] or not files[1]:
        return [Difference(f"{name}/model", "no weights")]
    bytes_alone = [Difference(each.place, each.words, True) for each in compare(f"{name}/", *files)]
    return compare(f"{name}/", *tensors) or bytes_alone


def hash_tensors(path: Path) -> dict[str, str]:
    """Return tensor name → SHA-256 of dtype, shape and bytes."""
    import torch
    from safetensors.torch import load_file

    found = {}
    for name, tensor in load_file(path).items():
        content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        found[name] = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + content).hexdigest()[:16]
    return found


def compare_file(name: str, file: str, folders: tuple[Path, Path]) -> list[Difference]:
    """Compare the values of a JSON or Parquet file of a run."""
    found = []
    for folder in folders:
        if not (folder / file).is_file():
            return [Difference(f"{name}/{file}", "not there")]
        if file.endswith(".json"):
            found.append(dict(leaves(json.loads((folder / file).read_text(encoding="utf-8")))))
        else:
            rows = pd.read_parquet(folder / file)
            columns = {f"column {number}": f"{key} ({rows[key].dtype})" for number, key in enumerate(rows)}
            found.append(columns | dict(leaves({key: rows[key].tolist() for key in rows})))
    return compare(f"{name}/{file}: ", *found)


def compare_names(name: str, folders: tuple[Path, Path]) -> list[Difference]:
    """Compare the names of all files."""
    names = (
        {path.relative_to(each).as_posix(): "there" for path in sorted(each.rglob("*")) if path.is_file()}
        for each in folders
    )
    return compare(f"{name}/", *names)


def differences(name: str, folders: tuple[Path, Path]) -> dict[str, list[Difference]]:
    """Return aspect → differences between the two folders of a run."""
    return {
        "weights": compare_weights(name, folders),
        "metrics": compare_file(name, "metrics.json", folders),
        "predictions": compare_file(name, "predictions.parquet", folders),
        "evaluation": compare_file(name, "evaluation.json", folders),
        "files": compare_names(name, folders),
    }


def in_a_word(found: list[Difference]) -> str:
    """Return a cell of the table."""
    unexplained = [each for each in found if not each.reason]
    if any(not each.close for each in unexplained):
        return "DIFFERENT"
    return "close" if unexplained else "excused" if found else "equal"


def show(found: dict[str, dict[str, list[Difference]]], failures: dict[str, str]) -> bool:
    """Print the table and the differences; return whether there are only expected ones."""
    cells = {name: [in_a_word(parts[aspect]) for aspect in ASPECTS] for name, parts in found.items()}
    cells |= {name: ["failed"] * len(ASPECTS) for name in failures}
    width = max(len(name) for name in cells)
    print(f"\n{'run':{width}}", *(f"{aspect:11}" for aspect in ASPECTS), sep=" | ")
    for name, words in cells.items():
        print(f"{name:{width}}", *(f"{word:11}" for word in words), sep=" | ")
    for parts in found.values():
        in_turn = [each for some in zip_longest(*parts.values()) for each in some if each]  # shows every aspect
        every = sorted(in_turn, key=lambda each: each.close or each.reason is not None)
        for each in every[:MOST_SHOWN]:
            print(
                f"\n{each.place}\n    {each.words}"
                + (f" (meant: {each.reason})" if each.reason else " (close)" * each.close)
            )
        if len(every) > MOST_SHOWN:
            print(f"\n    and {len(every) - MOST_SHOWN} more")
    for name, said in failures.items():
        print(f"\n{name} failed {said}")
    return not {"DIFFERENT", "failed"} & {word for words in cells.values() for word in words}


def compare_trees(trees: dict[str, Path], names: list[str], folder: Path) -> bool:
    """Make the data, train with both trees and print the differences; return whether there are only expected ones."""
    (folder / "made").mkdir(parents=True)
    make_checkpoints(folder / "made")
    make_data(folder / "made")
    found, failures = {}, {}
    for side, tree in trees.items():
        (folder / side).mkdir()
        check_import(tree, folder / side)
    for name in names:
        began = time.perf_counter()
        for side, tree in trees.items():
            said = train(name, tree, folder / side)
            if said:
                failures[name] = failures.get(name, "") + f"{side} the change:\n{said}"
        if name not in failures:
            found[name] = differences(name, tuple(folder / side / "runs" / name for side in trees))
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return show(found, failures)


def check_import(tree: Path, side: Path) -> None:
    """Exit if another copy of the package would be imported."""
    command = [sys.executable, "-c", "import hf_finetune; print(hf_finetune.__file__)"]
    env = settings_of(tree, side / "caches", "")
    found = subprocess.run(command, cwd=side, env=env, capture_output=True, text=True, check=True).stdout.strip()
    if tree.resolve() not in Path(found).resolve().parents:
        raise SystemExit(f"{found} would be run, not the package in {tree}")


def main() -> int:
    """Parse the flags and compare."""
    parser = argparse.ArgumentParser(description="Fourteen tiny runs on an earlier commit and on this tree.")
    parser.add_argument("--base", default=BEFORE, metavar="COMMIT", help=f"the earlier commit (default: {BEFORE})")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME", help="some of the runs")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for data and runs, which stay")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped run also removes its worktree
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the Hub client is imported
    began = time.perf_counter()
    place = nullcontext(str(asked.keep.resolve())) if asked.keep else tempfile.TemporaryDirectory(prefix="golden-")
    with checked_out(asked.base) as before, place as folder:
        well = compare_trees({"before": before, "after": HERE}, asked.only, Path(folder))
    print(f"\n{len(asked.only)} runs on each side in {(time.perf_counter() - began) / 60:.1f} minutes")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
