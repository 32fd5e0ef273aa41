"""YAML and the command line become one checked Config."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from hf_finetune.config import Config, parse
from hf_finetune.config.options import StrategyConfig
from hf_finetune.errors import UserError

MODEL = ("--model_name_or_path", "m")
SHIPPED = sorted((Path(__file__).resolve().parents[2] / "recipes" / "configs").glob("*.y*ml"))


@pytest.fixture
def read(tmp_path):
    """Parse a YAML text and flags; a checkpoint is named unless the YAML does."""

    def run(text: str, *flags: str) -> Config:
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        named = () if "model_name_or_path" in text else MODEL
        return parse(["--config", str(file), *named, *flags])

    return run


def mapping(value):
    return json.loads(value) if isinstance(value, str) else value


def refused(*flags: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse([*MODEL, *flags])
    return caught.value


# Precedence


def test_what_nobody_set_has_its_default_and_is_not_explicit():
    config = parse([*MODEL])
    assert config.strategy.lora_r == 16
    assert config.data.validation_split is None
    assert config.training == {}
    assert config.explicit == {"model_name_or_path"}


def test_yaml_wins_over_defaults(read):
    config = read("strategy: head\nlora_r: 4\nnum_train_epochs: 7\n")
    assert (config.strategy.strategy, config.strategy.lora_r, config.training["num_train_epochs"]) == ("head", 4, 7.0)
    assert {"strategy", "lora_r", "num_train_epochs"} <= config.explicit


def test_command_line_wins_over_yaml_key_by_key(read):
    config = read("strategy: head\nlearning_rate: 0.5\nseed: 3\n", "--learning_rate", "0.25", "--strategy=lora")
    assert config.training["learning_rate"] == 0.25
    assert config.strategy.strategy == "lora"
    assert config.training["seed"] == 3


def test_command_line_wins_wherever_config_stands_in_it(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\n")
    assert parse([*MODEL, "--seed", "2", "--config", str(file)]).training["seed"] == 2


def test_a_command_line_value_equal_to_the_default_still_wins_over_yaml(read):
    config = read("strategy: head\nlora_r: 4\n", "--strategy", "full", "--lora_r", "16")
    assert (config.strategy.strategy, config.strategy.lora_r) == ("full", 16)


def test_of_two_yaml_files_the_later_wins(tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("seed: 1\nlora_r: 2\n")
    second.write_text("seed: 5\n")
    config = parse([*MODEL, "--config", str(first), "--config", str(second)])
    assert (config.training["seed"], config.strategy.lora_r) == (5, 2)


# Types


def test_scientific_notation_without_a_dot_is_a_number(read):
    config = read("learning_rate: 1e-3\nhead_learning_rate: 5e-2\n")
    assert config.training["learning_rate"] == 0.001
    assert config.strategy.head_learning_rate == 0.05


def test_yaml_booleans_reach_their_fields(read):
    config = read("merge_adapter: true\noverwrite_output_dir: no\nbf16: true\ngradient_checkpointing: false\n")
    assert config.strategy.merge_adapter is True
    assert config.run.overwrite_output_dir is False
    assert config.training["bf16"] is True
    assert config.training["gradient_checkpointing"] is False


def test_a_bare_boolean_flag_is_true():
    config = parse([*MODEL, "--merge_adapter", "--overwrite_output_dir"])
    assert config.strategy.merge_adapter is True
    assert config.run.overwrite_output_dir is True


def test_a_boolean_flag_may_say_false(read):
    assert read("merge_adapter: true\n", "--merge_adapter", "false").strategy.merge_adapter is False


def test_lists_in_yaml_and_on_the_command_line(read):
    text = "lora_target_modules: [query, value]\n"
    assert read(text).strategy.lora_target_modules == ["query", "value"]
    assert read(text, "--lora_target_modules", "key", "dense").strategy.lora_target_modules == ["key", "dense"]


def test_one_name_stands_for_a_list_of_one(read):
    assert read("lora_target_modules: all-linear\n").strategy.lora_target_modules == ["all-linear"]


def test_a_mapping_in_yaml_is_a_mapping(read):
    config = read("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs:\n  min_lr: 1.0e-6\n  num_cycles: 1\n")
    assert mapping(config.training["lr_scheduler_kwargs"]) == {"min_lr": 1e-6, "num_cycles": 1}


def test_scientific_notation_within_a_mapping_is_a_number(read):
    config = read("lr_scheduler_kwargs: {min_lr: 1e-6}\n")
    assert mapping(config.training["lr_scheduler_kwargs"]) == {"min_lr": 1e-6}


def test_fields_that_take_one_name_or_several_take_a_list(read):
    assert read("report_to: [wandb, tensorboard]\n").training["report_to"] == ["wandb", "tensorboard"]


def test_a_null_in_yaml_leaves_the_default(read):
    config = read("max_length: null\nstrategy:\n")
    assert config.inputs.max_length is None
    assert config.strategy == StrategyConfig()
    assert config.explicit == {"model_name_or_path"}


def test_numbers_that_are_text_fields_stay_text(read):
    assert read("label_column: 1\n").data.label_column == "1"


@pytest.mark.parametrize("text", ["0123456", "no", "1_000", "1e5", "01", "2024-01-01", "1.10"])
def test_text_fields_keep_the_spelling_of_words_that_yaml_would_convert(read, text):
    assert read(f"dataset_revision: {text}\n").data.dataset_revision == text


def test_values_that_begin_with_a_dash_or_hold_spaces(read):
    config = read('text_column: "-text"\nlabel_column: "the label"\n')
    assert (config.data.text_column, config.data.label_column) == ("-text", "the label")


def test_unicode_in_yaml(read):
    assert read("label_column: été\n").data.label_column == "été"


def test_an_empty_yaml_file_changes_nothing(read):
    assert read("# nothing but a comment\n").explicit == {"model_name_or_path"}


# Unknown keys


@pytest.mark.parametrize(
    ("flag", "near"),
    [
        ("--learnin_rate", "learning_rate"),
        ("--strateg", "strategy"),
        ("--train-fil", "train_file"),
        ("--num_epochs", "num_train_epochs"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest(flag, near):
    error = refused(flag, "1")
    assert flag.lstrip("-").replace("-", "_") in error.what
    assert f"did you mean {near}?" in error.fix
    assert error.where == "the command line"


def test_an_unknown_flag_with_an_equals_sign_is_named_without_its_value():
    error = refused("--learnin_rate=1e-3")
    assert error.what == "unknown key 'learnin_rate'"


def test_dashes_may_stand_for_underscores(read):
    assert parse([*MODEL, "--train-file", "a.csv"]).data.train_file == "a.csv"
    assert read("lora-target-modules: [query]\n").strategy.lora_target_modules == ["query"]


def test_nothing_near_gives_no_guess():
    assert "did you mean" not in refused("--zzzzqqqq", "1").fix


def test_a_flag_is_not_completed_from_its_beginning():
    assert "unknown key 'model_name'" in refused("--model_name", "x").what


def test_an_unknown_key_in_yaml_names_the_file(read):
    with pytest.raises(UserError) as caught:
        read("learnin_rate: 1\n")
    assert "did you mean learning_rate?" in caught.value.fix
    assert caught.value.where.endswith("config.yaml")


@pytest.mark.parametrize("text", ["help: true\n", "config: other.yaml\n"])
def test_help_and_further_files_are_no_keys_of_a_yaml_file(read, text):
    with pytest.raises(UserError):
        read(text)


# Wrong values


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--lora_r", "many"), "many"),
        (("--learning_rate", "fast"), "fast"),
        (("--augmentation", "heavy"), "heavy"),
        (("--merge_adapter", "perhaps"), "perhaps"),
        (("--lora_r",), "lora_r"),
        (("--max_length", "1.5"), "1.5"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(flags, part):
    assert part in str(refused(*flags))


def test_a_wrong_type_in_yaml_names_the_file_and_the_value(read):
    with pytest.raises(UserError) as caught:
        read("lora_r: many\n")
    assert "many" in caught.value.what
    assert caught.value.where.endswith("config.yaml")


def test_a_list_for_a_single_value_is_refused(read):
    with pytest.raises(UserError, match="strategy takes one value, not a list"):
        read("strategy: [head, full]\n")


def test_a_stray_word_is_refused():
    assert "'stray' belongs to no flag" in refused("--lora_r", "4", "stray").what


# Unreadable YAML


def test_a_missing_yaml_file():
    error = refused("--config", "/no/such/file.yaml")
    assert (error.what, error.where) == ("the file does not exist", "/no/such/file.yaml")


def test_a_folder_is_no_yaml_file(tmp_path):
    assert refused("--config", str(tmp_path)).what.startswith("the file cannot be read as text (")


def test_binary_content_is_no_yaml(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe\x00\x81")
    assert refused("--config", str(file)).what.startswith("the file cannot be read as text (")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just a sentence\n", "3\n"])
def test_yaml_that_is_no_mapping(read, text):
    with pytest.raises(UserError, match="expected 'key: value' lines"):
        read(text)


def test_broken_yaml_is_one_line_that_says_where(read):
    with pytest.raises(UserError) as caught:
        read("a: [1, 2\nb: }\n")
    assert "not valid YAML" in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


def test_config_without_a_file():
    assert refused("--config").what == "argument --config: expected one argument"


# Rules over several keys


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--dataset_name", "a", "--train_file", "b.csv"), "--dataset_name and --train_file exclude each other"),
        (("--train_file", "b.csv", "--train_dir", "c"), "--train_file and --train_dir exclude each other"),
        (("--validation_file", "b.csv"), "--validation_file needs --train_file"),
        (("--test_file", "b.csv", "--dataset_name", "a"), "--test_file needs --train_file"),
        (("--test_dir", "b"), "--test_dir needs --train_dir"),
        (("--hub_model_id", "me/m"), "--hub_model_id needs --push_to_hub"),
        (
            ("--class_weights=balanced", "--balanced_sampling"),
            "--class_weights and --balanced_sampling both make up for the frequencies of the classes",
        ),
        (
            ("--balanced_sampling", "--logit_adjustment=1"),
            "--balanced_sampling and --logit_adjustment both make up for the frequencies of the classes",
        ),
        (
            ("--class_weights=balanced", "--logit_adjustment=1"),
            "--class_weights and --logit_adjustment both make up for the frequencies of the classes",
        ),
        (("--num_folds", "5"), "--num_folds needs --fold"),
        (("--fold", "1"), "--fold needs --num_folds"),
        (("--num_folds=5", "--fold=1", "--test_split=0.1"), "--num_folds and --test_split exclude each other"),
        (("--num_folds=5", "--fold=1", "--time_column=t"), "--num_folds and --time_column exclude each other"),
        (
            ("--train_file=a.csv", "--test_file=b.csv", "--test_split=0.1"),
            "--test_split and --test_file exclude each other",
        ),
        (("--group_column", "g", "--time_column", "t"), "--time_column and --group_column exclude each other"),
        (("--splits_file=s", "--validation_split=0.1"), "--splits_file and --validation_split exclude each other"),
    ],
)
def test_options_that_do_not_fit_together(flags, what):
    assert refused(*flags).what == what


def test_a_hub_id_with_push_is_accepted():
    config = parse([*MODEL, "--hub_model_id", "me/m", "--push_to_hub"])
    assert config.training["hub_model_id"] == "me/m"


def test_a_checkpoint_must_be_named():
    with pytest.raises(UserError) as caught:
        parse(["--train_file", "a.csv"])
    assert caught.value.where == "--model_name_or_path"


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("validation_split", "0.95", "0.9"),
        ("validation_split", "-0.1", "0"),
        ("test_split", "0.95", "0.9"),
        ("focal_gamma", "-1", "0"),
        ("logit_adjustment", "-1", "0"),
        ("layer_decay", "1.5", "1.0"),
        ("lora_dropout", "-1", "0"),
        ("lora_r", "0", "1"),
        ("head_hidden_size", "0", "1"),
        ("max_length", "0", "1"),
        ("image_size", "-5", "1"),
        ("rotation_degrees", "181", "180"),
        ("mixup", "-0.1", "0"),
        ("cutmix", "-0.1", "0"),
        ("early_stopping_patience", "0", "1"),
        ("head_learning_rate", "-1", "0"),
        ("learning_rate", "-1e-3", "0"),
        ("num_train_epochs", "-1", "0"),
        ("per_device_train_batch_size", "0", "1"),
        ("gradient_accumulation_steps", "0", "1"),
        ("max_train_samples", "0", "1"),
        ("max_eval_samples", "-3", "1"),
        ("max_predict_samples", "0", "1"),
    ],
)
def test_numbers_have_bounds_and_the_bounds_are_allowed(name, bad, good):
    error = refused(f"--{name}={bad}")
    assert "is out of bounds; expected" in error.what
    assert error.where == f"--{name}"
    assert float(parse([*MODEL, f"--{name}={good}"]).to_flat()[name]) == float(good)


@pytest.mark.parametrize("flag", ["--class_weights=balanced", "--balanced_sampling", "--logit_adjustment=1"])
def test_the_focal_loss_goes_with_each_remedy(flag):
    assert parse([*MODEL, "--focal_gamma", "2", flag]).run.focal_gamma == 2


@pytest.mark.parametrize(("num_folds", "fold"), [("1", "1"), ("5", "0"), ("5", "6")])
def test_a_fold_is_one_of_two_or_more(num_folds, fold):
    assert "is out of bounds; expected" in refused("--num_folds", num_folds, "--fold", fold).what


@pytest.mark.parametrize("name", ["learning_rate", "validation_split", "mixup"])
def test_nan_is_out_of_bounds(name):
    assert "is out of bounds" in refused(f"--{name}=nan").what


# What is written back


def test_no_secret_is_written(read):
    config = read("hub_token: hf_secret\nseed: 1\n")
    assert "hub_token" not in config.to_flat()
    assert "hf_secret" not in str(config.to_flat())
    assert config.training["hub_token"] == "hf_secret"


def test_a_written_configuration_reads_back_the_same(read, tmp_path):
    first = read(
        "model_name_or_path: m\nlearning_rate: 1e-3\nlora_target_modules: [query, value]\nmerge_adapter: true\n"
        "lr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 2}\nlabel_column: '01'\noutput_dir: a b\n"
        "train_file: 'x y.csv'\neval_strategy: steps\neval_steps: 5\nbf16: false\n"
    )
    written = yaml.safe_dump(first.to_flat(), sort_keys=False, allow_unicode=True)
    file = tmp_path / "again.yaml"
    file.write_text(written, encoding="utf-8")
    second = parse(["--config", str(file)])
    assert second.to_flat() == first.to_flat()
    assert second.training == first.training
    assert second.strategy == first.strategy
    assert second.to_flat()["lr_scheduler_type"] == "cosine"


def test_lists_of_choices_can_be_written_as_yaml():
    flat = parse([*MODEL, "--debug", "underflow_overflow"]).to_flat()
    assert yaml.safe_load(yaml.safe_dump(flat))["debug"] == ["underflow_overflow"]


def test_the_run_folder_is_a_path():
    assert parse([*MODEL, "--output_dir", "runs/a"]).output_dir == Path("runs/a")


def test_parsing_does_not_touch_what_it_was_given():
    flags = [*MODEL, "--seed", "1"]
    parse(flags)
    assert flags == [*MODEL, "--seed", "1"]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_configuration_parses(file):
    config = parse(["--config", str(file), "--model_name_or_path", "m"])
    stated = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(stated) - {key for key, value in stated.items() if value is None} <= config.explicit
    flat = config.to_flat()
    for key, value in stated.items():
        if isinstance(value, str) and key != "model_name_or_path" and key in flat and isinstance(flat[key], str):
            assert flat[key] == value


def test_a_configuration_cannot_be_written_to():
    config = parse([*MODEL, "--seed", "1"])
    for part in (config, config.model, config.data, config.inputs, config.cache, config.strategy, config.run):
        name = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, None)
    with pytest.raises(TypeError):
        config.training["seed"] = 2
    given = {"seed": 3}
    other = dataclasses.replace(config, training=given)
    given["seed"] = 4
    assert (config.training["seed"], other.training["seed"]) == (1, 3)
