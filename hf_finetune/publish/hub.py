"""Push a run to the Hub: checked before training, and whole on disk whatever happens on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say
from hf_finetune.errors import UserError, first_line

BESIDE_THE_MODEL = ("README.md", "metrics.json", "config.yaml")


def check_hub(config: Config) -> None:
    """Make sure, before an hour of training, that the run may be pushed, and make the repository.

    Raises:
        UserError: no token, a token that may not write there, or a name that the Hub does not take.
    """
    if not config.training.get("push_to_hub") or not is_main_process():
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=config.training.get("hub_token"))
    try:
        user = api.whoami()["name"]
        config.training.setdefault("hub_model_id", f"{user}/{config.output_dir.name}")
        if "/" not in config.training["hub_model_id"]:
            config.training["hub_model_id"] = f"{user}/{config.training['hub_model_id']}"
        api.create_repo(config.training["hub_model_id"], private=config.training.get("hub_private_repo"), exist_ok=True)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise _explain(error, config) from error
    say(f"The model will be pushed to {config.training['hub_model_id']}.")


def push_run(config: Config) -> str | None:
    """Upload ``model/``, the card, the metrics and the configuration in one commit.

    Returns:
        The address of the repository; None where nothing was to be pushed.

    Raises:
        UserError: the Hub refused; the run folder is whole, and the message says how to go on.
    """
    if not config.training.get("push_to_hub") or not is_main_process():
        return None
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    repo = config.training["hub_model_id"]
    files = run_files(config.output_dir)
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=_public(name, path)) for name, path in files.items()
    ]
    api = HfApi(token=config.training.get("hub_token"))
    try:
        commit = api.create_commit(
            repo,
            operations=operations,
            commit_message="Fine-tuned with hf-finetune",
            revision=config.training.get("hub_revision"),
        )
    except (HfHubHTTPError, OSError) as error:
        raise _explain(error, config, trained=True) from error
    say(f"Pushed to {commit.repo_url if hasattr(commit, 'repo_url') else repo}")
    return str(getattr(commit, "repo_url", repo))


def run_files(folder: Path) -> dict[str, Path]:
    """What is pushed: the files of ``model/`` at the top, and the card, metrics and configuration beside them."""
    model = folder / "model"
    files = {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()}
    # The model's own config.json keeps its name; the run's configuration is YAML, so they do not meet.
    return files | {name: folder / name for name in BESIDE_THE_MODEL if (folder / name).exists()}


def _public(name: str, path: Path) -> Any:
    """File content as it may be seen: no local path in the configuration or in the adapter's base model."""
    if name == "config.yaml":
        return _without_local_paths(path).encode()
    if name == "adapter_config.json":
        return _public_adapter(path).encode()
    return path


def _without_local_paths(path: Path) -> str:
    import yaml

    from hf_finetune.publish.card import public_name

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    public = {k: public_name(v) if isinstance(v, str) and set(v) & {"/", "\\"} else v for k, v in content.items()}
    return yaml.safe_dump(public, sort_keys=False, allow_unicode=True)


def _public_adapter(path: Path) -> str:
    import json

    from hf_finetune.publish.card import public_name

    content = json.loads(path.read_text(encoding="utf-8"))
    content["base_model_name_or_path"] = public_name(content["base_model_name_or_path"])
    return json.dumps(content, indent=2)


def _explain(error: Exception, config: Config, *, trained: bool = False) -> UserError:
    from huggingface_hub.errors import LocalTokenNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    repo = config.training.get("hub_model_id", "the Hub")
    model = config.output_dir / "model"
    rest = f" The run is whole in {config.output_dir}; 'hf upload {repo} {model}' uploads it." if trained else ""
    where = f"--hub_model_id {repo}"
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return UserError("there is no valid token", where=where, fix=f"run 'hf auth login', or set HF_TOKEN.{rest}")
    if status == 403:
        fix = f"make a token with write access, or name another --hub_model_id.{rest}"
        return UserError("the token may not write there", where=where, fix=fix)
    if status == 404:
        return UserError("there is no such namespace", where=where, fix=f"check --hub_model_id.{rest}")
    if status == 409:
        return UserError("the repository changed meanwhile", where=where, fix=f"push once more.{rest}")
    if status == 429:
        return UserError("the Hub asks to slow down", where=where, fix=f"wait some minutes, and push once more.{rest}")
    what = f"the Hub did not take the model ({first_line(error)})"
    return UserError(what, where=where, fix=f"check the network, and push once more.{rest}")
