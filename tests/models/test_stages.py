"""Any model is read as an ordered list of stages."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import transformers
from torch import nn

from hf_finetune.errors import UserError
from hf_finetune.models.stages import Stage, find_stage, read_stages, trunk_depth

LABELS = 5
TEXT = {"input_ids": torch.tensor([[2, 5, 6, 7, 3, 0], [2, 8, 9, 10, 11, 3]])}
TEXT["attention_mask"] = (TEXT["input_ids"] != 0).long()
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
IMAGE = "AutoModelForImageClassification"
SEQUENCE = "AutoModelForSequenceClassification"

# name: (configuration, its values, names of the stages, parameters of the head)
BUILT = {
    "albert": (
        "AlbertConfig",
        {"vocab_size": 25, "embedding_size": 16, "num_hidden_groups": 2, **SMALL},
        ["embeddings", "block1", "block2", "head"],
        {"albert.pooler.weight", "albert.pooler.bias", "classifier.weight", "classifier.bias"},
    ),
    "electra": (
        "ElectraConfig",
        {"vocab_size": 25, "embedding_size": 16, **SMALL},
        ["embeddings", "block1", "block2", "head"],
        {f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")},
    ),
    "mpnet": (
        "MPNetConfig",
        {"vocab_size": 25, **SMALL},
        ["embeddings", "block1", "block2", "head"],
        {f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")},
    ),
    "deberta_relative": (
        "DebertaV2Config",
        {"vocab_size": 25, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"}
        | SMALL,
        ["embeddings", "block1", "block2", "head"],
        {"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"},
    ),
    "beit": (
        "BeitConfig",
        {"image_size": 32, "patch_size": 8, "use_relative_position_bias": True, **SMALL},
        ["embeddings", "block1", "block2", "head"],
        {"classifier.weight", "classifier.bias"},
    ),
    "regnet": (
        "RegNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 2, 1], "groups_width": 8},
        ["stem", "stage1", "stage2", "stage3", "stage4", "head"],
        {"classifier.1.weight", "classifier.1.bias"},
    ),
    "mobilenet_v2": (
        "MobileNetV2Config",
        {"depth_multiplier": 0.25, "image_size": 32},
        ["stem", *(f"block{i}" for i in range(1, 17)), "head"],
        {"classifier.weight", "classifier.bias"},
    ),
    "efficientnet": (
        "EfficientNetConfig",
        {
            "image_size": 32,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.2,
            "hidden_dim": 320,
            "dropout_rate": 0.0,
        },
        ["embeddings", *(f"block{i}" for i in range(1, 8)), "head"],
        {"classifier.weight", "classifier.bias"},
    ),
}

# name: (names of the stages, parameters of the head)
TINY = {
    "bert": (["embeddings", "block1", "block2", "head"], 4),
    "distilbert": (["embeddings", "block1", "block2", "head"], 4),
    "roberta": (["embeddings", "block1", "block2", "head"], 4),
    "deberta": (["embeddings", "block1", "block2", "head"], 4),
    "modernbert": (["embeddings", "block1", "block2", "head"], 4),
    "resnet": (["stem", "stage1", "stage2", "head"], 2),
    "vit": (["embeddings", "block1", "block2", "head"], 2),
    "convnext": (["embeddings", "stage1", "stage2", "head"], 2),
    "swin": (["embeddings", "block1", "block2", "head"], 2),
    "dinov2": (["embeddings", "block1", "block2", "head"], 2),
    "mobilenet": (["stem", *(f"block{i}" for i in range(1, 27)), "head"], 2),
    "timm-resnet": (["stem", "layer1", "layer2", "layer3", "layer4", "head"], 2),
    "timm-vit": (["embeddings", *(f"block{i}" for i in range(1, 7)), "head"], 2),
    "timm-efficientnet": (["stem", *(f"block{i}" for i in range(1, 6)), "head"], 2),
}

# architecture: (first stage, number of stages or None, parameters of the head, image size)
TIMM = {
    "resnet18": ("stem", 6, {"fc"}, 32),
    "vit_tiny_patch16_224": ("embeddings", 14, {"head"}, 224),
    "deit_tiny_distilled_patch16_224": ("embeddings", 14, {"head", "head_dist"}, 224),
    "convnext_atto": ("stem", 6, {"head.fc"}, 64),
    "mobilenetv3_small_050": ("stem", None, {"classifier"}, 32),
    "densenet121": ("stem", None, {"classifier"}, 32),
    "efficientnet_b0": ("stem", None, {"classifier"}, 32),
    "regnetx_002": ("stem", 6, {"head.fc"}, 32),
    "swin_tiny_patch4_window7_224": ("embeddings", None, {"head.fc"}, 224),
    "mobilenetv1_100": ("stem", None, {"classifier"}, 32),
    "mixer_s32_224": ("stem", None, {"head"}, 224),
}


@pytest.fixture(scope="module")
def model_of(checkpoints):
    """Return a function that builds each model once: tiny checkpoint, configuration above, or ``timm:ARCHITECTURE``."""
    built: dict[str, nn.Module] = {}

    def get(name: str) -> nn.Module:
        if name not in built:
            built[name] = _build(name, checkpoints).eval()
        return built[name]

    return get


def _build(name, checkpoints) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("timm:"):
        settings = transformers.TimmWrapperConfig(
            architecture=name.removeprefix("timm:"), num_labels=LABELS, model_args={}
        )
        return transformers.TimmWrapperForImageClassification(settings)
    if name in BUILT:
        kind, values, *_ = BUILT[name]
        settings = getattr(transformers, kind)(num_labels=LABELS, **values)
        automatic = SEQUENCE if "vocab_size" in values else IMAGE
        return getattr(transformers, automatic).from_config(settings)
    settings = transformers.AutoConfig.from_pretrained(checkpoints(name), num_labels=LABELS)
    if getattr(settings, "model_args", None):
        settings.model_args = {key: value for key, value in settings.model_args.items() if key != "num_classes"}
    automatic = SEQUENCE if hasattr(settings, "vocab_size") else IMAGE
    return getattr(transformers, automatic).from_config(settings)


def _inputs(name: str, model: nn.Module) -> dict[str, torch.Tensor]:
    if model.main_input_name == "input_ids":
        return TEXT
    side = TIMM[name.removeprefix("timm:")][3] if name.startswith("timm:") else 160 if name == "timm-vit" else 32
    return {"pixel_values": torch.zeros(2, 3, side, side)}


EVERY = [*TINY, *BUILT, *(f"timm:{name}" for name in TIMM)]


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_is_in_exactly_one_stage(model_of, name):
    model = model_of(name)
    stages = read_stages(model)
    found = [parameter for stage in stages for parameter in stage.parameters]
    assert sorted(found) == sorted(parameter for parameter, _ in model.named_parameters())
    assert all(stage.parameters for stage in stages)


@pytest.mark.parametrize("name", EVERY)
def test_every_module_with_weights_or_buffers_is_in_exactly_one_stage(model_of, name):
    model = model_of(name)
    found = [module for stage in read_stages(model) for module in stage.modules]
    assert len(found) == len(set(found))
    holders = {n for n, m in model.named_modules() if next(m.children(), None) is None and n}
    assert holders <= set(found)
    owner = {module: stage.name for stage in read_stages(model) for module in stage.modules}
    for stage in read_stages(model):
        for parameter in stage.parameters:
            assert owner.get(parameter.rpartition(".")[0], stage.name) == stage.name


@pytest.mark.parametrize("name", [*TINY, *BUILT])
def test_stages_are_named_after_their_kind(model_of, name):
    names = TINY[name][0] if name in TINY else BUILT[name][2]
    assert [stage.name for stage in read_stages(model_of(name))] == names


@pytest.mark.parametrize("name", list(TIMM))
def test_timm_models_begin_with_a_stem_or_embeddings(model_of, name):
    first, count, _, _ = TIMM[name]
    stages = read_stages(model_of(f"timm:{name}"))
    assert stages[0].name == first
    assert stages[-1].name == "head"
    assert len(stages) == count if count else len(stages) >= 5
    assert len({stage.name for stage in stages}) == len(stages)


@pytest.mark.parametrize("name", list(TINY))
def test_the_head_is_the_classifier_and_a_pooler_with_weights(model_of, name):
    model = model_of(name)
    head = read_stages(model)[-1].parameters
    assert len(head) == TINY[name][1]
    assert any(model.get_parameter(parameter).shape[0] == LABELS for parameter in head)
    backbone = ("embeddings", "encoder", "stages", "blocks", "layer", "transformer", "layernorm", "final_norm")
    assert not [p for p in head if any(part in p.split(".") for part in backbone)]


def test_the_head_of_bert_holds_its_pooler(model_of):
    assert set(read_stages(model_of("bert"))[-1].parameters) == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize("name", list(BUILT))
def test_the_head_of_further_architectures(model_of, name):
    assert set(read_stages(model_of(name))[-1].parameters) == BUILT[name][3]


@pytest.mark.parametrize("name", list(TIMM))
def test_the_head_of_timm_models_is_their_classifier(model_of, name):
    owners = {
        p.rpartition(".")[0].removeprefix("timm_model.") for p in read_stages(model_of(f"timm:{name}"))[-1].parameters
    }
    assert owners == TIMM[name][2]


@pytest.mark.parametrize("name", EVERY)
def test_a_forward_pass_calls_the_stages_in_order(model_of, name):
    model = model_of(name)
    stages = read_stages(model)
    index = {module: i for i, stage in enumerate(stages) for module in stage.modules}
    # Only modules with weights, because stages can share an activation module.
    weighty = {
        n for n, m in model.named_modules() if n in index and next(m.parameters(recurse=False), None) is not None
    }
    ran: list[tuple[int, str]] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=n: ran.append((index[name], name)))
        for n, module in model.named_modules()
        if n in weighty
    ]
    with torch.inference_mode():
        model(**_inputs(name, model))
    for hook in hooks:
        hook.remove()
    order = [i for i, _ in ran]
    first = {i: order.index(i) for i in set(order)}
    assert sorted(first) == list(range(len(stages)))
    assert [first[i] for i in sorted(first)] == sorted(first.values())
    assert order == sorted(order), [before for before, after in pairwise(ran) if before[0] > after[0]]


def test_a_table_that_all_blocks_read_belongs_to_the_embeddings(model_of):
    for name, table in (
        ("deberta_relative", "deberta.encoder.rel_embeddings.weight"),
        ("mpnet", "mpnet.encoder.relative_attention_bias.weight"),
    ):
        assert table in read_stages(model_of(name))[0].parameters


def test_a_final_norm_belongs_to_the_last_block(model_of):
    stages = read_stages(model_of("vit"))
    assert {"vit.layernorm.weight", "vit.layernorm.bias"} <= set(stages[-2].parameters)
    assert {"timm_model.norm.weight"} <= set(read_stages(model_of("timm:vit_tiny_patch16_224"))[-2].parameters)


def test_a_model_without_blocks_is_refused():
    class Flat(nn.Module):
        base_model_prefix = "base"

        def __init__(self):
            super().__init__()
            self.base = nn.Linear(2, 2)
            self.classifier = nn.Linear(2, 2)

    with pytest.raises(UserError, match="no sequence of blocks was found in Linear"):
        read_stages(Flat())


# Names and depths


def stages_called(*names: str) -> list[Stage]:
    return [Stage(name, (), ()) for name in names]


RESNET = stages_called("stem", "layer1", "layer2", "layer3", "layer4", "head")
BERT = stages_called("embeddings", *(f"block{i}" for i in range(1, 13)), "head")


@pytest.mark.parametrize(
    "wanted", ["layer3", "stage3", "block3", "block 3", "Layer-3", "layers.3", "blocks_3", "LAYER3"]
)
def test_a_stage_is_found_by_every_common_name(wanted):
    assert find_stage(RESNET, wanted) == 3
    assert find_stage(BERT, wanted) == 3


@pytest.mark.parametrize(("wanted", "index"), [("stem", 0), ("head", 5), ("Stem", 0), ("layer1", 1), ("block4", 4)])
def test_named_stages_are_found(wanted, index):
    assert find_stage(RESNET, wanted) == index


def test_stage_numbers_are_matched_in_full():
    assert find_stage(BERT, "layer1") == 1
    assert find_stage(BERT, "layer12") == 12


@pytest.mark.parametrize("wanted", ["layer5", "neck", "", "3x", "block", "layer0", "embeddings"])
def test_an_unknown_stage_lists_the_available_ones(wanted):
    with pytest.raises(UserError) as caught:
        find_stage(RESNET, wanted)
    assert caught.value.what == (
        f"there is no stage {wanted!r}; the stages are stem, layer1, layer2, layer3, layer4, head"
    )


@pytest.mark.parametrize(("blocks", "depth"), [(0, 1), (1, 2), (4, 5)])
def test_a_depth_counts_blocks_above_the_stem(blocks, depth):
    assert trunk_depth(RESNET, blocks) == depth


def test_a_model_without_a_stem_counts_from_its_first_block():
    stages = stages_called("block1", "block2", "head")
    assert [trunk_depth(stages, blocks) for blocks in (0, 1, 2)] == [0, 1, 2]


@pytest.mark.parametrize("blocks", [-1, 5, 100])
def test_a_depth_beyond_the_blocks_is_refused(blocks):
    with pytest.raises(UserError) as caught:
        trunk_depth(RESNET, blocks)
    assert caught.value.what == f"the backbone has 4 blocks, not {blocks}"
    assert caught.value.fix == "give a depth of 0 to 4."
