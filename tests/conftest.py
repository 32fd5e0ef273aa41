"""Tiny checkpoints and data, made on the fly: everything here runs offline and in seconds."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sketch import Figures
from warm_process import WARM, WarmProcess

# The caches of the libraries begin empty, and nothing is left in those of the user; workers of xdist share them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-finetune-tests-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
else:  # a worker has said all by the time it ends; taking torch and transformers apart takes seconds
    atexit.register(os._exit, 0)
# Before anything imports the Hub client: no test may reach the network by accident.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny matrices are slower on two threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The start of a process for each of many small runs; the tests of verify switch it on.
os.environ.setdefault("HF_FINETUNE_VERIFY", "0")

WARM_PROCESS = pytest.StashKey[WarmProcess | None]()
FIGURES = pytest.StashKey[Figures]()
POSITIVE = ("good", "great", "lovely", "bright", "happy")
NEGATIVE = ("bad", "awful", "gloomy", "dull", "sad")
FILLER = ("the", "film", "was", "a", "and", "very", "plot", "it", "scene", "end")


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: "recipes" not in item.path.parts)  # the longest files first: no process waits for one
    if not config.getoption("--run-slow"):
        skip = pytest.mark.skip(reason="takes minutes; run with --run-slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


def pytest_collection_finish(session):
    """Fork the warm process while this one runs no threads but pytest's own; xdist's controller collects nothing."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # sooner or later this process imports them too: once, before the fork
        for name in WARM:
            importlib.import_module(name)
    gc.freeze()  # the collector would walk through what torch and transformers are, again and again
    session.config.stash[WARM_PROCESS] = None if session.config.option.collectonly else WarmProcess()


def pytest_unconfigure(config):
    gc.unfreeze()  # libraries that count their own objects at the end would call them leaked
    if warm := config.stash.get(WARM_PROCESS, None):
        warm.close()


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test, of whatever scope
def pytest_runtest_setup(item):
    item.config.stash.setdefault(FIGURES, Figures()).switch(drawing=item.get_closest_marker("drawing") is not None)


@pytest.fixture(scope="module", autouse=True)
def _small_collections():
    """Each run of accelerate collects all garbage: what earlier files imported and keep is left out of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def python(request):
    """``python(["-m", "hf_finetune", …], env=…, cwd=…, processes=2)``: a process of its own that need not import torch."""
    return request.config.stash[WARM_PROCESS]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folder of tiny local checkpoints, each made when it is first asked for: ``checkpoints("bert")``."""
    root = tmp_path_factory.mktemp("checkpoints")

    def get(name: str) -> str:
        folder = root / name
        if not folder.exists():
            MAKERS[name](folder)
        return str(folder)

    return get


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *POSITIVE, *NEGATIVE, *FILLER]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)


def _text_model(model_class: str, config_class: str, **settings):
    def make(folder: Path) -> None:
        import torch
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, config_class)(vocab_size=25, pad_token_id=0, **settings)
        getattr(transformers, model_class)(config).save_pretrained(folder)
        _tokenizer(folder)

    return make


def _image_model(model_class: str, config_class: str, size: int = 32, **settings):
    def make(folder: Path) -> None:
        import torch
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, config_class)(num_labels=10, **settings)
        getattr(transformers, model_class)(config).save_pretrained(folder)
        transformers.ViTImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)

    return make


