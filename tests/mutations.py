"""Changes of saved models, functions of the model folder; and what ``verify`` finds in a run and changed copies of it."""

from __future__ import annotations

import json
import shutil

from safetensors.torch import load_file, save_file
from warm_process import verification_in_a_fork

from hf_finetune.publish.verify.sample import read_sample
from hf_finetune.publish.verify.verify import ask, job


def edit(name, **values):
    """Set values of a JSON file; None takes one away."""

    def mutate(model):
        content = json.loads((model / name).read_text()) | values
        (model / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return mutate


def weights(change, name="model.safetensors"):
    """Write the tensors anew that a function of them gives."""

    def mutate(model):
        tensors = {key: tensor.clone().contiguous() for key, tensor in change(load_file(model / name)).items()}
        save_file(tensors, model / name, metadata={"format": "pt"})

    return mutate


def without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def halved(tensors):
    return {name: tensor.half() for name, tensor in tensors.items()}


def tokenizer(change):
    """Change the state of a fast tokenizer in place."""

    def mutate(model):
        state = json.loads((model / "tokenizer.json").read_text())
        change(state)
        (model / "tokenizer.json").write_text(json.dumps(state))

    return mutate


def lower_casing(state):
    state.update(normalizer={"type": "Lowercase"})


def swap_words(state):
    words = state["model"]["vocab"]
    words["good"], words["the"] = words["the"], words["good"]


def ask_of_each(run, mutations, python, root):
    """Return name → arguments of ``judge``, of one process that looks at the run itself (``""``) and at each mutation."""
    folders = {"": run}
    for name, mutate in mutations.items():
        folders[name] = root / name
        shutil.copytree(run, folders[name], ignore=shutil.ignore_patterns("checkpoints"))
        mutate(folders[name] / "model")
    sample = read_sample(run)
    with verification_in_a_fork(python):
        found = ask([job(folder, sample) for folder in folders.values()])
    return {name: (folders[name], sample, answer) for name, answer in zip(folders, found, strict=True)}
