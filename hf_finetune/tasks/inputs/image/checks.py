"""Check image files: unreadable ones, ones that are not 8-bit RGB, unusual sizes, and near duplicates."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.images.decode import DECODE_FAULTS, ImageFacts, describe_fault, image_facts, open_reduced
from hf_finetune.data.rows.columns import IMAGE_NAMES
from hf_finetune.data.rows.duplicates import similar_pairs
from hf_finetune.data.rows.finding import Section, Table, draw
from hf_finetune.tasks.inputs.files import Inspected, Oddities, add_findings, readable_rows, without_unreadable

MOST_IMAGES = 200_000  # per split to inspect
MOST_DISTANCE = 3  # differing bits of 64 between the hashes of near duplicates
_NEIGHBOURS = 30  # images with the same quarter of the hash to compare an image with
_SIDE = 16


def why_column(config: DataConfig, own: str, number: int) -> str:
    if config.image_column:
        return "named by --image_column"
    return "a usual name of images" if own.strip().lower() in IMAGE_NAMES else "the only column of images"


@dataclass(frozen=True)
class Looks(Inspected):
    """Facts about inspected images of a split, with hashes and thumbnails (0 for unreadable images) to find near duplicates."""

    hashes: np.ndarray  # uint64 of shape (rows,)
    thumbnails: np.ndarray  # uint8 of shape (rows, 16, 16)


@dataclass(frozen=True)
class ImageInspection:
    """The findings in the images of all splits."""

    section: Section
    splits: Splits  # without unreadable images
    looks: dict[str, Looks]  # of the original splits

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        return readable_rows(self.looks, rows)

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        places = [(self.looks[name], group["place"].to_numpy()) for name, group in rows.groupby("split", sort=False)]
        hashes = np.concatenate([looks.hashes[place] for looks, place in places])
        thumbnails = np.concatenate([looks.thumbnails[place] for looks, place in places])
        return near_images(hashes, thumbnails)

    def add_processor(self, processor: Any) -> None:
        pass


def inspect(splits: Splits, config: DataConfig) -> ImageInspection:
    say("Looking at the images.")
    looks = {name: _look_at(split) for name, split in splits.items()}
    return ImageInspection(_section(splits, looks, config.on_bad_image), without_unreadable(splits, looks), looks)


def _look_at(split: Any) -> Looks:
    """Return facts about the images of a split, decoded once at low resolution in threads."""
    rows = draw(len(split), MOST_IMAGES)
    with ThreadPoolExecutor(max_workers=4) as pool:
        seen = list(pool.map(lambda row: _look(split[int(row)]["image"]), rows))
    hashes = np.array([code for _, code, _ in seen], dtype=np.uint64)
    thumbnails = np.array([small for _, _, small in seen], dtype=np.uint8)
    return Looks(rows, [facts for facts, _, _ in seen], hashes, thumbnails)


def _look(cell: Any) -> tuple[ImageFacts, int, np.ndarray]:
    facts, nothing = image_facts(cell), np.zeros((_SIDE, _SIDE), dtype=np.uint8)
    if facts.error:
        return facts, 0, nothing
    try:
        grey = open_reduced(cell, 4 * _SIDE).convert("L")
    except DECODE_FAULTS as error:
        return replace(facts, error=describe_fault(error)), 0, nothing
    # 64 bits: whether each of 8 × 8 cells is darker than its right neighbour (dHash, Krawetz 2013).
    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    code = int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")
    return facts, code, np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def near_images(hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return pairs of images whose hashes differ in few bits and whose thumbnails are similar.

    Equal parts of the hashes give candidates. Pairs are row numbers of shape (pairs, 2), the smaller first.
    """
    small = thumbnails.reshape(len(thumbnails), -1)

    def similar(pairs: np.ndarray) -> np.ndarray:
        left, right = pairs.T
        close = np.bitwise_count(hashes[left] ^ hashes[right]) <= MOST_DISTANCE
        a, b = (small[rows[close]].astype(np.int16) for rows in (left, right))
        contrast = np.minimum(a.std(axis=1), b.std(axis=1))
        close[close] = np.abs(a - b).mean(axis=1) <= 1 + 0.1 * contrast
        return close

    # Hashes that differ in 3 bits agree in at least one quarter.
    quarters = ((hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF) for band in range(MOST_DISTANCE + 1))
    return similar_pairs(quarters, _NEIGHBOURS, similar, hashes)


def _section(splits: Splits, looks: dict[str, Looks], on_bad_image: str) -> Section:
    """Return the section on images: sizes, formats and oddities in every split."""
    section = Section("Images", "images")
    table = []
    for name, split in splits.items():
        seen = looks[name]
        add_findings(section, name, split, seen, on_bad_image, _ODD)
        good = [facts for facts in seen.facts if not facts.error]
        if not good:
            continue
        shorter = np.sort([min(facts.width, facts.height) for facts in good])
        kinds = sorted({f"{facts.format} {facts.mode}" for facts in good})
        spread = f"{shorter[0]} / {shorter[len(shorter) // 2]} / {shorter[-1]}"
        table.append((name, f"{len(seen.rows):,}", spread, ", ".join(kinds)))
        section.facts[name] = {
            "looked_at": len(seen.rows),
            "shorter_side": {"lowest": int(shorter[0]), "median": int(np.median(shorter)), "highest": int(shorter[-1])},
            "kinds": kinds,
        }
    section.tables.append(Table("", ("split", "images", "shorter side: lowest / median / highest", "kinds"), table))
    return section


def _is_broken(facts: ImageFacts) -> bool:
    return bool(facts.error) and _BOMB not in str(facts.error)


def _is_huge(facts: ImageFacts) -> bool:
    return facts.width * facts.height > (Image.MAX_IMAGE_PIXELS or 2**63)


_BOMB = "decompression bomb"
_SKIP = "fix or remove them; training can drop them with --on_bad_image skip."
_LOOK = "they are converted to 8-bit RGB; look at a few as the model sees them."
_TURN = "they are turned upright before the model sees them; nothing to do."
_ODD: Oddities = {
    "image-bomb": ("error", lambda f: _BOMB in (f.error or ""), "are so large that decoding them is refused", _SKIP),
    "image-truncated": ("error", lambda f: _is_broken(f) and f.width, "are cut short or damaged", _SKIP),
    "image-unreadable": ("error", lambda f: _is_broken(f) and not f.width, "cannot be read", _SKIP),
    "image-huge": ("warning", _is_huge, "have more pixels than is safe", "reduce them."),
    "image-thin": ("warning", lambda f: f.width == 1 or f.height == 1, "are one pixel wide", "remove them."),
    "image-16-bit": ("info", lambda f: f.bits > 8, "have more than 8 bits a pixel", _LOOK),
    "image-cmyk": ("info", lambda f: f.mode in ("CMYK", "YCCK"), "are CMYK", _LOOK),
    "image-palette": ("info", lambda f: f.mode in ("P", "PA", "1"), "have a palette", _LOOK),
    "image-alpha": ("info", lambda f: f.has_alpha, "have transparent pixels", _LOOK),
    "image-animated": ("info", lambda f: f.frames > 1, "are animated", "the first frame is read."),
    "image-turned": ("info", lambda f: f.exif_orientation in range(2, 9), "are turned by their EXIF data", _TURN),
}
