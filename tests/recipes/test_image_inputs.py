"""Images of every kind, from a table and from an archive, through training and prediction."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hf_finetune.cli.main import main as hf_finetune

pytestmark = pytest.mark.usefixtures("training_alone")

KINDS = {
    "grey.png": ("L", {}),
    "deep.png": ("I;16", {}),
    "ink.jpg": ("CMYK", {}),
    "clear.png": ("RGBA", {}),
    "palette.gif": ("P", {}),
    "float.tiff": ("F", {}),
    "line.png": ("RGB", {"size": (1, 90)}),
    "row.png": ("RGB", {"size": (90, 1)}),
    "turned.jpg": ("RGB", {"exif": 6}),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory) -> Path:
    """Two classes, a light and a dark one, with images of every kind in each, and one that is broken."""
    root = tmp_path_factory.mktemp("odd")
    random = np.random.default_rng(0)
    for label, light in {"dark": 20, "light": 200}.items():
        (root / label).mkdir()
        for name, (mode, options) in KINDS.items():
            width, height = options.get("size", (40, 30))
            grey = (light + random.integers(0, 40, (height, width))).astype(np.uint8)
            exif = Image.Exif()
            if "exif" in options:
                exif[0x0112] = options["exif"]
            if mode == "I;16":
                image = Image.fromarray(grey.astype(np.uint16) * 257)
            elif mode == "F":
                image = Image.fromarray(grey.astype(np.float32) / 255)
            else:
                image = Image.fromarray(grey).convert(mode if mode != "CMYK" else "RGB").convert(mode)
            image.save(root / label / name, exif=exif)
    whole = (root / "dark" / "row.png").read_bytes()
    (root / "dark" / "broken.png").write_bytes(whole[:50])
    return root


@pytest.fixture(scope="module")
def table(odd_images) -> Path:
    files = sorted(path for path in odd_images.rglob("*") if path.suffix in (".png", ".jpg", ".gif", ".tiff"))
    frame = pd.DataFrame(
        {"path": [f.relative_to(odd_images).as_posix() for f in files], "label": [f.parent.name for f in files]}
    )
    frame.to_csv(odd_images / "images.csv", index=False)
    return odd_images / "images.csv"


def test_a_table_of_odd_images_trains_and_is_predicted_alike(checkpoints, table, tmp_path, capfd):
    data = ["--train_file", str(table), "--test_file", str(table), "--on_bad_image", "skip", "--image_size", "32"]
    flags = ["--output_dir", str(tmp_path / "run"), "--num_train_epochs", "2", "--learning_rate", "1e-3"]
    model = ["--model_name_or_path", checkpoints("resnet")]
    assert hf_finetune(["train", "image-classification", *model, *data, *flags]) == 0
    assert "1 unreadable images of the train split are skipped: dark/broken.png" in capfd.readouterr().out
    recorded = pd.read_parquet(tmp_path / "run" / "predictions.parquet").set_index("id")
    assert len(recorded) == 2 * len(KINDS)
    # The 16-bit images of the two classes are not the same white.
    assert recorded.loc["dark/deep.png", "probability"] != recorded.loc["light/deep.png", "probability"]

    rows = pd.read_csv(table)
    good = rows[rows["path"] != "dark/broken.png"]
    good.to_csv(table.with_name("good.csv"), index=False)
    archive = tmp_path / "odd.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in good["path"]:
            packed.write(table.parent / path, f"odd/{path}")
    for source in (table.with_name("good.csv"), archive):
        out = tmp_path / "out.csv"
        assert hf_finetune(["predict", str(tmp_path / "run"), str(source), "--output", str(out)]) == 0
        found = pd.read_csv(out)
        found = found.set_index(found["id"].str.removeprefix("odd/"))
        assert len(found) == len(recorded)
        assert list(found.loc[recorded.index, "prediction"]) == list(recorded["prediction"])
        assert np.allclose(found.loc[recorded.index, "probability"], recorded["probability"], atol=1e-5)


def test_an_archive_trains(checkpoints, image_folder, tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(Path(image_folder).rglob("*.png")):
            packed.write(path, path.relative_to(image_folder))
    run = {}
    for name, source in {"folder": image_folder, "archive": str(archive)}.items():
        flags = ["--dataset_name", source, "--output_dir", str(tmp_path / name), "--num_train_epochs", "1"]
        arguments = ["train", "image-classification", "--model_name_or_path", checkpoints("resnet"), *flags]
        assert hf_finetune(arguments) == 0
        run[name] = pd.read_parquet(tmp_path / name / "predictions.parquet")
    pd.testing.assert_frame_equal(run["folder"], run["archive"])
