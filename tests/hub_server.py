"""An in-memory server on 127.0.0.1 which speaks enough of the Hugging Face Hub's HTTP API for the stock client.

    with HubServer(users={"hf_test": "alice"}) as hub:
        subprocess.run([sys.executable, "script.py"], env={**os.environ, **hub.environ()})
        hub.repos["model", "alice/tiny"].files["config.json"]

``huggingface_hub`` reads ``HF_ENDPOINT`` when it is imported, hence the subprocess. Endpoints, for models, datasets
and spaces alike (``{api}`` is ``/api/{models,datasets,spaces}/{repo_id}``):

- account: ``GET /api/whoami-v2``, ``POST /api/validate-yaml``, ``POST /api/repos/create``
- reading: ``GET {api}[/revision/{rev}]``, ``GET {api}/tree/{rev}[/{path}]``, ``POST {api}/paths-info/{rev}``,
  ``GET|HEAD /{repo}/resolve/{rev}/{path}``, with ranges
- writing: ``POST {api}/preupload/{rev}``, ``POST /{repo}.git/info/lfs/objects/batch``, ``PUT /lfs/{oid}[/{part}]``,
  ``POST /lfs/{oid}/complete``, ``POST /lfs/verify``, ``POST {api}/commit/{rev}[?create_pr=1]``,
  ``POST {api}/branch/{name}``

Xet, tags, gated repos, discussions, pagination and searches are left out. Other tests patch the client's constants
instead of starting a process: ``with hub.client(monkeypatch): ...``.
"""

import base64
import contextlib
import hashlib
import json
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from hub_state import Fault, HubError, Reply, Repo, card_errors, card_metadata

_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+(?:/[^/]+)?)"
_WEB = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+(?:/[^/]+)?)"
# (method, path, name of the handler method, access to the repo); the first match wins.
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami", None),
    ("POST", r"/api/validate-yaml", "validate_yaml", None),
    ("POST", r"/api/repos/create", "create_repo", None),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_upload", None),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})/(?P<part>\d+)", "lfs_upload_part", None),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/complete", "lfs_complete", None),
    ("POST", r"/lfs/verify", "lfs_verify", None),
    ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", "lfs_batch", "write"),
    ("GET", rf"{_WEB}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve", "read"),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree", "read"),
    ("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)", "paths_info", "read"),
    ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)", "preupload", "write"),
    ("POST", rf"{_API}/commit/(?P<revision>[^/]+)", "commit", "write"),
    ("POST", rf"{_API}/branch/(?P<name>[^/]+)", "create_branch", "write"),
    ("GET", rf"{_API}(?:/revision/(?P<revision>[^/]+))?", "repo_info", "read"),
]


