"""Bad flags, settings, checkpoints and inputs of predict: status 2, two lines, and nothing of the user's touched.

Bad rows, labels and images stand in ``test_bad_data.py``.
"""

from __future__ import annotations

import json

import pytest
from bad_input import Case, assert_refused

from hf_finetune.cli.main import main as hf_finetune


@pytest.fixture
def case(tmp_path, checkpoints, image_folder):
    return Case(tmp_path, checkpoints, image_folder)


def yaml(case, content, *flags):
    return case.text("--config", case.raw("c.yaml", content), *flags)


def predict(case, model, source, *flags):
    return ["predict", str(model), str(source), *flags]


def trained(case):
    """A folder that looks like a trained text model, with a fresh head."""
    return case.settings("bert", architectures=["BertForSequenceClassification"])


# name → (arguments, words that the error must have, words that the fix must have)
FLAGS = {
    "unknown flag": (
        lambda c: c.text("--lerning_rate", "1"),
        "unknown key 'lerning_rate'",
        "did you mean learning_rate",
    ),
    "unknown flag with dashes": (
        lambda c: c.text("--num-train-epoch", "1"),
        "unknown key 'num_train_epoch'",
        "did you mean num_train_epochs?",
    ),
    "unknown flag with a value": (lambda c: c.text("--sed=1"), "unknown key 'sed'", "did you mean seed?"),
    "unknown flag like no other": (lambda c: c.text("--zzzzzz"), "unknown key 'zzzzzz'", "--help all lists every key"),
    "a value without a flag": (lambda c: c.text("reviews.csv"), "'reviews.csv' belongs to no flag", "behind the flag"),
    "a flag without its value": (lambda c: c.text("--seed"), "--seed: expected one argument", "--help"),
    "wrong type": (lambda c: c.text("--num_train_epochs", "many"), "invalid float value: 'many'", "--help"),
    "a fraction as a whole number": (lambda c: c.text("--seed", "1.5"), "invalid int value: '1.5'", "--help"),
    "a word as a switch": (lambda c: c.text("--bf16", "perhaps"), "perhaps", "--help"),
    "an unknown choice": (lambda c: c.text("--class_weights", "balance"), "invalid choice: 'balance'", "--help"),
    "an unknown kind of label": (lambda c: c.text("--problem_type", "multi"), "invalid choice: 'multi'", "--help"),
    "unknown augmentation": (lambda c: c.image("--augmentation", "heavy"), "invalid choice: 'heavy'", "--help"),
    "unknown image cache": (lambda c: c.image("--image_cache", "gpu"), "invalid choice: 'gpu'", "--help"),
    "unknown activation cache": (lambda c: c.text("--activation_cache", "yes"), "invalid choice: 'yes'", "--help"),
    "unknown way with bad images": (lambda c: c.image("--on_bad_image", "drop"), "invalid choice: 'drop'", "--help"),
    "unknown scheduler": (lambda c: c.text("--lr_scheduler_type", "linar"), "linar", "--help"),
    "unknown optimiser": (lambda c: c.text("--optim", "adamw2"), "adamw2", ""),
    "unknown tracker": (lambda c: c.text("--report_to", "wandbb"), "wandbb is not installed", "another tracker"),
    "two sources": (lambda c: c.text("--dataset_name", "imdb"), "exclude each other", "keep"),
    "three sources": (
        lambda c: c.text("--dataset_name", "imdb", "--train_dir", "x"),
        "--dataset_name and --train_file exclude each other",
        "keep",
    ),
    "no data": (lambda c: c.bare("--model_name_or_path", c.bert), "no data was given", "--train_file"),
    "test rows alone": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--test_file", c.good),
        "--test_file needs --train_file",
        "--train_file",
    ),
    "validation rows alone": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--validation_file", c.good),
        "--validation_file needs --train_file",
        "--train_file",
    ),
    "validation images alone": (
        lambda c: c.bare("--model_name_or_path", c.vit, "--validation_dir", c.images, task="image-classification"),
        "--validation_dir needs --train_dir",
        "--train_dir",
    ),
    "test images beside a data set": (
        lambda c: c.image("--test_dir", c.images),
        "--test_dir needs --train_dir",
        "--train_dir",
    ),
    "no checkpoint named": (
        lambda c: c.bare("--train_file", c.good),
        "no checkpoint was given",
        "--model_name_or_path",
    ),
    "unknown task": (
        lambda c: c.bare(task="text-clasification"),
        "no task 'text-clasification'",
        "text-classification",
    ),
    "unknown verb": (lambda c: ["trian"], "no verb 'trian'", "did you mean train"),
    "unknown verb like no other": (lambda c: ["zzz"], "no verb 'zzz'; there are train", "--help lists"),
    "unknown demo": (lambda c: ["demo", "sound"], "invalid choice: 'sound'", "hf-finetune demo --help"),
    "unknown flag of demo": (lambda c: ["demo", "--out=x"], "unrecognized arguments: --out", "hf-finetune demo --help"),
    "early stopping on nothing": (
        lambda c: c.text("--early_stopping_patience", "2", "--validation_split", "0"),
        "early stopping needs an evaluation",
        "validation",
    ),
    "early stopping without evaluation": (
        lambda c: c.text("--early_stopping_patience", "2", "--eval_strategy", "no"),
        "early stopping needs an evaluation",
        "--eval_strategy",
    ),
    "early stopping without checkpoints": (
        lambda c: c.text("--early_stopping_patience", "2", "--save_strategy", "no"),
        "early stopping needs a checkpoint for each evaluation; --save_strategy is no",
        "--save_strategy",
    ),
    "fp16 without a GPU": (lambda c: c.text("--fp16"), "fp16 needs a GPU", "bf16"),
    "unknown metric": (
        lambda c: c.text("--metric", "acuracy"),
        "'acuracy' is none of the built-in metrics",
        "built-in",
    ),
    "too long": (lambda c: c.text("--max_length", "999"), "reads at most 64 tokens", "64"),
    "push without a name of one's own": (
        lambda c: c.text("--hub_model_id", "a/b"),
        "--hub_model_id needs --push_to_hub",
        "--push_to_hub",
    ),
    "a revision that is not pushed": (
        lambda c: c.text("--hub_revision", "x"),
        "--hub_revision needs --push_to_hub",
        "--push_to_hub",
    ),
    "push without the network": (lambda c: c.text("--push_to_hub"), "there is no valid token", "hf auth login"),
    "mixing texts": (lambda c: c.text("--cutmix", "0.2"), "texts cannot be mixed", "leave the flags out"),
}

