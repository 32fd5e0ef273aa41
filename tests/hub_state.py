"""What the test server of the Hub keeps: repositories, their commits, and the answers that are errors."""

import fnmatch
import hashlib
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import yaml

LFS_PATTERNS = ("*.arrow", "*.bin", "*.h5", "*.model", "*.npz", "*.onnx", "*.parquet", "*.pt", "*.safetensors")
GIT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS).encode()
LFS_THRESHOLD = 10 * 1024 * 1024

# A few of the Hub's, enough to tell a licence or a language code from a guess at one.
LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "other", "unknown"}
REPO_NAME = r"[\w.-]+(/[\w.-]+)?"


@dataclass
class Reply:
    status: int
    body: object  # bytes are sent as they are, anything else as JSON
    headers: dict[str, str] = field(default_factory=dict)


class HubError(Exception):
    """An error answer; the client picks its exception class from the status and ``X-Error-Code``."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict | None = None, **body):
        self.reply = Reply(status, {"error": message, **body}, dict(headers or {}))
        self.reply.headers["X-Error-Message"] = message.encode("ascii", "replace").decode()
        if code:
            self.reply.headers["X-Error-Code"] = code


@dataclass
class Fault:
    methods: tuple[str, ...]
    path_regex: str
    times: int
    reply: Reply | None = None  # None cuts the connection after so many bytes
    after_bytes: int = 0
    late: bool = False  # the request takes effect, and its answer is lost


@dataclass(frozen=True)
class Commit:
    """A snapshot of all the files of a repo; ``lfs`` are the paths of those stored through LFS."""

    oid: str
    title: str
    description: str
    date: str
    files: dict[str, bytes]
    lfs: frozenset[str]

    def etag(self, path: str) -> str:
        """What the client compares with its local file: the SHA-256 of an LFS file, else the git blob id."""
        return hashlib.sha256(self.files[path]).hexdigest() if path in self.lfs else git_oid(self.files[path])

    def entry(self, path: str) -> dict:
        """The description of one path in ``tree`` and ``paths-info``."""
        if path not in self.files:
            return {"type": "directory", "path": path, "size": 0, "oid": git_oid(f"{self.oid}:{path}".encode())}
        size, etag = len(self.files[path]), self.etag(path)
        entry = {"type": "file", "path": path, "size": size, "oid": etag}
        if path in self.lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{etag}\nsize {size}\n".encode()
            entry["oid"] = git_oid(pointer)
            entry["lfs"] = {"oid": etag, "sha256": etag, "size": size, "pointerSize": len(pointer)}
        return entry


@dataclass
class Repo:
    repo_type: str
    repo_id: str
    private: bool = False
    branches: dict[str, list[Commit]] = field(default_factory=dict)  # oldest first; pull requests as "refs/pr/N"

    def __post_init__(self) -> None:
        self.branches["main"] = []
        self.add_commit("main", "initial commit", {".gitattributes": GIT_ATTRIBUTES}, ())

    @property
    def commits(self) -> list[Commit]:
        return self.branches["main"]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files

    def history(self, revision: str) -> list[Commit]:
        """The commits up to a branch name or a commit id."""
        for name, commits in self.branches.items():
            for index, commit in enumerate(commits):
                if revision == commit.oid or (revision == name and commit is commits[-1]):
                    return commits[: index + 1]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def is_lfs(self, path: str, size: int, sample: bytes) -> bool:
        lines = [line.split() for line in self.files.get(".gitattributes", b"").decode().splitlines()]
        patterns = [words[0] for words in lines if "filter=lfs" in words]
        tracked = any(fnmatch.fnmatch(path.rsplit("/", 1)[-1], pattern) for pattern in patterns)
        return size > 0 and (tracked or size > LFS_THRESHOLD or b"\0" in sample)

    def add_commit(self, branch: str, title: str, files: dict, lfs: Collection[str], description: str = "") -> Commit:
        parent = self.branches[branch][-1].oid if self.branches[branch] else ""
        tree = sorted((path, git_oid(content)) for path, content in files.items())
        oid = git_oid(repr((self.repo_type, self.repo_id, parent, title, description, tree)).encode())
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        commit = Commit(oid, title, description, date, dict(files), frozenset(lfs) & files.keys())
        self.branches[branch].append(commit)
        return commit


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def card_metadata(readme: bytes) -> dict[str, str]:
    """The top-level scalars of a card's YAML header; lists and nested values are left out."""
    header = re.match(r"---\r?\n(.*?)^---\s*$", readme.decode(), re.DOTALL | re.MULTILINE)
    return dict(re.findall(r"^([\w-]+):[ \t]*[\"']?(\w[^\"'\r\n]*)", header[1], re.MULTILINE)) if header else {}


def card_errors(content: str) -> list[str]:
    """What the Hub finds wrong with a card's header, in its words, for the keys that are looked at here."""
    header = re.match(r"---\r?\n(.*?)^---\s*$", content, re.DOTALL | re.MULTILINE)
    if header is None:
        return ["Invalid YAML header: it is not closed"] if content.startswith("---") else []
    try:
        card = yaml.safe_load(header[1]) or {}
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {str(error).splitlines()[0]}"]
    errors = []
    if card.get("license", "mit") not in LICENSES:
        errors.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
    for index, code in enumerate(_listed(card.get("language"))):
        if not re.fullmatch(r"[a-z]{2,3}", str(code)):
            errors.append(f'"language[{index}]" must only contain lowercase characters, as an ISO 639 code')
    for key, kind in (("base_model", "model"), ("datasets", "dataset")):
        for name in _listed(card.get(key)):
            if not re.fullmatch(REPO_NAME, str(name)):
                errors.append(f'"{key}" with value "{name}" is not valid. Use a {kind} id from https://hf.co/{kind}s.')
    for number, model in enumerate(card.get("model-index", [])):
        for at, result in enumerate(model.get("results", [])):
            for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                place = f"model-index[{number}].results[{at}].{part}"
                errors += [f'"{place}.{key}" is required' for key in keys if not result.get(part, {}).get(key)]
    return errors


def _listed(value: object) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]