def _timm_model(architecture: str, size: int = 32, **model_args):
    """A folder as timm's own ``push_to_hf_hub`` leaves it on the Hub, ``model_args`` with ``num_classes`` included."""

    def make(folder: Path) -> None:
        import json

        import timm
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        model = timm.create_model(architecture, num_classes=10, **model_args)
        folder.mkdir()
        save_file(model.state_dict(), str(folder / "model.safetensors"), metadata={"format": "pt"})
        cfg = {
            "architecture": architecture,
            "num_classes": 10,
            "num_features": model.num_features,
            "model_args": {"num_classes": 10, **model_args},
            "pretrained_cfg": {
                "input_size": [3, size, size],
                "interpolation": "bilinear",
                "mean": [0.5, 0.4, 0.3],
                "std": [0.2, 0.25, 0.3],
                "crop_pct": 0.9,
                "num_classes": 10,
            },
        }
        (folder / "config.json").write_text(json.dumps(cfg))

    return make


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MAKERS = {
    "bert": _text_model("BertForMaskedLM", "BertConfig", max_position_embeddings=64, **_SMALL),
    "bert-without-dropout": _text_model(
        "BertForMaskedLM",
        "BertConfig",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=64,
        **_SMALL,
    ),
    "distilbert": _text_model(
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        dim=32,
        n_layers=2,
        n_heads=2,
        hidden_dim=64,
        max_position_embeddings=64,
    ),
    "roberta": _text_model("RobertaForMaskedLM", "RobertaConfig", max_position_embeddings=66, **_SMALL),
    "deberta": _text_model("DebertaV2ForMaskedLM", "DebertaV2Config", max_position_embeddings=64, **_SMALL),
    "modernbert": _text_model(
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        **_SMALL,
    ),
    "resnet": _image_model(
        "ResNetForImageClassification",
        "ResNetConfig",
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
    ),
    "vit": _image_model("ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, **_SMALL),
    "convnext": _image_model(
        "ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2
    ),
    "swin": _image_model(
        "SwinForImageClassification",
        "SwinConfig",
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        image_size=32,
        window_size=2,
    ),
    "dinov2": _image_model(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    ),
    "mobilenet": _image_model("MobileNetV1ForImageClassification", "MobileNetV1Config", depth_multiplier=0.25),
    "timm-resnet": _timm_model("test_resnet"),
    "timm-vit": _timm_model("test_vit", size=160),
    "timm-efficientnet": _timm_model("test_efficientnet"),
}


@pytest.fixture(scope="session")
def audio_checkpoints(tmp_path_factory):
    """Tiny models of recordings with random weights: ``whisper`` (a window of a second), ``wav2vec2``, ``hubert`` and ``wavlm``
    (samples, no mask; with ``-mask``), ``wav2vec2-bert`` (spectrograms of any length), ``ast`` (a window of 0.64 seconds);
    ``whisper-long`` and ``ast-long`` have windows of 4 seconds."""  # fmt: skip
    root = tmp_path_factory.mktemp("audio")

    def get(name: str) -> str:
        import torch
        import transformers as t

        folder = root / name
        if folder.exists():
            return str(folder)
        torch.manual_seed(0)
        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        seconds = 4 if name.endswith("long") else 1
        if name.startswith("whisper"):
            sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
            rest = {
                "decoder_layers": 1,
                "decoder_attention_heads": 2,
                "decoder_ffn_dim": 32,
                "max_source_positions": 50 * seconds,
            }
            config = t.WhisperConfig(vocab_size=20, pad_token_id=0, num_mel_bins=40, **sizes, **rest)
            model = t.WhisperForConditionalGeneration(config)
            extractor = t.WhisperFeatureExtractor(feature_size=40, chunk_length=seconds)
        elif name.startswith("ast"):
            frames = 400 if name.endswith("long") else 64
            sizes = {"max_length": frames, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
            model = t.ASTForAudioClassification(t.ASTConfig(**small, **sizes))
            extractor = t.ASTFeatureExtractor(max_length=frames, num_mel_bins=16)
            model.audio_spectrogram_transformer.embeddings.position_embeddings.data.normal_()  # else all zeros
        elif name == "wav2vec2-bert":
            rest = {"mask_time_prob": 0.0, "apply_spec_augment": False, "classifier_proj_size": 8, "vocab_size": 8}
            sizes = {"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 3}
            model = t.Wav2Vec2BertModel(t.Wav2Vec2BertConfig(**small, **sizes, **rest))
            extractor = t.SeamlessM4TFeatureExtractor()
        else:
            mask = name.endswith("mask")
            sizes = {"conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (8, 8), "num_feat_extract_layers": 2}
            kind = {"feat_extract_norm": "layer" if mask else "group", "do_stable_layer_norm": mask}
            rest = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
            family = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[name.removesuffix("-mask")]
            config = getattr(t, f"{family}Config")(
                vocab_size=8, mask_time_prob=0.0, apply_spec_augment=False, **small, **sizes, **kind, **rest
            )
            model = getattr(t, f"{family}Model")(config)
            extractor = t.Wav2Vec2FeatureExtractor(return_attention_mask=mask)
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        return str(folder)

    return get


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> str:
    """WAV files by split and class: a low tone, a high tone and noise of 0.2 to 0.5 seconds; 48, 12 and 13 of them."""
    import soundfile

    root = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for split, count in {"train": 48, "validation": 12, "test": 13}.items():
        for index in range(count):
            kind = ("low", "high", "noise")[index % 3]
            time = np.arange(int(random.uniform(0.2, 0.5) * 16_000)) / 16_000
            pitch = {"low": 200, "high": 2000, "noise": 0}[kind] * random.uniform(0.9, 1.1)
            samples = 0.5 * np.sin(2 * np.pi * pitch * time) if pitch else random.normal(0, 0.2, len(time))
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / split / kind / f"{index}.wav", samples + random.normal(0, 0.01, len(time)), 16_000)
    return str(root)


@pytest.fixture(scope="session")
def classifiers(checkpoints, tmp_path_factory):
    """Tiny classifiers with a random head that is sure of itself, as runs leave them: ``classifiers("bert", ["a", "b"])``.

    Further arguments are settings of ``config.json``: ``problem_type``, ``thresholds``, ``input_columns``.
    """
    root = tmp_path_factory.mktemp("classifiers")
    count = iter(range(1000))

    def get(name: str, labels: list[str], **settings) -> str:
        import json

        import torch
        import transformers

        folder = root / str(next(count))
        kind = transformers.AutoModelForSequenceClassification
        auto, processor = kind, transformers.AutoTokenizer
        if "bert" not in name:
            auto, processor = transformers.AutoModelForImageClassification, transformers.AutoImageProcessor
        torch.manual_seed(0)
        names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
        model = auto.from_pretrained(checkpoints(name), ignore_mismatched_sizes=True, **names)
        with torch.no_grad():  # every class is answered for some rows
            words = torch.randint(5, 25, (64, 6))
            words[:, 0], words[:, -1] = 2, 3
            rows = {"input_ids": words} if auto is kind else {"pixel_values": torch.randn(64, 3, 32, 32)}
            logits = model.eval()(**rows).logits
            model.classifier.weight.mul_(2 / logits.std(0).mean())
            model.classifier.bias.sub_(logits.mean(0) * 2 / logits.std(0).mean())
        model.save_pretrained(folder)
        saved = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(saved | settings))
        processor.from_pretrained(checkpoints(name)).save_pretrained(folder)
        return str(folder)

    return get


def make_texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences with one telling word among fillers, and their label: learnable, but not by length or position."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        label, telling = (("positive", POSITIVE), ("negative", NEGATIVE))[index % 2]
        words = list(random.choice(FILLER, size=random.integers(3, 9)))
        words.insert(int(random.integers(0, len(words) + 1)), str(random.choice(telling)))
        rows.append((" ".join(words), label))
    return rows


@pytest.fixture(scope="session")
def text_files(tmp_path_factory) -> dict[str, str]:
    """CSV files of 64 training, 16 validation and 21 test rows (a number that two processes do not divide)."""
    import csv

    folder = tmp_path_factory.mktemp("texts")
    paths = {}
    for seed, (split, count) in enumerate({"train": 64, "validation": 16, "test": 21}.items()):
        paths[split] = str(folder / f"{split}.csv")
        with Path(paths[split]).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(make_texts(count, seed))
    return paths


def make_tagged(random, length: int) -> tuple[list[str], list[str]]:
    """Words and tags: ``very`` and a bad word are a fault, a bad word alone is none; a good word is praise."""
    words, tags = [], []
    while len(words) < length:
        kind = random.random()
        if kind < 0.2:
            words, tags = [*words, str(random.choice(POSITIVE))], [*tags, "B-praise"]
        elif kind < 0.35:
            words, tags = [*words, "very", str(random.choice(NEGATIVE))], [*tags, "B-fault", "I-fault"]
        elif kind < 0.45 and words[-1:] != ["very"]:
            words, tags = [*words, str(random.choice(NEGATIVE))], [*tags, "O"]
        else:
            words, tags = [*words, str(random.choice([w for w in FILLER if w != "very"]))], [*tags, "O"]
    return words, tags


def characters(words, tags):
    """The same entities as spans of the text."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    found = []
    for place, tag in enumerate(tags):
        end = int(starts[place]) + len(words[place])
        if tag[0] == "B":
            found.append({"start": int(starts[place]), "end": end, "label": tag[2:]})
        elif tag[0] == "I":
            found[-1]["end"] = end
    return found


@pytest.fixture(scope="session")
def entity_files(tmp_path_factory) -> dict[str, dict[str, str]]:
    """The same rows as words with tags, and as texts with spans; some are longer than 12 tokens."""
    import json

    folder = tmp_path_factory.mktemp("entities")
    found: dict[str, dict[str, str]] = {"words": {}, "spans": {}}
    for seed, (split, count) in enumerate({"train": 96, "validation": 24, "test": 21}.items()):
        random = np.random.default_rng(seed)
        rows = [make_tagged(random, int(random.integers(2, 12))) for _ in range(count)]
        lines = {
            "words": [
                {"id": f"{split} {n}", "tokens": words, "ner_tags": tags} for n, (words, tags) in enumerate(rows)
            ],
            "spans": [
                {"id": f"{split} {n}", "text": " ".join(w), "entities": characters(w, t)}
                for n, (w, t) in enumerate(rows)
            ],
        }
        for name, each in lines.items():
            path = folder / f"{name} {split}.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in each))
            found[name][f"{split}_file"] = str(path)
    return found


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> str:
    """Images by class and split: reddish, greenish and bluish noise of different sizes; 48, 12 and 13 of them."""
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for split, count in {"train": 48, "validation": 12, "test": 13}.items():
        for index in range(count):
            channel = index % 3
            pixels = random.integers(0, 120, size=(int(random.integers(30, 60)), int(random.integers(30, 60)), 3))
            pixels[..., channel] += 120
            folder = root / split / ("class 10", "class 2", "class 1")[channel]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return str(root)