# flag → values out of bounds, and words of the message
BOUNDS = {
    "validation_split": ("-0.1", "0.95", "nan"),
    "layer_decay": ("-1", "1.5", "nan"),
    "lora_dropout": ("-0.1", "2"),
    "lora_r": ("0", "-4"),
    "head_hidden_size": ("0",),
    "max_length": ("0", "-5"),
    "image_size": ("0",),
    "rotation_degrees": ("-1", "181"),
    "mixup": ("-0.1",),
    "cutmix": ("-1",),
    "activation_cache_max_gb": ("0",),
    "activation_views": ("-1", "1001"),
    "early_stopping_patience": ("0",),
    "head_learning_rate": ("-1e-3",),
    "learning_rate": ("-1", "nan"),
    "num_train_epochs": ("-1",),
    "per_device_train_batch_size": ("0",),
    "per_device_eval_batch_size": ("0",),
    "gradient_accumulation_steps": ("0",),
    "seed": ("-1", "4294967296"),
    "label_smoothing_factor": ("-0.1", "1.1"),
    "max_train_samples": ("0", "-7"),
    "max_eval_samples": ("0",),
    "max_predict_samples": ("0",),
}
NUMBERS = {
    f"{flag} of {value}": (lambda c, f=flag, v=value: c.text(f"--{f}={v}"), f"--{flag}: ", f"give --{flag} ")
    for flag, values in BOUNDS.items()
    for value in values
}

