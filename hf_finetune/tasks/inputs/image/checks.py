"""Check image files: unreadable ones, ones that are not 8-bit RGB, and unusual sizes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.images.decode import ImageFacts, decode_faults, describe_fault, image_facts, open_reduced
from hf_finetune.data.rows.columns import IMAGE_NAMES
from hf_finetune.data.rows.finding import MOST_NAMED, Section, Severity, Table, draw, percent
from hf_finetune.tasks.inputs.image.near import near_images

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

MOST_IMAGES = 200_000  # per split to inspect
_SIDE = 16


@dataclass
class Looks:
    """Facts about inspected images of a split, with hashes and thumbnails to find near duplicates.

    ``hashes`` are uint64 of shape (rows,), ``thumbnails`` uint8 of shape (rows, 16, 16); both are 0 for unreadable images.
    """

    rows: np.ndarray
    facts: list[ImageFacts]
    hashes: np.ndarray
    thumbnails: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """Return whether each image can be read, shape (rows,)."""
        return np.array([not each.error for each in self.facts], dtype=bool)


def why_column(config: DataConfig, own: str, number: int) -> str:
    """Return why a column is read; ``number`` is its place among the input columns."""
    if config.image_column:
        return "named by --image_column"
    return "a usual name of images" if own.strip().lower() in IMAGE_NAMES else "the only column of images"


@dataclass(frozen=True)
class ImageInspection:
    """The findings in the images of all splits.

    Args:
        section: the section of ``check``.
        splits: the splits without unreadable images; a held-out split without any other is left out.
        looks: facts about each image of the original splits.
    """

    section: Section
    splits: Splits
    looks: dict[str, Looks]

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows (``split``, ``row``) with inspected, readable images; ``place`` is their index in ``looks``."""
        import pandas as pd

        seen = [
            pd.DataFrame({"split": name, "row": each.rows, "place": np.arange(len(each.rows))})[each.readable]
            for name, each in self.looks.items()
        ]
        return rows.merge(pd.concat(seen, ignore_index=True), on=["split", "row"], how="inner")

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        """Return pairs of near duplicates as positions in ``rows``, shape (pairs, 2)."""
        names = rows["split"].unique()
        places = {name: rows.loc[rows["split"] == name, "place"].to_numpy() for name in names}
        hashes = np.concatenate([self.looks[name].hashes[places[name]] for name in names])
        thumbnails = np.concatenate([self.looks[name].thumbnails[places[name]] for name in names])
        return near_images(hashes, thumbnails)

    def add_processor(self, processor: Any) -> None:
        """Add nothing: no findings depend on the image processor."""


def inspect(splits: Splits, config: DataConfig) -> ImageInspection:
    """Inspect every image."""
    say("Looking at the images.")
    looks = look_at(splits)
    section = check_images(splits, looks, config.on_bad_image)
    kept: dict[str, Any] = {}
    for name, split in splits.items():
        gone = looks[name].rows[~looks[name].readable]
        rows = np.setdiff1d(np.arange(len(split)), gone)
        kept[name] = split.select(rows) if len(rows) or name == "train" else None
    return ImageInspection(section, replace(splits, **kept), looks)


def look_at(splits: Splits) -> dict[str, Looks]:
    """Return facts about every image of every split, decoded once at low resolution in threads."""
    return {name: _look_at(split) for name, split in splits.items()}


def _look_at(split: Any) -> Looks:
    rows = draw(len(split), MOST_IMAGES)
    with ThreadPoolExecutor(max_workers=4) as pool:
        seen = list(pool.map(lambda row: _look(split[int(row)]["image"]), rows))
    return Looks(
        rows,
        [facts for facts, _, _ in seen],
        np.array([code for _, code, _ in seen], dtype=np.uint64),
        np.array([small for _, _, small in seen], dtype=np.uint8),
    )


def _look(cell: Any) -> tuple[ImageFacts, int, np.ndarray]:
    from PIL import Image

    facts, nothing = image_facts(cell, decode=False), np.zeros((_SIDE, _SIDE), dtype=np.uint8)
    if facts.error:
        return facts, 0, nothing
    try:
        grey = open_reduced(cell, 4 * _SIDE).convert("L")
    except decode_faults() as error:
        return replace(facts, error=describe_fault(error)), 0, nothing
    return facts, _dhash(grey), np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _dhash(grey: Image.Image) -> int:
    """Return 64 bits: whether each of 8 × 8 cells is darker than its right neighbour (dHash, Krawetz 2013)."""
    from PIL import Image

    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")


