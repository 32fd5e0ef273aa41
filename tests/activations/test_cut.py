"""Training from cached activations gives the same logits and gradients, and leaves the model unchanged."""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import MAKERS
from torch import nn

from hf_finetune.activations.cut import KEY, CannotCut, Cut, find_cut, frozen_depth, unflatten
from hf_finetune.config.options import ModelConfig, StrategyConfig
from hf_finetune.models import Checkpoint, Stage, add_lora, load_checkpoint, read_stages
from hf_finetune.strategies import apply_phase, make_phases
from hf_finetune.strategies.phases import Rates
from hf_finetune.tasks import image_classification, text_classification

TEXTS = ("bert", "bert-without-dropout", "distilbert", "roberta", "deberta", "modernbert")
CLASS_TOKEN_HEADS = {*TEXTS, "vit"}  # dinov2 also reads the mean of the patches; timm pools in the last frozen stage
RATES = Rates(
    learning_rate=0.1, head_learning_rate=0.1, probe_learning_rate=0.1, layer_decay=1.0, epochs=1, probe_epochs=1
)


@pytest.fixture(scope="module")
def fresh(checkpoints):
    """Return a function that loads a new copy of a tiny checkpoint with a head for three labels."""
    loaded: dict[str, Checkpoint] = {}

    def get(name: str) -> Checkpoint:
        if name not in loaded:
            task = text_classification.TASK if name in TEXTS else image_classification.TASK
            settings = ModelConfig(model_name_or_path=checkpoints(name))
            torch.manual_seed(0)
            loaded[name] = load_checkpoint(settings, task.auto_class, ["a", "b", "c"], None)
            for module in loaded[name].model.modules():
                if isinstance(
                    module, nn.Conv2d
                ):  # with its small initial weights, the signal of a random MobileNet vanishes
                    nn.init.kaiming_normal_(module.weight)
                if isinstance(module, nn.BatchNorm2d):  # timm initialises the last norm of a residual branch with zeros
                    nn.init.ones_(module.weight)
        return copy.deepcopy(loaded[name])

    return get


def frozen(checkpoint: Checkpoint, depth: int) -> Checkpoint:
    """Freeze the first ``depth`` stages as a phase does."""
    apply_phase(
        checkpoint.model,
        checkpoint.stages,
        make_phases(f"freeze:{checkpoint.stages[depth - 1].name}", checkpoint.stages, RATES)[0],
    )
    return checkpoint


def texts(lengths: list[int], seed: int = 0, side: str = "right", width: int | None = None) -> dict[str, torch.Tensor]:
    """Return sentences of these numbers of tokens, padded to the longest or to ``width``."""
    random = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    ids, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        words = torch.randint(5, 25, (length - 2,), generator=random)
        place = slice(width - length, width) if side == "left" else slice(0, length)
        ids[row, place] = torch.tensor([2, *words, 3])
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def images(rows: int, side: int = 32, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(seed))}


def batches_of(name: str) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Return the probe batches, and a batch with another number of rows and other lengths."""
    if name in TEXTS:
        return [texts([9, 12, 7, 10, 12]), texts([4, 6, 5], seed=1)], texts([3, 17, 8, 11, 5, 6, 4], seed=2)
    side = 160 if name == "timm-vit" else 32
    return [images(5, side), images(3, side, 1)], images(4, side, 2)


def kept_of(cut: Cut, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the batch with the cached activations."""
    with torch.no_grad():
        kept = cut.compute(batch)
    kept = unflatten(kept, batch["attention_mask"]) if cut.tokens else kept
    return {key: value for key, value in batch.items() if key != "pixel_values"} | {KEY: kept}


def logits_and_slopes(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = model(**batch).logits
    torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 3).backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_close(found: torch.Tensor, expected: torch.Tensor, bound: float = 1e-5) -> None:
    scale = max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) <= bound * scale