SETTINGS = {
    "no file after --config": (lambda c: c.bare("--config"), "--config: expected one argument", "--help"),
    "missing YAML file": (lambda c: c.text("--config", "no.yaml"), "no.yaml: the file does not exist", "--config"),
    "a folder as YAML": (lambda c: c.text("--config", str(c.folder)), "cannot be read as text", "--config"),
    "binary YAML": (lambda c: yaml(c, bytes(range(128, 256))), "cannot be read as text", "--config"),
    "YAML that does not close": (lambda c: yaml(c, "a: [1, 2"), "not valid YAML", "line"),
    "YAML with tabs": (lambda c: yaml(c, "a:\n\t- b"), "not valid YAML", "line"),
    "YAML with control characters": (lambda c: yaml(c, "seed: \x01"), "not valid YAML", "line"),
    "YAML with two documents": (lambda c: yaml(c, "seed: 1\n---\nseed: 2\n"), "not valid YAML", "line"),
    "YAML of an object": (
        lambda c: yaml(c, "seed: !!python/object/apply:os.system ['touch owned']"),
        "seed takes one value",
        "value",
    ),
    "YAML that is a list": (lambda c: yaml(c, "- seed\n- 1\n"), "found a list", "key: value"),
    "YAML that is a sentence": (lambda c: yaml(c, "seed"), "found a text", "key: value"),
    "YAML with an unknown key": (
        lambda c: yaml(c, "learning_rat: 1"),
        "c.yaml: unknown key 'learning_rat'",
        "did you mean learning_rate?",
    ),
    "YAML with a key that is a list": (lambda c: yaml(c, "[a, b]: 1"), "c.yaml: ", ""),
    "YAML with a key that is a mapping": (lambda c: yaml(c, "? {a: b}\n: 1"), "c.yaml: ", ""),
    "YAML with a wrong type": (lambda c: yaml(c, "seed: many"), "c.yaml: argument --seed: invalid int value", "--help"),
    "YAML with a list for one value": (
        lambda c: yaml(c, "seed: [1, 2]"),
        "seed takes one value, not a list",
        "seed: value",
    ),
    "YAML with lists in a list": (lambda c: yaml(c, "lora_target_modules: [[a], {b: c}]"), "c.yaml: ", ""),
    "YAML with a mapping for one value": (lambda c: yaml(c, "seed: {a: 1}"), "c.yaml: argument --seed", "--help"),
    "YAML with a number out of bounds": (
        lambda c: yaml(c, "validation_split: 3"),
        "--validation_split: 3.0 is out of bounds",
        "between",
    ),
    "YAML that names another": (lambda c: yaml(c, "config: other.yaml"), "cannot name another", "--config"),
    "YAML that refers to itself": (lambda c: yaml(c, "lr_scheduler_kwargs: &a {a: *a}"), "c.yaml: ", ""),
    "YAML with an unknown anchor": (lambda c: yaml(c, "seed: *nothing"), "not valid YAML", "line"),
    "YAML nested beyond reason": (lambda c: yaml(c, "seed: " + "[" * 3000 + "]" * 3000), "c.yaml: ", ""),
    "a good YAML file and a bad one": (
        lambda c: c.text("--config", c.raw("a.yaml", "seed: 1"), "--config", c.raw("b.yaml", "sed: 1")),
        "b.yaml: unknown key 'sed'",
        "did you mean seed?",
    ),
    "arguments that the scheduler does not take": (
        lambda c: yaml(c, "lr_scheduler_kwargs: {cycles: 2}"),
        "--lr_scheduler_kwargs: the schedule linear does not accept",
        "remove the flag",
    ),
    "arguments that are no mapping": (lambda c: c.text("--lr_scheduler_kwargs", "{"), "", ""),
    "unknown accelerate configuration": (
        lambda c: c.text("--accelerate_config", "gpus"),
        "no accelerate configuration 'gpus'; the packaged ones are",
        "accelerate config",
    ),
    "a folder as accelerate configuration": (
        lambda c: c.text("--accelerate_config", str(c.folder)),
        "no accelerate configuration",
        "accelerate config",
    ),
    "accelerate configuration without a name": (
        lambda c: c.text("--accelerate_config"),
        "--accelerate_config: expected one argument",
        "--help",
    ),
    "processes without a configuration": (
        lambda c: c.text("--num_processes", "2"),
        "several processes need",
        "--accelerate_config",
    ),
}