def check_images(splits: Splits, looks: dict[str, Looks], on_bad_image: str) -> Section:
    """Return the section on images: sizes, formats and oddities in every split."""
    section = Section("Images", "images")
    rows = []
    for name, split in splits.items():
        seen = looks[name]
        if len(seen.rows) < len(split):
            section.sentences.append(f"{len(seen.rows):,} of {len(split):,} images of the {name} split were looked at.")
        good = [facts for facts in seen.facts if not facts.error]
        if not good:
            continue
        sizes = np.array([(facts.width, facts.height) for facts in good])
        kinds = ", ".join(sorted({f"{facts.format} {facts.mode}" for facts in good}))
        shorter = np.sort(sizes.min(axis=1))
        spread = f"{shorter[0]} / {shorter[len(shorter) // 2]} / {shorter[-1]}"
        rows.append((name, f"{len(seen.rows):,}", spread, kinds))
        section.facts[name] = {
            "looked_at": len(seen.rows),
            "shorter_side": {"lowest": int(shorter[0]), "median": int(np.median(shorter)), "highest": int(shorter[-1])},
            "kinds": kinds.split(", "),
        }
        _report(section, name, split, seen, on_bad_image)
    for name, split in splits.items():
        if name not in section.facts:
            _report(section, name, split, looks[name], on_bad_image)
    section.tables.append(Table("", ("split", "images", "shorter side: lowest / median / highest", "kinds"), rows))
    return section


def _report(section: Section, name: str, split: Any, seen: Looks, on_bad_image: str) -> None:
    """Add the findings of one split."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS or 2**63
    bad: Severity = "warning" if on_bad_image == "skip" else "error"
    skip = "fix or remove them; training can drop them with --on_bad_image skip."
    bombs = lambda f: "decompression bomb" in (f.error or "")  # noqa: E731
    broken = lambda f: bool(f.error) and not bombs(f)  # noqa: E731
    kinds: list[tuple[str, Severity, Any, str, str]] = [
        ("image-bomb", bad, bombs, "are so large that decoding them is refused", skip),
        ("image-truncated", bad, lambda f: broken(f) and f.width > 0, "are cut short or damaged", skip),
        ("image-unreadable", bad, lambda f: broken(f) and not f.width, "cannot be read", skip),
        (
            "image-huge",
            "warning",
            lambda f: f.width * f.height > limit,
            "have more pixels than is safe",
            "reduce them.",
        ),
        (
            "image-thin",
            "warning",
            lambda f: f.width and min(f.width, f.height) == 1,
            "are one pixel wide",
            "remove them.",
        ),
        ("image-16-bit", "info", lambda f: f.bits > 8, "have more than 8 bits a pixel", _LOOK),
        ("image-cmyk", "info", lambda f: f.mode in ("CMYK", "YCCK"), "are CMYK", _LOOK),
        ("image-palette", "info", lambda f: f.mode in ("P", "PA", "1"), "have a palette", _LOOK),
        ("image-alpha", "info", lambda f: f.has_alpha, "have transparent pixels", _LOOK),
        ("image-animated", "info", lambda f: f.frames > 1, "are animated", "the first frame is read."),
        ("image-turned", "info", lambda f: f.exif_orientation in range(2, 9), "are turned by their EXIF data", _TURN),
    ]
    for code, severity, wanted, what, fix in kinds:
        places = [i for i, facts in enumerate(seen.facts) if wanted(facts)]
        if not places:
            continue
        ids = split.select([int(seen.rows[i]) for i in places[:MOST_NAMED]])["id"][:]
        reasons = [seen.facts[i].error for i in places]
        named = [f"{own} ({reason})" if reason else own for own, reason in zip(ids, reasons, strict=False)]
        share = percent(len(places), len(seen.facts))
        message = f"{len(places):,} of {len(seen.facts):,} images ({share}) {what}"
        section.add(code, severity, message, where=f"{name} split", rows=named, fix=fix)


_LOOK = "they are converted to 8-bit RGB; look at a few as the model sees them."
_TURN = "they are turned upright before the model sees them; nothing to do."