class HubServer:
    """The server and its state.

    ``requests`` logs ``(method, path, status)`` of every request, with the path as it was sent, less its query; the
    status is 0 where the connection was cut before an answer. ``received`` counts the bytes of bodies by path.

    Args:
        users: token -> user name.
        read_only: tokens which cannot write.
        orgs: organization -> user name -> role in it.
        scopes: fine-grained tokens -> the users, organizations and repos whose contents they write.
        part_bytes: objects above this size are uploaded in parts of it.
    """

    def __init__(
        self,
        users: dict[str, str],
        read_only: Collection[str] = (),
        orgs: Mapping[str, Mapping[str, str]] | None = None,
        scopes: Mapping[str, Collection[str]] | None = None,
        part_bytes: int | None = None,
    ):
        self.users, self.read_only = dict(users), frozenset(read_only)
        self.orgs, self.scopes, self.part_bytes = dict(orgs or {}), dict(scopes or {}), part_bytes
        self.received: Counter[str] = Counter()
        self.lfs_parts: dict[tuple[str, int], bytes] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.lfs_objects: dict[str, bytes] = {}
        self.lfs_pending: set[str] = set()
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def __enter__(self):
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-", ignore_cleanup_errors=True)
        self._http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc_info) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._home.cleanup()

    def environ(self, token: str | None = None, home: str | Path | None = None) -> dict[str, str]:
        """Variables for a client process; by default the first user's token and caches which end with the server."""
        home = Path(home or self._home.name)
        offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": next(iter(self.users), "") if token is None else token,
            # The more specific cache variables win over HF_HOME, so they are set as well.
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_TOKEN_PATH": str(home / "token"),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            **dict.fromkeys(("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"), "1"),
            **dict.fromkeys(offline, "0"),
        }

    def add_repo(self, repo_type: str, repo_id: str, files: dict[str, bytes] | None = None, private=False) -> Repo:
        """Create a repo without a client, for instance a base model to start from."""
        repo = self.repos[repo_type, repo_id] = Repo(repo_type, repo_id, private)
        if files:
            lfs = [path for path, content in files.items() if repo.is_lfs(path, len(content), content[:512])]
            repo.add_commit("main", "add files", {**repo.files, **files}, lfs)
        return repo

    def fail(self, method: str, path_regex: str, status: int, times: int = 1, headers: dict | None = None) -> None:
        """Answer the next ``times`` requests with this method (GET and HEAD differ) with ``status``, without effect."""
        reply = HubError(status, "Injected failure", headers=headers).reply
        self.faults.append(Fault((method,), path_regex, times, reply))

    def cut(self, path_regex: str, after_bytes: int, times: int = 1) -> None:
        """Close the connection ``after_bytes`` into the body of the answer (GET) or of the request (POST and PUT)."""
        self.faults.append(Fault(("GET", "POST", "PUT"), path_regex, times, None, after_bytes))

    def lose(self, path_regex: str, times: int = 1) -> None:
        """Carry the request out, and close the connection instead of answering."""
        self.faults.append(Fault(("POST", "PUT"), path_regex, times, None, late=True))

    @contextlib.contextmanager
    def client(self, monkeypatch, token: str | None = None):
        """The stock client of this process speaks to this server; its waits between tries take no time."""
        from huggingface_hub import constants
        from huggingface_hub.utils import _http, close_session

        slept: list[float] = []
        # Not in a context of its own: what a test patches on top must be undone before this is.
        for name, value in self.environ(token).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(_http.time, "sleep", slept.append)
        close_session()
        yield slept
        close_session()

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The first fault which is left for a request, counted as used."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and method in fault.methods and re.search(fault.path_regex, path):
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # snapshot_download opens many connections at once


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_args) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client which goes away is part of the tests
            super().handle()

    def dispatch(self) -> None:
        url = urlsplit(self.path)
        self.url_path, self.query = url.path, parse_qs(url.query)
        self.close_connection = True  # one request per connection: nothing answers once the server is closed
        fault = self.hub.take_fault(self.command, url.path)
        cut = fault.after_bytes if fault and fault.reply is None and not fault.late else None
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length if cut is None else min(cut, length))
        self.hub.received[url.path] += len(self.body)
        if len(self.body) < length:
            self.hub.requests.append((self.command, url.path, 0))
            return
        try:
            with self.hub.lock:
                reply = fault.reply if fault and fault.reply else self.route(url.path)
        except HubError as error:
            reply = error.reply
        if fault and fault.late:
            self.hub.requests.append((self.command, url.path, 0))
            return
        self.send(reply, cut if self.command == "GET" else None)

    do_GET = do_HEAD = do_POST = do_PUT = dispatch  # noqa: N815

    def send(self, reply: Reply, cut: int | None) -> None:
        raw = isinstance(reply.body, bytes)
        body = reply.body if raw else json.dumps(reply.body).encode()
        self.hub.requests.append((self.command, self.url_path, reply.status))
        self.send_response(reply.status)
        content_type = "application/octet-stream" if raw else "application/json"
        defaults = {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"}
        for name, value in {**defaults, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])

    def route(self, path: str) -> Reply:
        authorization = self.headers.get("Authorization")
        self.token = authorization.removeprefix("Bearer ") if authorization else None
        self.user = self.hub.users.get(self.token)
        if self.token and self.user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        method = "GET" if self.command == "HEAD" else self.command
        for route_method, pattern, name, access in ROUTES:
            match = re.fullmatch(pattern, path) if route_method == method else None
            if match is None:
                continue
            arguments = {key: value and unquote(value) for key, value in match.groupdict().items()}
            if access:
                repo_type = (arguments.pop("kind") or "models").removesuffix("s")
                arguments["repo"] = self.open_repo(repo_type, arguments.pop("repo_id"), access)
            return getattr(self, name)(**arguments)
        raise HubError(404, f"No such endpoint: {method} {path}")

    def require_user(self, namespace: str | None = None, name: str = "") -> str:
        """The authenticated user, who must be allowed to write to ``namespace/name`` where a namespace is given."""
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        if namespace and not self.may_write(namespace, f"{namespace}/{name}"):
            raise HubError(403, f"You don't have the rights to write under the namespace {namespace}")
        return self.user

    def may_write(self, namespace: str, repo_id: str) -> bool:
        role = "admin" if namespace == self.user else self.hub.orgs.get(namespace, {}).get(self.user, "read")
        scopes = self.hub.scopes.get(self.token)
        covered = scopes is None or namespace in scopes or repo_id in scopes
        return role != "read" and covered and self.token not in self.hub.read_only

    def open_repo(self, repo_type: str, repo_id: str, access: str) -> Repo:
        repo = self.hub.repos.get((repo_type, repo_id))
        namespace, _, name = repo_id.partition("/")
        member = self.user == namespace or self.user in self.hub.orgs.get(namespace, {})
        if repo is None or (repo.private and not member):
            # Nobody learns whether a private repo exists. The client takes a 401 from an https endpoint for a missing
            # repo by itself; over http it needs the code.
            raise HubError(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if access == "write":
            # Anybody may propose a change, and store the large files of one.
            proposes = "create_pr" in self.query or (self.url_path.endswith("batch") and b'"ref"' not in self.body)
            self.require_user(None if proposes else namespace, name)
        return repo

    def repo_url(self, repo: Repo) -> str:
        return f"{self.hub.url}/{'' if repo.repo_type == 'model' else f'{repo.repo_type}s/'}{repo.repo_id}"

    def whoami(self) -> Reply:
        name = self.require_user()
        scopes = self.hub.scopes.get(self.token)
        role = "read" if self.token in self.hub.read_only else "write" if scopes is None else "fineGrained"
        token = {"displayName": "test", "role": role}
        if scopes is not None:
            kinds = {scope: "model" if "/" in scope else "user" if scope == name else "org" for scope in scopes}
            scoped = [
                {"entity": {"type": kind, "name": scope}, "permissions": ["repo.content.read", "repo.write"]}
                for scope, kind in kinds.items()
            ]
            token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
        orgs = [
            {"type": "org", "name": org, "roleInOrg": members[name]}
            for org, members in self.hub.orgs.items()
            if name in members
        ]
        auth = {"type": "access_token", "accessToken": token}
        return Reply(200, {"type": "user", "id": name, "name": name, "fullname": name, "orgs": orgs, "auth": auth})

    def validate_yaml(self) -> Reply:
        errors = [{"message": message} for message in card_errors(json.loads(self.body)["content"])]
        if errors:
            raise HubError(400, errors[0]["message"], errors=errors, warnings=[])
        return Reply(200, {"errors": [], "warnings": []})

    def create_repo(self) -> Reply:
        body = json.loads(self.body)
        namespace = body.get("organization") or self.require_user()
        self.require_user(namespace, body["name"])
        key = body.get("type") or "model", f"{namespace}/{body['name']}"
        if key in self.hub.repos:
            message = f"You already created this {key[0]} repo"
            raise HubError(409, message, url=self.repo_url(self.hub.repos[key]))
        repo = self.hub.add_repo(*key, private=body.get("visibility") == "private")
        return Reply(200, {"url": self.repo_url(repo), "name": repo.repo_id})

    def repo_info(self, repo: Repo, revision: str | None) -> Reply:
        commit = repo.history(revision or "main")[-1]
        card = card_metadata(commit.files.get("README.md", b""))
        entries = [commit.entry(path) for path in sorted(commit.files)]
        info = {
            "id": repo.repo_id,
            "author": repo.repo_id.rpartition("/")[0] or None,
            "sha": commit.oid,
            "private": repo.private,
            "gated": False,
            "createdAt": repo.commits[0].date,
            "lastModified": commit.date,
            "cardData": card,
            "siblings": [{"rfilename": e["path"], "blobId": e["oid"], **e} for e in entries],
        }
        if "config.json" in commit.files:
            info["library_name"] = "transformers"
        info |= {key: card[key] for key in ("pipeline_tag", "library_name") if key in card}
        return Reply(200, info)

    def tree(self, repo: Repo, revision: str, path: str | None) -> Reply:
        commit = repo.history(revision)[-1]
        prefix = f"{path}/" if path else ""
        names = [name.removeprefix(prefix) for name in commit.files if name.startswith(prefix)]
        if path and not names:
            raise HubError(404, f"{path} does not exist on {revision}", "EntryNotFound")
        levels = {"/".join(name.split("/")[: depth + 1]) for name in names for depth in range(name.count("/") + 1)}
        recursive = self.query.get("recursive", [""])[0].lower() == "true"
        return Reply(200, [commit.entry(prefix + name) for name in sorted(levels) if recursive or "/" not in name])

    def paths_info(self, repo: Repo, revision: str) -> Reply:
        commit = repo.history(revision)[-1]
        paths = [path.rstrip("/") for path in parse_qs(self.body.decode()).get("paths", [])]
        known = [path for path in paths if any(f"{name}/".startswith(f"{path}/") for name in commit.files)]
        return Reply(200, [commit.entry(path) for path in known])

    def resolve(self, repo: Repo, revision: str, path: str) -> Reply:
        commit = repo.history(revision)[-1]
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        content = commit.files[path]
        headers["ETag"] = f'"{commit.etag(path)}"'
        if path in commit.lfs:
            headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(content))}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return Reply(200, content, headers)
        start, stop = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        if start >= stop:
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return Reply(206, content[start:stop], headers)

    def preupload(self, repo: Repo, revision: str) -> Reply:
        commit = repo.history(revision)[-1]
        answer = []
        for file in json.loads(self.body)["files"]:
            path, sample = file["path"], base64.b64decode(file["sample"])
            mode = "lfs" if repo.is_lfs(path, file["size"], sample) else "regular"
            oid = commit.etag(path) if path in commit.files else None
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return Reply(200, {"files": answer})

    def lfs_batch(self, repo: Repo) -> Reply:
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.lfs_objects:
                self.hub.lfs_pending.add(wanted["oid"])
                upload = self.upload_action(**answer)
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify"}}
            objects.append(answer)
        return Reply(200, {"transfer": "basic", "objects": objects})

    def upload_action(self, oid: str, size: int) -> dict:
        """Where the client sends an object: in one piece, or in parts and then a word that all are there."""
        url, part = f"{self.hub.url}/lfs/{oid}", self.hub.part_bytes
        if part is None or size <= part:
            return {"href": url}
        numbers = range(1, -(-size // part) + 1)
        header = {"chunk_size": str(part)} | {str(number): f"{url}/{number}" for number in numbers}
        return {"href": f"{url}/complete", "header": header}

    def lfs_upload_part(self, oid: str, part: str) -> Reply:
        if oid not in self.hub.lfs_pending:
            raise HubError(403, "No upload of this object was asked for")
        self.hub.lfs_parts[oid, int(part)] = self.body
        return Reply(200, b"", {"ETag": hashlib.sha256(self.body).hexdigest()})

    def lfs_complete(self, oid: str) -> Reply:
        parts = [self.hub.lfs_parts[oid, part["partNumber"]] for part in json.loads(self.body)["parts"]]
        self.body = b"".join(parts)
        return self.lfs_upload(oid)

    def lfs_upload(self, oid: str) -> Reply:
        # The client sends no token here, as for a presigned URL: the batch request opened this one.
        if oid not in self.hub.lfs_pending:
            raise HubError(403, "No upload of this object was asked for")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "The content does not have this SHA-256")
        self.hub.lfs_objects[oid] = self.body
        return Reply(200, b"")

    def lfs_verify(self) -> Reply:
        self.require_user()
        body = json.loads(self.body)
        if len(self.hub.lfs_objects.get(body["oid"], b"")) != body["size"]:
            raise HubError(404, "The object is missing or of another size")
        return Reply(200, {})

    def commit(self, repo: Repo, revision: str) -> Reply:
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        history = repo.history(revision)
        parent = history[-1]
        if header.get("parentCommit", parent.oid) != parent.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files, lfs = dict(parent.files), set(parent.lfs)
        for line in lines[1:]:
            self.apply(line["key"], line["value"], files, lfs)
        branch, pull_request = revision, None
        if "create_pr" in self.query:
            number = sum(name.startswith("refs/pr/") for name in repo.branches) + 1
            branch, pull_request = f"refs/pr/{number}", f"{self.repo_url(repo)}/discussions/{number}"
            repo.branches[branch] = history
        made = repo.add_commit(branch, header["summary"], files, lfs, header["description"])
        url = f"{self.repo_url(repo)}/commit/{made.oid}"
        return Reply(200, {"success": True, "commitOid": made.oid, "commitUrl": url, "pullRequestUrl": pull_request})

    def apply(self, key: str, value: dict, files: dict[str, bytes], lfs: set[str]) -> None:
        """Carry out one line of a commit on the files of its parent."""
        path = value["path"]
        if key == "file":
            files[path] = base64.b64decode(value["content"])
            lfs.discard(path)
        elif key == "lfsFile":
            if value["oid"] not in self.hub.lfs_objects:
                raise HubError(400, f"LFS object {value['oid']} was not uploaded")
            files[path] = self.hub.lfs_objects[value["oid"]]
            lfs.add(path)
        elif key in ("deletedFile", "deletedFolder"):
            folder = path.rstrip("/") + "/"
            gone = [name for name in files if (name == path if key == "deletedFile" else name.startswith(folder))]
            if not gone:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise HubError(400, f"Unknown operation: {key}")

    def create_branch(self, repo: Repo, name: str) -> Reply:
        if name.startswith("refs/") or ".." in name:
            raise HubError(400, f"Invalid reference for a branch: {name}")
        if name in repo.branches:
            raise HubError(409, f"Reference already exists: refs/heads/{name}")
        repo.branches[name] = repo.history(json.loads(self.body).get("startingPoint", "main"))
        return Reply(200, {})