PLANS = {
    "unknown strategy": (lambda c: c.text("--strategy", "fulll"), "no strategy 'fulll'", "lp_ft"),
    "unknown stage": (
        lambda c: c.text("--strategy", "freeze:layer9"),
        "no stage 'layer9'; the stages are embeddings, block1",
        "use one of these names",
    ),
    "freezing nothing that has a name": (
        lambda c: c.text("--strategy", "freeze:"),
        "no stage ''; the stages are",
        "use one of these names",
    ),
    "freezing everything": (lambda c: c.text("--strategy", "freeze:head"), "no stage would train", "below the head"),
    "too deep": (lambda c: c.text("--strategy", "freeze:5"), "has 2 blocks, not 5", "0 to 2"),
    "unknown LoRA target": (
        lambda c: c.text("--strategy", "lora", "--lora_target_modules", "q_proj"),
        "named q_proj; the names are dense, key, query, value",
        "use one",
    ),
    "one unknown LoRA target of two": (
        lambda c: c.text("--strategy", "lora", "--lora_target_modules", "query", "q_proj"),
        "named q_proj; the names are",
        "use one",
    ),
    "a LoRA target that is not a regular expression": (
        lambda c: c.text("--strategy", "lora", "--lora_target_modules", "*("),
        "regular expression is invalid",
        "names",
    ),
    "an adapter with an MLP head": (
        lambda c: c.text("--strategy", "lora", "--head_hidden_size", "8"),
        "cannot be saved with an MLP head",
        "--merge_adapter",
    ),
    "output folder that is a file": (
        lambda c: c.text("--output_dir", c.good),
        "this is a file, not a folder",
        "folder",
    ),
    "output folder below a file": (lambda c: c.text("--output_dir", c.good + "/run"), "cannot be written", "another"),
    "output folder of somebody else": (
        lambda c: c.text("--output_dir", c.above(2, "mine/model/x", "y")),
        "the folder contains model, but not from a run",
        "another folder",
    ),
    "output folder of another run": (
        lambda c: c.text("--output_dir", c.above(1, "old/metrics.json", "{}")),
        "the folder contains another run",
        "--overwrite_output_dir",
    ),
    "output folder with a readme": (
        lambda c: c.text("--overwrite_output_dir", "--output_dir", c.above(1, "mine/README.md", "mine")),
        "contains README.md, but not from a run",
        "another folder",
    ),
    "resuming from nothing": (
        lambda c: c.text("--resume_from_checkpoint", "no/such"),
        "not a checkpoint of a run",
        "auto",
    ),
    "resuming from a file": (lambda c: c.text("--resume_from_checkpoint", c.good), "not a checkpoint of a run", "auto"),
    "resuming from a model": (
        lambda c: c.text("--resume_from_checkpoint", c.bert),
        "not a checkpoint of a run",
        "auto",
    ),
    "resuming from a phase that is not there": (
        lambda c: c.text("--resume_from_checkpoint", c.above(1, "9-full/checkpoint-1/trainer_state.json", "{}")),
        "not a checkpoint of a run",
        "auto",
    ),
}

