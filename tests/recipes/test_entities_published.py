"""A model of entities is verified, exported and pushed; saved models that were changed are found out."""

from __future__ import annotations

import os

import pandas as pd
import pytest
from hub_server import HubServer
from mutations import ask_of_each, edit, halved, lower_casing, swap_words, tokenizer, weights, without

from hf_finetune import fine_tune
from hf_finetune.publish.verify.verify import judge

LOAD = """
import sys
sys.modules["hf_finetune"] = None
from transformers import pipeline
find = pipeline("token-classification", model="alice/entities", aggregation_strategy="first")
print("ANSWER", [(e["entity_group"], e["start"], e["end"]) for e in find("the plot was very sad and good")])
"""
FAST = {
    "strategy": "full",
    "bf16": False,
    "learning_rate": 4e-3,
    "head_learning_rate": 4e-3,
    "seed": 1,
    "per_device_train_batch_size": 8,
}


@pytest.fixture(scope="module")
def run(checkpoints, entity_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    flags = FAST | {"num_train_epochs": 12}
    fine_tune(
        "token-classification",
        model_name_or_path=checkpoints("bert-without-dropout"),
        output_dir=folder,
        **entity_files["words"],
        **flags,
    )
    return folder


TAGS = {"0": "O", "1": "B-praise", "2": "I-praise", "3": "B-fault", "4": "I-fault"}
MUTATIONS = {
    "types swapped": (edit("config.json", id2label=TAGS), "label order"),
    "tags without names": (edit("config.json", id2label={str(i): f"LABEL_{i}" for i in range(5)}), "label names"),
    "head missing": (
        weights(without("classifier")),
        "random after loading: classifier.bias",
    ),
    "head moved": (
        weights(lambda t: t | {"classifier.weight": t["classifier.weight"].flip(0)}),
        "weights changed since the run: classifier.weight",
    ),
    "half precision": (weights(halved), "weights are saved as F16"),
    "a block missing": (weights(without("layer.1.")), "weights are missing"),
    "one weight": (
        weights(lambda t: t | {"classifier.bias": t["classifier.bias"] + 0.5}),
        "weights changed since the run: classifier.bias",
    ),
    "vocabulary": (tokenizer(swap_words), "vocabulary of the tokenizer"),
    "lower case": (tokenizer(lower_casing), "normaliser of the tokenizer"),
    "special tokens": (tokenizer(lambda s: s.update(post_processor=None)), "special tokens of the tokenizer"),
    "maximum length": (edit("tokenizer_config.json", model_max_length=6), "maximum length of texts"),
    "layer norm": (edit("config.json", layer_norm_eps=0.1), "config.json: layer_norm_eps"),
    "file cut short": (lambda model: (model / "model.safetensors").write_bytes(b"x" * 100), "it cannot be loaded"),
}


@pytest.fixture(scope="module")
def answers(run, python, tmp_path_factory):
    mutations = {name: mutate for name, (mutate, _) in MUTATIONS.items()}
    return ask_of_each(run, mutations, python, tmp_path_factory.mktemp("mutations"))


def test_the_run_itself_is_verified(answers):
    largest, tolerance = judge(*answers[""])
    assert largest <= tolerance


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_found_and_named(name, answers):
    from hf_finetune.errors import UserError

    with pytest.raises(UserError) as caught:
        judge(*answers[name])
    assert MUTATIONS[name][1] in caught.value.what


def test_an_exported_run_has_the_logits_of_the_run(run, tmp_path):
    pytest.importorskip("onnxruntime")
    from hf_finetune.publish.export.export import export_run

    found = export_run(run, tmp_path / "onnx")
    assert (found.rows, found.metric, found.changed) == (21, "f1", 0)
    assert found.torch["f1"] == found.onnx["f1"]
    assert found.largest_difference < 1e-4 * found.largest_logit
    code = (tmp_path / "onnx" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace('folder = "."', f"folder = {str(tmp_path / 'onnx')!r}"), {})


def test_a_pushed_model_answers_from_the_hub(run, python):
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        env = os.environ | hub.environ()
        done = python(["-m", "hf_finetune", "push", str(run), "--hub_model_id", "alice/entities"], env=env)
        assert done.returncode == 0, done.stderr[-2000:]
        card = hub.repos["model", "alice/entities"].files["README.md"].decode()
        assert "pipeline_tag: token-classification" in card
        assert 'aggregation_strategy="first"' in card
        published = b"\n".join(
            c for n, c in hub.repos["model", "alice/entities"].files.items() if n.endswith((".html", ".md"))
        )
        rows = pd.read_parquet(run / "predictions.parquet")["prediction"]
        assert len(rows) == 21
        assert b"Errors by kind" not in published  # its examples are the user's rows
        answer = python(["-c", LOAD], env=env)
        assert "ANSWER [('fault', 13, 21), ('praise', 26, 30)]" in answer.stdout, answer.stderr[-2000:]


@pytest.mark.slow  # two new processes; seeds do not depend on the task
def test_several_seeds(checkpoints, entity_files, tmp_path, python):
    given = [word for name, path in entity_files["words"].items() for word in (f"--{name}", path)]
    argv = ["-m", "hf_finetune", "train", "token-classification", "--model_name_or_path", checkpoints("bert"), *given]
    argv += ["--num_train_epochs", "1", "--seeds", "1,2", "--output_dir", str(tmp_path / "seeds")]
    done = python(argv, alone=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "f1" in done.stdout
