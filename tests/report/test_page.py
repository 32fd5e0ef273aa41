"""The report holds what the run's files hold, escaped, and the same run gives the same page."""

from __future__ import annotations

import json
import re
import shutil
from xml.etree import ElementTree

import pytest
import yaml
from example_runs import BANKING, CHECK, KINDS, make_run

from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.errors import UserError
from hf_finetune.report import report_page, write_report
from hf_finetune.report.figures import draw_curves, phases_of, points_of

SECTIONS = {
    "text": {"metrics", "curves", "confusion", "labels", "calibration", "slices", "losses", "errors", "data", "check",
             "strategy", "timing", "configuration"},
    "several": {"metrics", "curves", "labels", "slices", "losses", "data", "strategy", "timing", "configuration"},
    "numbers": {"metrics", "curves", "labels", "numbers", "losses", "data", "strategy", "timing", "configuration"},
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run folder of each kind; that of texts was checked as well."""
    root = tmp_path_factory.mktemp("runs")
    folders = {kind: make_run(root / kind, kind) for kind in KINDS}
    (folders["text"] / "check.json").write_text(json.dumps(CHECK))
    return folders


@pytest.fixture(scope="module")
def pages(runs):
    """With their figures: tests of pages are marked ``drawing``."""
    return {kind: write_report(folder).read_text(encoding="utf-8") for kind, folder in runs.items()}


@pytest.fixture
def bare(tmp_path):
    """A run folder with nothing in it but an evaluation without content."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "evaluation.json").write_text('{"task": "text-classification"}')
    return folder


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, flags=re.DOTALL))