CHECKPOINTS = {
    "no config.json": (
        lambda c: c.text(model=c.checkpoint("bert", config__json=None)),
        "has no config.json",
        "save_pretrained",
    ),
    "no weights": (
        lambda c: c.text(model=c.checkpoint("bert", model__safetensors=None)),
        "has no weights",
        "weights",
    ),
    "no tokenizer": (
        lambda c: c.text(model=c.checkpoint("bert", tokenizer__json=None, tokenizer_config__json=None)),
        "the tokenizer has no vocabulary",
        "tokenizer.json",
    ),
    "no image processor": (
        lambda c: c.image(model=c.checkpoint("vit", preprocessor_config__json=None)),
        "no image processor can be loaded",
        "preprocessor_config.json",
    ),
    "no checkpoint": (lambda c: c.text(model=str(c.folder / "none")), "checkpoint", "name"),
    "no such checkpoint on the Hub": (
        lambda c: c.text(model="no-such/model"),
        "no checkpoint was found",
        "hf auth login",
    ),
    "a name that cannot be": (lambda c: c.text(model="a/b/c/d"), "no checkpoint was found", "name"),
    "a file as a checkpoint": (lambda c: c.text(model=c.good), "no checkpoint was found", "name"),
    "an empty folder as a checkpoint": (
        lambda c: c.text(model=c.dir("void")),
        "no config.json; it contains nothing",
        "save_pretrained",
    ),
    "config.json cut short": (
        lambda c: c.text(model=c.checkpoint("bert", config__json=lambda b: b[:50])),
        "config.json: the file is not valid JSON",
        "again",
    ),
    "config.json that is a list": (
        lambda c: c.text(model=c.checkpoint("bert", config__json=b"[1]")),
        "config.json: expected a JSON object, found a list",
        "again",
    ),
    "config.json that is empty": (
        lambda c: c.text(model=c.checkpoint("bert", config__json=b"")),
        "config.json: the file is not valid JSON",
        "again",
    ),
    "config.json that is binary": (
        lambda c: c.text(model=c.checkpoint("bert", config__json=bytes(range(256)))),
        "config.json: the file is not valid JSON",
        "again",
    ),
    "config.json of an empty object": (
        lambda c: c.text(model=c.checkpoint("bert", config__json=b"{}")),
        "no checkpoint was found",
        "",
    ),
    "config.json of nothing known": (
        lambda c: c.text(model=c.settings("bert", model_type="brt")),
        "--model_name_or_path",
        "",
    ),
    "config.json with words for numbers": (
        lambda c: c.text(model=c.settings("bert", hidden_size="wide")),
        "--model_name_or_path",
        "",
    ),
    "config.json with an impossible shape": (
        lambda c: c.text(model=c.settings("bert", num_attention_heads=5)),
        "--model_name_or_path",
        "",
    ),
    "config.json with an unknown activation": (
        lambda c: c.text(model=c.settings("bert", hidden_act="gelo")),
        "--model_name_or_path",
        "",
    ),
    "weights cut short": (
        lambda c: c.text(model=c.checkpoint("bert", model__safetensors=lambda b: b[: len(b) // 2])),
        "the checkpoint cannot be loaded",
        "complete",
    ),
    "weights of nothing": (
        lambda c: c.text(model=c.checkpoint("bert", model__safetensors=b"")),
        "the checkpoint cannot be loaded",
        "complete",
    ),
    "weights that are text": (
        lambda c: c.text(model=c.checkpoint("bert", model__safetensors=b"version https://git-lfs.github.com/spec/v1")),
        "the checkpoint cannot be loaded",
        "complete",
    ),
    "pickled weights that are text": (
        lambda c: c.text(model=c.checkpoint("bert", model__safetensors=None, pytorch_model__bin=b"text")),
        "the checkpoint cannot be loaded",
        "complete",
    ),
    "tokenizer cut short": (
        lambda c: c.text(model=c.checkpoint("bert", tokenizer__json=lambda b: b[:99])),
        "no tokenizer can be loaded",
        "tokenizer",
    ),
    "tokenizer that is a list": (
        lambda c: c.text(model=c.checkpoint("bert", tokenizer__json=b"[]")),
        "tokenizer.json: expected a JSON object, found b'[]'",
        "again",
    ),
    "tokenizer settings that are a list": (
        lambda c: c.text(model=c.checkpoint("bert", tokenizer_config__json=b"[]")),
        "tokenizer_config.json: expected a JSON object, found a list",
        "again",
    ),
    "image processor that is a list": (
        lambda c: c.image(model=c.checkpoint("vit", preprocessor_config__json=b"[]")),
        "preprocessor_config.json: expected a JSON object, found a list",
        "again",
    ),
    "image processor of a size that is none": (
        lambda c: c.image(
            model=c.checkpoint(
                "vit", preprocessor_config__json=lambda b: json.dumps(json.loads(b) | {"size": "big"}).encode()
            )
        ),
        "",
        "",
    ),
    "image processor of another size than the model": (
        lambda c: c.image(
            model=c.checkpoint(
                "vit",
                preprocessor_config__json=lambda b: json.dumps(
                    json.loads(b) | {"size": {"height": 16, "width": 16}}
                ).encode(),
            )
        ),
        "the model cannot read what its image processor makes",
        "--image_size",
    ),
    "image checkpoint for texts": (lambda c: c.text(model=c.vit), "vit", "text"),
    "text checkpoint for images": (lambda c: c.image(model=c.bert), "image", "text"),
    "timm settings without an architecture": (
        lambda c: c.image(model=c.checkpoint("timm-resnet", config__json=b'{"num_classes": 10}')),
        "--model_name_or_path",
        "",
    ),
    "timm architecture that is unknown": (
        lambda c: c.image(model=c.settings("timm-resnet", architecture="resnet5000")),
        "--model_name_or_path",
        "",
    ),
    "timm weights cut short": (
        lambda c: c.image(model=c.checkpoint("timm-resnet", model__safetensors=lambda b: b[:1000])),
        "the checkpoint cannot be loaded",
        "complete",
    ),
}

PREDICT = {
    "no model": (lambda c: predict(c, c.folder / "none", c.good), "checkpoint", "name"),
    "no input": (
        lambda c: ["predict", c.bert],
        "the following arguments are required: INPUT",
        "hf-finetune predict --help",
    ),
    "unknown flag of predict": (
        lambda c: predict(c, c.bert, c.good, "--out", "x"),
        "unrecognized arguments: --out",
        "hf-finetune predict --help",
    ),
    "batch size that is no number": (
        lambda c: predict(c, c.bert, c.good, "--batch_size", "x"),
        "invalid int value",
        "--help",
    ),
    "batch size of nothing": (
        lambda c: predict(c, c.bert, c.good, "--batch_size", "0"),
        "0 rows at once are too few",
        "1 or more",
    ),
    "unknown output": (lambda c: predict(c, c.bert, c.good, "--output", "a.xls"), "'.xls' are not written", ".csv"),
    "no classifier": (
        lambda c: predict(c, c.bert, c.good),
        "not fine-tuned for text-classification or image-classification",
        "fine-tuned",
    ),
    "missing input": (lambda c: predict(c, trained(c), "no.csv"), "no.csv: the file does not exist", "path"),
    "a folder as input": (lambda c: predict(c, trained(c), c.images), "the file does not exist", "path"),
    "input without text": (
        lambda c: predict(c, trained(c), c.file("n.csv", [(1, 2)], ("a", "b"))),
        "no column is clearly the text",
        "--text_column",
    ),
    "input column not found": (
        lambda c: predict(c, trained(c), c.good, "--text_column", "txt"),
        "no column 'txt'",
        "--text_column text",
    ),
    "a row without text": (
        lambda c: predict(c, trained(c), c.lines("n.jsonl", [{"text": "a"}, {"text": None}])),
        "n.jsonl, column 'text': 1 of 2 rows have no text (rows 2)",
        "fill",
    ),
    "texts that are numbers": (
        lambda c: predict(c, trained(c), c.lines("n.jsonl", [{"text": 1}]), "--text_column", "text"),
        "text",
        "--text_column",
    ),
    "an empty input": (lambda c: predict(c, trained(c), c.raw("e.csv", "")), "the file is empty", "row"),
    "missing image": (lambda c: predict(c, c.vit, "no.png"), "no.png: there is no such file or folder", "path"),
    "no images": (lambda c: predict(c, c.vit, c.dir("void")), "the folder holds no images", "images"),
    "a text as image": (lambda c: predict(c, c.vit, c.good), "no column is clearly the image", "--image_column"),
    "an output below a file": (
        lambda c: predict(c, c.vit, c.album(), "--output", c.good + "/out.csv"),
        "the file cannot be written",
        "--output",
    ),
    "model without its tokenizer": (
        lambda c: predict(
            c,
            c.checkpoint(
                "bert",
                tokenizer__json=None,
                tokenizer_config__json=None,
                config__json=lambda b: json.dumps(
                    json.loads(b) | {"architectures": ["BertForSequenceClassification"]}
                ).encode(),
            ),
            c.good,
        ),
        "the tokenizer has no vocabulary",
        "tokenizer",
    ),
    "an adapter without its base": (
        lambda c: predict(
            c,
            c.checkpoint(
                "bert",
                adapter_config__json=b'{"base_model_name_or_path": "no/such"}',
                config__json=lambda b: json.dumps(
                    json.loads(b) | {"architectures": ["BertForSequenceClassification"]}
                ).encode(),
            ),
            c.good,
        ),
        "",
        "",
    ),
}

CASES = FLAGS | NUMBERS | SETTINGS | PLANS | CHECKPOINTS | {f"predict: {name}": case for name, case in PREDICT.items()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, case, capfd, monkeypatch):
    arguments, error, fix = CASES[name]
    argv = arguments(case)
    monkeypatch.chdir(case.folder)
    assert_refused(case, argv, error, fix, capfd)


def test_an_occupied_folder_is_left_alone_until_overwriting_is_asked_for(case, capfd):
    assert hf_finetune(case.text("--num_train_epochs", "1")) == 0
    metrics = (case.folder / "run" / "metrics.json").read_bytes()
    assert hf_finetune(case.text("--num_train_epochs", "1", "--seed", "9")) == 2
    assert "the folder contains another run" in capfd.readouterr().err
    assert (case.folder / "run" / "metrics.json").read_bytes() == metrics
    assert hf_finetune(case.text("--num_train_epochs", "1", "--seed", "9", "--overwrite_output_dir")) == 0
    assert (case.folder / "run" / "metrics.json").read_bytes() != metrics


def test_bad_images_are_dropped_and_counted_when_that_is_asked_for(case, capfd):
    flags = ["--on_bad_image", "skip", "--num_train_epochs", "1"]
    assert hf_finetune(case.image(*flags, data=case.broken_image())) == 0
    said = capfd.readouterr().out
    assert "1 unreadable images of the train split are skipped" in said
    assert "1 unreadable images" in (case.folder / "run" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (lambda c: c.text(train="no.csv"), "error: no.csv: the file does not exist"),
        (
            lambda c: ["predict", c.bert, "--output", "x.xls", c.good],
            "error: --output: files ending in '.xls' are not written",
        ),
    ],
    ids=["train", "predict"],
)
def test_the_shell_sees_status_2_and_two_lines(case, arguments, error, python):
    done = python(["-m", "hf_finetune", *arguments(case)], cwd=case.folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith(("error:", "fix:"))] == lines[-2:]
    assert lines[-2] == error
