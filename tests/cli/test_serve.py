"""The page of ``serve`` in a real browser: a text is typed, an image dropped, and nothing leaves the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from hf_finetune.cli.main import main as hf_finetune

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LABELS = [
    "<img src=x onerror=alert(1)>",
    "{{value}} ${1+1}",
    "a rather long name of a class, longer than a phone is wide",
]
pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra serve")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Started:
    """A new interpreter, with the methods of ``warm_process.Running``."""

    process: subprocess.Popen
    stdout: Path
    stderr: Path

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def heed_interrupts() -> None:
    """Let Ctrl-C end the new process; a shell has what it starts in the background ignore it, which is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(argv: list[str], folder: Path, env: dict[str, str]) -> Started:
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        process = subprocess.Popen([sys.executable, *argv], env=env, stdout=out, stderr=err, preexec_fn=heed_interrupts)
    return Started(process, folder / "stdout", folder / "stderr")


class Served:
    """The command in a process of its own.

    A model does not compute in a thread of a fork, as a page has it do. Without a browser nothing is predicted.
    """

    def __init__(self, python, model: str, folder: Path) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temporary)}
        argv = ["-m", "hf_finetune", "serve", model, "--port", str(free_port())]
        self.process = start(argv, folder, env) if CHROMIUM else python.start(argv, folder, env)

    def address(self) -> str:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"(http://\S+) .*\n", self.process.stdout.read_text())):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return found[1]

    def said(self) -> str:
        return self.process.stdout.read_text() + self.process.stderr.read_text()

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Exit status, and what was said since the page was there."""
        status = self.process.end(how)
        return status, self.said().partition("http://")[2].partition("\n")[2]


@pytest.fixture(scope="module")
def served(python, classifiers, tmp_path_factory):
    """A model of texts and one of images, both served; they load at the same time."""
    both = {name: Served(python, classifiers(name, LABELS), tmp_path_factory.mktemp("s")) for name in ("bert", "vit")}
    yield both
    for each in both.values():
        each.process.kill()


@pytest.fixture(scope="module")
def addresses(served):
    return {name: each.address() for name, each in served.items()}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[390, 1200])
def page(browser, request):
    """A window of the width of a phone or of a desktop, which reaches this machine alone."""
    page = browser.new_page(viewport={"width": request.param, "height": 844})
    page.set_default_timeout(60_000)
    page.outside, page.errors = [], []
    outside = re.compile(r"^(?!data:|blob:|http://127\.0\.0\.1[:/])")
    page.route(outside, lambda route: (page.outside.append(route.request.url), route.abort()))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("dialog", lambda dialog: (page.errors.append(dialog.message), dialog.dismiss()))
    yield page
    page.close()


def assert_answered(page):
    """An answer with a probability of each class, as text, within the width of the window."""
    page.locator(".answer .prediction").wait_for()
    names = page.locator(".answer .name").all_inner_texts()
    values = [float(text.rstrip(" %")) for text in page.locator(".answer .value").all_inner_texts()]
    assert sorted(names) == sorted(LABELS)
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(100, abs=0.2)
    assert page.locator(".answer .prediction").inner_text() == names[0]
    assert page.locator(".answer img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.outside == []
    assert page.errors == []


def test_a_typed_text_is_answered(page, addresses):
    page.goto(addresses["bert"])
    box = page.get_by_label("text")
    box.wait_for()
    box.fill("a good film")
    page.get_by_role("button", name="Predict").click()
    assert_answered(page)


def test_a_dropped_image_is_answered_and_a_broken_one_refused(page, addresses, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:400])
    page.goto(addresses["vit"])
    drop = page.locator("input[type=file]").first
    drop.wait_for(state="attached")
    drop.set_input_files(tmp_path / "broken.png")
    page.get_by_text("this image cannot be read").wait_for()
    page.get_by_label("Clear").or_(page.get_by_label("Remove Image")).first.click()
    drop.set_input_files(tmp_path / "a.png")
    assert_answered(page)


def test_uploads_are_bounded_and_the_page_has_no_documentation_of_an_interface(addresses):
    import httpx

    large = httpx.post(f"{addresses['vit']}gradio_api/upload", files={"files": b"x" * 21_000_000}, timeout=60)
    assert large.status_code == 413
    assert [httpx.get(f"{addresses['vit']}{place}").status_code for place in ("docs", "redoc", "openapi.json")] == [
        404
    ] * 3
    assert httpx.get(f"{addresses['vit']}gradio_api/info").json()["named_endpoints"] == {}


# Last: the pages are gone after these


@pytest.mark.parametrize(("name", "how", "status"), [("bert", signal.SIGINT, 130), ("vit", signal.SIGTERM, 143)])
def test_the_command_ends_without_a_trace(name, how, status, served, addresses):
    with urlopen(addresses[name]) as answer:
        assert answer.status == 200
    assert served[name].end(how) == (status, "")
    assert list(served[name].temporary.glob("hf-finetune-*")) == []


# Without a page


def test_what_cannot_be_served_is_refused(classifiers, tmp_path, capfd):
    assert hf_finetune(["serve", str(tmp_path / "none"), "--port", str(free_port())]) == 2
    assert "error:" in capfd.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert hf_finetune(["serve", str(tmp_path / "none"), "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capfd.readouterr().err


def test_an_address_in_the_network_is_warned_of(classifiers, monkeypatch, capfd):
    from hf_finetune.publish import serve

    monkeypatch.setattr(serve, "serve", lambda labeller, name, host, port, ready: ready(f"http://{host}:{port}/"))
    before = signal.getsignal(signal.SIGTERM)
    model = classifiers("bert", ["a", "b"])
    for host in ("0.0.0.0", "127.0.0.1"):
        assert hf_finetune(["serve", model, "--host", host, "--port", str(free_port())]) == 0
        warned = "everyone in the network can use the model" in capfd.readouterr().out
        assert warned == (host == "0.0.0.0")
    signal.signal(signal.SIGTERM, before)