def state_of(model: nn.Module) -> dict[str, object]:
    """Return everything that a cut could change: tensors, modes, methods and hooks of all modules."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        name: (
            module.training,
            {key: value for key, value in module.__dict__.items() if key in ("forward", "train")},
            [list(getattr(module, each)) for each in hooks],
            [(key, id(value), value.requires_grad) for key, value in module.named_parameters(recurse=False)],
        )
        for name, module in model.named_modules()
    }


# Many layers, or large images: the other kinds of models cut alike.
LARGE = ("mobilenet", "timm-vit")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in MAKERS])
def test_logits_and_gradients_equal_those_of_the_full_model_at_every_depth(name, fresh):
    stages = len(fresh(name).stages)
    probes, batch = batches_of(name)
    for depth in range(1, stages):
        checkpoint = frozen(fresh(name), depth)
        model = checkpoint.model.eval()  # with dropout, two passes would differ
        assert frozen_depth(model, checkpoint.stages) == depth
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        before = state_of(model)
        cut = find_cut(model, checkpoint.stages, depth, probes)
        expected, slopes = logits_and_slopes(model, batch)
        kept = kept_of(cut, batch)
        with cut.replaying():
            found, found_slopes = logits_and_slopes(model, kept)
            whole, _ = logits_and_slopes(model, batch)
        assert_close(found, expected)
        assert torch.equal(whole, expected), "batches without activations go through the whole model"
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert found_slopes.keys() == slopes.keys() <= trained
        assert slopes, "something trains"
        for key, slope in slopes.items():
            assert_close(found_slopes[key], slope)
        assert state_of(model) == before
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        assert model.state_dict().keys() == weights.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_only_the_class_token_is_stored_if_nothing_else_is_read(name, fresh):
    probes, _ = batches_of(name)
    depth = len(fresh(name).stages) - 1
    top = frozen(fresh(name), depth)
    cut = find_cut(top.model, top.stages, depth, probes)
    assert cut.first_only == (name in CLASS_TOKEN_HEADS)
    assert cut.cached_shape == (cut.shape[1:] if cut.first_only else cut.shape)
    if depth > 1:
        below = frozen(fresh(name), depth - 1)
        cut = find_cut(below.model, below.stages, depth - 1, probes)
        assert not cut.first_only
        assert cut.tokens == (name in TEXTS)


def test_the_model_is_restored_when_a_pass_fails(fresh):
    checkpoint = frozen(fresh("bert"), 2)
    probes, batch = batches_of("bert")
    model = checkpoint.model
    before = state_of(model)
    cut = find_cut(model, checkpoint.stages, 2, probes)
    assert state_of(model) == before
    kept = kept_of(cut, batch)
    with pytest.raises(RuntimeError), cut.replaying():
        model(**kept | {KEY: kept[KEY][:, :5]})
    with pytest.raises(KeyError), cut.replaying():
        raise KeyError
    assert state_of(model) == before
    with pytest.raises(RuntimeError, match="indices"):
        cut.compute(batch | {"input_ids": batch["input_ids"].float()})
    assert state_of(model) == before


def test_a_wrapped_forward_method_is_restored(fresh):
    checkpoint = frozen(fresh("bert"), 1)
    probes, batch = batches_of("bert")
    module = checkpoint.model.bert.embeddings
    own = module.forward = partial(type(module).forward, module)  # as accelerate wraps it
    cut = find_cut(checkpoint.model, checkpoint.stages, 1, probes)
    kept = kept_of(cut, batch)
    with cut.replaying():
        assert checkpoint.model(**kept).logits.shape == (7, 3)
    assert module.__dict__["forward"] is own


@pytest.mark.parametrize("training", [True, False])
def test_training_modes_do_not_change(training, fresh):
    checkpoint = fresh("timm-efficientnet")
    for parameter in (p for n, p in checkpoint.model.named_parameters() if n in checkpoint.stages[0].parameters):
        parameter.requires_grad_(False)
    checkpoint.model.train(training)
    checkpoint.model.timm_model.blocks[1].train(not training)
    before = state_of(checkpoint.model)
    find_cut(checkpoint.model, checkpoint.stages, 1, batches_of("timm-efficientnet")[0])
    assert state_of(checkpoint.model) == before


@pytest.mark.parametrize("name", TEXTS)
def test_activations_that_depend_on_the_padding_are_not_stored(name, fresh):
    """Encoders read the first position, which is padding if texts are padded on the left."""
    probes = [texts([9, 12, 7, 10, 12], side="left"), texts([4, 6, 5], 1, side="left")]
    for depth in range(1, len(fresh(name).stages)):
        checkpoint = frozen(fresh(name), depth)
        with pytest.raises(CannotCut, match=r"depends on the padding|changes the logits"):
            find_cut(checkpoint.model, checkpoint.stages, depth, probes)


def test_padding_on_the_left_of_a_model_that_reads_the_last_token(tmp_path):
    """With rotary (relative) positions, the rows can be used in a batch of another length."""
    import transformers

    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.Qwen2Config(
        vocab_size=25, pad_token_id=0, num_key_value_heads=2, max_position_embeddings=64, num_labels=3, **settings
    )
    torch.manual_seed(0)
    model = transformers.Qwen2ForSequenceClassification(config)
    checkpoint = Checkpoint(model, None, read_stages(model), "qwen2")
    probes = [texts([9, 12, 7, 10, 12], side="left"), texts([4, 6, 5], 1, side="left")]
    short, long = (texts([5, 3, 6], 2, side="left", width=width) for width in (6, 20))
    for depth in range(1, len(checkpoint.stages)):
        frozen(checkpoint, depth)
        model.eval()
        cut = find_cut(model, checkpoint.stages, depth, probes)
        with torch.no_grad():
            kept = unflatten(cut.compute(short), long["attention_mask"])
            expected = model(**long).logits
            with cut.replaying():
                assert_close(model(**long, **{KEY: kept}).logits, expected)


def test_adapters_in_upper_blocks_leave_the_blocks_below_frozen(fresh):
    checkpoint = fresh("bert")
    add_lora(checkpoint, StrategyConfig(lora_target_modules=[r"bert\.encoder\.layer\.1\..*(query|value)"]))
    apply_phase(checkpoint.model, checkpoint.stages, make_phases("lora", checkpoint.stages, RATES)[0])
    model = checkpoint.model.eval()
    for name, parameter in model.named_parameters():  # a new adapter adds zero: make it change the output
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    depth = frozen_depth(model, checkpoint.stages)
    assert depth == 2  # embeddings and block1
    probes, batch = batches_of("bert")
    before = state_of(model)
    cut = find_cut(model, checkpoint.stages, depth, probes)
    assert cut.boundary == "bert.encoder.layer.0"
    expected, slopes = logits_and_slopes(model, batch)
    kept = kept_of(cut, batch)
    with cut.replaying():
        found, found_slopes = logits_and_slopes(model, kept)
    assert_close(found, expected)
    assert any("lora_A" in name and slope.any() for name, slope in slopes.items())
    assert found_slopes.keys() == slopes.keys()
    for name, slope in slopes.items():
        assert_close(found_slopes[name], slope)
    assert state_of(model) == before


class Skips(nn.Module):
    """Two stages and a head whose input is chosen by ``reads``."""

    def __init__(self, reads: str) -> None:
        super().__init__()
        self.lower, self.upper, self.head = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.1)
        self.reads = reads
        for parameter in (*self.lower.parameters(), *self.upper.parameters()):
            parameter.requires_grad_(False)

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        lower = torch.relu(self.lower(pixel_values.flatten(1)))
        if self.reads == "dropout":
            lower = self.drop(lower)
        upper = self.upper(lower)
        read = {
            "both": lower + upper,
            "pixels": upper + pixel_values.flatten(1)[:, :8],
            "nothing": pixel_values.flatten(1)[:, :8],
        }
        return SimpleNamespace(logits=self.head(read.get(self.reads, upper)))


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ("both", "continuing from upper changes the logits"),
        ("pixels", "continuing from upper changes the logits"),
        ("nothing", "changes the logits|do not depend"),
        ("dropout", "there is dropout among the frozen stages"),
        ("last", None),
    ],
)
def test_a_model_that_is_not_a_chain_cannot_be_cut(reads, message):
    torch.manual_seed(0)
    model = Skips(reads)
    stages = [Stage(n, (n,), (f"{n}.weight", f"{n}.bias")) for n in ("lower", "upper", "head")]
    probes = [{"pixel_values": torch.randn(rows, 3, 2, 2)} for rows in (5, 3)]
    before = state_of(model)
    if message is None:
        assert find_cut(model, stages, 2, probes).boundary == "upper"
    else:
        with pytest.raises(CannotCut, match=message):
            find_cut(model, stages, 2, probes)
    assert state_of(model) == before
