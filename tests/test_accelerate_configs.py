"""Every launch configuration is one that the installed ``accelerate launch`` takes, and means what its name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)

FOLDER = Path(__file__).parents[1] / "accelerate_configs"
NAMES = (
    "bf16",
    "cpu",
    "deepspeed_zero2",
    "deepspeed_zero3",
    "fp16",
    "fsdp2",
    "multi_gpu",
    "multi_node",
    "single_gpu",
)
FREE_PORT = "0"  # accelerate looks for one: another run may hold its usual port


def launch_args(name: str, *flags: str):
    """What ``accelerate launch`` makes of a file and flags, after its own validation."""
    parser = launch_command_parser()
    line = ["--config_file", str(FOLDER / f"{name}.yaml"), "--main_process_port", FREE_PORT, *flags, "recipe.py"]
    return _validate_launch_command(parser.parse_args(line))[0]


def launch_environment(name: str, *flags: str) -> dict[str, str]:
    """The environment that the processes of a recipe would see."""
    args = launch_args(name, *flags)
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ""
        return prepare_deepspeed_cmd_env(args)[1]
    if args.multi_gpu or args.use_fsdp:
        return prepare_multi_gpu_env(args)
    return prepare_simple_launcher_cmd_env(args)[1]


def test_the_folder_holds_these_files():
    assert tuple(sorted(path.name for path in FOLDER.iterdir())) == tuple(f"{name}.yaml" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_comment_at_the_top_says_when_to_use_it(name):
    assert (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_loads_it_and_knows_every_key(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)  # an unknown key at the top raises
    known = vars(launch_command_parser().parse_args(["recipe.py"]))
    for section in ("fsdp_config", "deepspeed_config", "dynamo_config", "parallelism_config", "fp8_config"):
        # accelerate takes any key here, and passes over those that it does not know
        assert getattr(config, section).keys() <= known.keys(), section


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_launch_accepts_it(name):
    environment = launch_environment(name)
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert environment["ACCELERATE_MIXED_PRECISION"] == written["mixed_precision"]
    assert launch_args(name).num_processes == written["num_processes"]


@pytest.mark.parametrize(
    ("name", "kind", "processes", "precision"),
    [
        ("bf16", DistributedType.NO, 1, "bf16"),
        ("cpu", DistributedType.MULTI_GPU, 1, "no"),
        ("deepspeed_zero2", DistributedType.DEEPSPEED, 2, "bf16"),
        ("deepspeed_zero3", DistributedType.DEEPSPEED, 2, "bf16"),
        ("fp16", DistributedType.NO, 1, "fp16"),
        ("fsdp2", DistributedType.FSDP, 2, "bf16"),
        ("multi_gpu", DistributedType.MULTI_GPU, 2, "no"),
        ("multi_node", DistributedType.MULTI_GPU, 16, "no"),
        ("single_gpu", DistributedType.NO, 1, "no"),
    ],
)
def test_kind_processes_and_precision(name, kind, processes, precision):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes, config.mixed_precision) == (kind, processes, precision)
    assert config.use_cpu is (name == "cpu")
    assert config.num_machines == (2 if name == "multi_node" else 1)


def test_cpu_starts_as_many_processes_as_are_asked_for_and_hides_gpus():
    for asked in ("1", "2"):
        args = launch_args("cpu", "--num_processes", asked)
        assert args.multi_gpu  # through torchrun: the simple launcher would start one process
        environment = prepare_multi_gpu_env(args)
        assert args.nproc_per_node == asked
        assert environment["CUDA_VISIBLE_DEVICES"] == "-1,-1"


def test_fsdp2_reads_weights_in_every_process_and_saves_them_whole(monkeypatch):
    from accelerate import FullyShardedDataParallelPlugin

    for key, value in launch_environment("fsdp2").items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
    assert plugin.cpu_ram_efficient_loading is False
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_leaves_accumulation_and_clipping_to_the_recipe(stage, monkeypatch):
    from accelerate import DeepSpeedPlugin

    for key, value in launch_environment(f"deepspeed_zero{stage}").items():
        monkeypatch.setenv(key, value)
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == stage
    assert plugin.deepspeed_config["gradient_accumulation_steps"] == "auto"
    assert plugin.deepspeed_config["gradient_clipping"] == "auto"
    assert plugin.zero3_init_flag is False
    gathers = plugin.deepspeed_config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    assert gathers is (stage == 3)


def test_multi_node_has_an_address_and_a_port_for_accelerate_to_meet_at():
    # Rank 1, so that accelerate does not try the port on this machine.
    args = launch_command_parser().parse_args(
        ["--config_file", str(FOLDER / "multi_node.yaml"), "--machine_rank", "1", "recipe.py"]
    )
    args = _validate_launch_command(args)[0]
    prepare_multi_gpu_env(args)
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "8", 1)
    assert (args.rdzv_backend, args.rdzv_endpoint) == ("static", "10.0.0.1:29500")


def test_the_command_line_finds_each_by_name():
    from hf_finetune.packaged import accelerate_config_path

    assert [accelerate_config_path(name).resolve() for name in NAMES] == [FOLDER / f"{name}.yaml" for name in NAMES]