def cells(html: str) -> list[list[str]]:
    """The text of the cells of every table row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)]
        for row in rows
    ]  # fmt: skip


@pytest.mark.drawing
@pytest.mark.parametrize("kind", SECTIONS)
def test_each_kind_of_label_has_its_sections_and_links_to_them(pages, kind):
    assert set(sections(pages[kind])) == SECTIONS[kind]
    assert set(re.findall(r'href="#(\w+)">', pages[kind])) == SECTIONS[kind]


@pytest.mark.drawing
def test_the_headline_says_value_interval_floor_baseline_and_verdict(pages, runs):
    e = json.loads((runs["image"] / "evaluation.json").read_text())["headline"]
    head = pages["image"].split("<nav")[0]
    for value in (e["value"], *e["interval"], e["floor"]["value"], e["baseline"]["value"], e["baseline"]["difference"]):
        assert f"{value:.3f}" in head
    assert e["verdict"] in head
    assert "tf-idf and logistic regression" in head
    assert "majority accuracy" in head


@pytest.mark.drawing
def test_metrics_stand_beside_interval_and_baseline(pages):
    rows = cells(sections(pages["text"])["metrics"])
    assert rows[0] == ["metric", "test", "95 % interval", "baseline"]
    assert rows[-1] == ["loss", "0.4123", "–", "–"]
    assert cells(sections(pages["numbers"])["metrics"])[2] == ["mse", "1,624", "–"]


@pytest.mark.drawing
def test_few_classes_are_a_table_and_many_a_image(pages, runs):
    matrix = json.loads((runs["image"] / "evaluation.json").read_text())["confusion"]["matrix"]
    rows = cells(sections(pages["image"])["confusion"])
    assert [row[1:] for row in rows[1:7]] == [[str(n) for n in row] for row in matrix]
    many = sections(pages["many"])["confusion"]
    assert "<svg" in many
    assert 'aria-label="Confusion of 77 classes' in many
    assert len(cells(many)) == 9  # the most confused pairs


@pytest.mark.drawing
def test_labels_are_numbered_in_their_order(pages):
    rows = cells(sections(pages["many"])["labels"])[1:]
    assert [row[:2] for row in rows] == [[str(i + 1), name] for i, name in enumerate(BANKING)]
    several = cells(sections(pages["several"])["labels"])
    assert several[0] == ["#", "label", "F1", "precision", "recall", "support", "threshold"]
    assert several[1][-1] == "0.350"


@pytest.mark.drawing
def test_other_sections_hold_their_figures(pages):
    text = sections(pages["text"])
    assert cells(text["calibration"])[1:] == [
        ["before temperature", "0.0912", "0.2101"],
        ["after temperature", "0.0213", "0.1902"],
    ]
    assert "Temperature 1.731" in text["calibration"]
    assert ["web", "100", "0.900 0.850 – 0.940", "0.880"] in cells(text["slices"])
    assert ["train", "3,360"] in cells(text["data"])
    assert "3 rows were skipped" in text["data"]
    assert "leak-exact" in text["check"]
    assert ["head", "592,130", "1.00e-03", "1.80e-05"] in cells(text["strategy"])
    assert ["embeddings", "23,837,184", "frozen", "4.58e-06"] in cells(text["strategy"])
    assert ["peak memory", "3.40 GB"] in cells(text["timing"])
    assert ["train", "5.9 min"] in cells(text["timing"])
    assert "num_train_epochs: 3" in text["configuration"]
    assert "hf-finetune train text-classification \\\n    --config config.yaml" in text["configuration"]
    assert "/home/ann/.venv" not in text["configuration"]
    assert "none</bdi>" in sections(pages["several"])["losses"]
    assert "correlation 0.97" in sections(pages["numbers"])["numbers"]


@pytest.mark.drawing
def test_everything_from_data_is_escaped(pages):
    for page in pages.values():
        assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;quoted&#34;" in pages["text"]


def test_a_image_that_is_no_image_is_left_out(runs, tmp_path):
    folder = shutil.copytree(runs["image"], tmp_path / "run")
    path = folder / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["top_losses"][0]["image"] = "https://example.org/spy.gif"
    path.write_text(json.dumps(evaluation))
    assert "example.org" not in report_page(folder)


def test_a_sound_can_be_played_and_comes_from_nowhere_else(runs, tmp_path):
    folder = shutil.copytree(runs["image"], tmp_path / "run")
    path = folder / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["top_losses"][0] |= {"image": None, "audio": "data:audio/wav;base64,UklGRg=="}
    evaluation["top_losses"][1]["audio"] = "https://example.org/spy.wav"
    path.write_text(json.dumps(evaluation))
    page = report_page(folder)
    assert page.count('src="data:audio/wav;base64,UklGRg==">') == 1
    assert "example.org" not in page


@pytest.mark.drawing
def test_the_page_names_no_address_to_load_from(pages):
    for page in pages.values():
        without_names = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
        assert not re.findall(r"https?://", without_names)
        assert not re.findall(r'(?:src|xlink:href|href)="(?!data:|#)', without_names)


@pytest.mark.drawing
@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_images_in_words_and_their_ids_are_their_own(pages, kind):
    figures = re.findall(r'<figure role="img" aria-label="([^"]+)">(.*?)</figure>', pages[kind], re.DOTALL)
    assert len(figures) == pages[kind].count("<figure") >= 5
    ids = []
    for words, content in figures:
        assert re.search(r"\d", words)
        svg = ElementTree.fromstring(content[content.index("<svg") :])
        ids += [element.get("id") for element in svg.iter() if element.get("id")]
        assert "#0000" not in content  # every colour is the page's
    assert len(ids) == len(set(ids))


@pytest.mark.drawing
def test_the_same_run_gives_the_same_page(runs, pages):
    for kind in ("many", "numbers"):
        assert report_page(runs[kind]) == pages[kind]


def test_what_a_run_does_not_have_is_left_out(bare):
    page = report_page(bare)
    assert set(sections(page)) == {"configuration"}
    assert "<figure" not in page
    assert 'class="headline"' not in page


def test_a_broken_number_is_a_dash_and_no_figure(bare):
    headline = {
        "metric": "auroc",
        "value": float("nan"),
        "interval": None,
        "floor": None,
        "baseline": None,
        "verdict": ".",
    }
    content = {
        "task": "t",
        "headline": headline,
        "metrics": [{"name": "auroc", "value": float("nan"), "interval": None}],
    }
    (bare / "evaluation.json").write_text(json.dumps(content))
    page = report_page(bare)
    assert "<strong>–</strong>" in page
    assert "<figure" not in page


def test_a_public_page_shows_no_local_path(runs):
    folder = runs["text"]
    assert "/home/ann" in report_page(folder)
    page = report_page(folder, public=True)
    assert "/home/ann" not in page
    assert "train_file: reviews.csv" in page
    assert "google-bert/bert-base-uncased" in page
    assert "The run was started with" not in page


@pytest.mark.parametrize("delimiter", ["\\", "a\\b", "/"])
def test_a_public_page_keeps_settings_with_a_backslash_or_a_slash(runs, tmp_path, delimiter):
    folder = shutil.copytree(runs["text"], tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"label_delimiter": delimiter, "test_file": "/home/ann/a\\b.csv"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    page = report_page(folder, public=True)
    assert "/home/ann" not in page
    assert "test_file: a\\b.csv" in page
    assert f"label_delimiter: {delimiter}" in page


# The history


def test_epochs_are_counted_through_the_phases():
    history = [
        {"phase": "head", "epoch": 1.0, "loss": 0.5},
        {"phase": "head", "epoch": 2.0, "loss": 0.4},
        {"phase": "full", "epoch": 1.0, "loss": 0.3},
        {"phase": "full", "epoch": 1.0, "eval_loss": 0.35},
    ]
    assert phases_of(history) == [(0.0, "head"), (2.0, "full")]
    assert points_of(history, "loss") == [(1.0, 0.5), (2.0, 0.4), (3.0, 0.3)]
    assert points_of(history, "eval_loss") == [(3.0, 0.35)]
    assert [drawing.key for drawing in draw_curves(history, "accuracy")] == ["loss"]
    assert "training: from 0.5 to 0.3 at epoch 3" in draw_curves(history, "accuracy")[0].words


def test_the_metric_is_another_where_the_validation_rows_were_not_judged_by_it():
    history = [{"phase": "full", "epoch": 1.0, "eval_loss": 0.3, "eval_runtime": 2.0, "eval_f1_macro": 0.8}]
    assert draw_curves(history, "accuracy")[1].title == "f1_macro (validation)"


def test_numbers_that_are_none_are_not_drawn():
    history = [{"phase": "full", "epoch": 1.0, "loss": float("nan")}, {"phase": "full", "epoch": 2.0, "loss": 0.2}]
    assert points_of(history, "loss") == [(2.0, 0.2)]
    assert draw_curves([], "accuracy") == []


# The command and bad input


def test_the_command_writes_and_names_the_page(runs, tmp_path, capsys):
    output = tmp_path / "new" / "page.html"
    assert hf_finetune(["report", str(runs["text"]), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == f"Report: {output}"
    assert output.read_text(encoding="utf-8") == report_page(runs["text"])
    assert [path.name for path in output.parent.iterdir()] == ["page.html"]


def test_folders_that_are_no_run_are_refused(tmp_path, capsys):
    assert hf_finetune(["report", str(tmp_path / "absent")]) == 2
    assert "this is not a finished run" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"there is no evaluation\.json"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluation.json", "{", "cannot be read"),
        ("evaluation.json", "[]", "an object"),
        ("history.json", "{}", "a list"),
        ("metrics.json", "\xff", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_named_and_the_page_stays(bare, name, content, message):
    (bare / "report.html").write_text("before")
    (bare / name).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        write_report(bare)
    assert caught.value.where.endswith(name)
    assert (bare / "report.html").read_text() == "before"


def test_a_page_that_cannot_be_written_is_a_mistake(bare, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(bare, tmp_path / "file" / "page.html")
