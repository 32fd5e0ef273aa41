"""Pictures as their files have them: what cannot be read, what is not plain 8-bit RGB, and what is of an odd size."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.checks.finding import MOST_NAMED, Section, Severity, Table, draw, percent
from hf_finetune.data import Splits

if TYPE_CHECKING:
    from PIL import Image

MOST_PICTURES = 200_000  # of a split that are looked at
_SIDE = 16


@dataclass(frozen=True)
class PictureFacts:
    """What a file says of its picture.

    Args:
        width: in pixels, before turning; 0 where the header cannot be read.
        height: likewise.
        mode: Pillow's name of the pixel format.
        format: Pillow's name of the file format.
        frames: more than 1 in an animation.
        has_alpha: whether pixels may be transparent.
        exif_orientation: 1 is upright.
        error: why it cannot be read; empty if it can.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    frames: int = 1
    has_alpha: bool = False
    exif_orientation: int = 1
    error: str = ""


@dataclass
class Looks:
    """What was seen of the pictures of a split: rows that were looked at, facts, and what near duplicates are told by.

    ``hashes`` are uint64 of shape (rows,), ``thumbnails`` uint8 of shape (rows, 16, 16); zeros where a picture cannot be
    read.
    """

    rows: np.ndarray
    facts: list[PictureFacts]
    hashes: np.ndarray
    thumbnails: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """Whether each can be read, shape (rows,)."""
        return np.array([not each.error for each in self.facts], dtype=bool)


def picture_facts(cell: Any) -> PictureFacts:
    """Read the header of one picture; the pixels are not decoded. Raises nothing: what is wrong is in ``error``."""
    return _look(cell, decode=False)[0]


def look_at(splits: Splits) -> dict[str, Looks]:
    """Decode every picture of every split once, at low resolution, in threads."""
    return {name: _look_at(split) for name, split in splits.items()}


def _look_at(split: Any) -> Looks:
    from PIL import Image

    rows = draw(len(split), MOST_PICTURES)
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=4) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is among the facts
        warnings.filterwarnings("ignore", module="PIL")
        seen = list(pool.map(lambda row: _look(split[int(row)]["image"]), rows))
    return Looks(
        rows,
        [facts for facts, _, _ in seen],
        np.array([code for _, code, _ in seen], dtype=np.uint64),
        np.array([small for _, _, small in seen], dtype=np.uint8),
    )


def _look(cell: Any, *, decode: bool = True) -> tuple[PictureFacts, int, np.ndarray]:
    from PIL import ExifTags, Image, ImageOps

    nothing = np.zeros((_SIDE, _SIDE), dtype=np.uint8)
    if cell is None or (isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path") is None):
        return PictureFacts(error="no image"), 0, nothing
    facts = PictureFacts()
    try:
        with Image.open(_source(cell)) as picture:
            facts = PictureFacts(*picture.size, picture.mode, picture.format or "")
            facts = PictureFacts(
                *picture.size,
                picture.mode,
                picture.format or "",
                getattr(picture, "n_frames", 1),
                picture.has_transparency_data,
                picture.getexif().get(ExifTags.Base.Orientation, 1),
            )
            if not decode:
                return facts, 0, nothing
            picture.draft("RGB", (64, 64))
            picture.load()
            grey = _grey(ImageOps.exif_transpose(picture) or picture)
            return facts, _dhash(grey), np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX))
    except (*_BROKEN, Image.DecompressionBombError) as error:
        return PictureFacts(facts.width, facts.height, facts.mode, facts.format, error=_words(error)), 0, nothing


# What Pillow's decoders raise on broken files.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, OverflowError, struct.error, zlib.error)


def _source(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    return io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else cell["path"]


def _words(error: BaseException) -> str:
    """What Pillow says, without the address of the object that the bytes were read from."""
    said = str(error).split(" <_io.BytesIO")[0].strip()
    return said or type(error).__name__


def _grey(picture: Image.Image) -> Image.Image:
    """8-bit grey; pixels of more than 8 bits are scaled to their own range."""
    from PIL import Image

    if picture.mode[:1] in ("I", "F"):
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        low, high = values.min(), values.max()
        return Image.fromarray((255 * (values - low) / (high - low or 1)).astype(np.uint8))
    return picture.convert("RGB").convert("L")


def _dhash(grey: Image.Image) -> int:
    """64 bits: whether each of 8 by 8 cells is darker than its right neighbour (dHash, Krawetz 2013)."""
    from PIL import Image

    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")


def check_pictures(splits: Splits, looks: dict[str, Looks], on_bad_image: str) -> Section:
    """Sizes, formats and oddities of the pictures of every split."""
    section = Section("Pictures", "pictures")
    rows = []
    for name, split in splits.items():
        seen = looks[name]
        if len(seen.rows) < len(split):
            section.sentences.append(
                f"{len(seen.rows):,} of {len(split):,} pictures of the {name} split were looked at."
            )
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
    section.tables.append(Table("", ("split", "pictures", "shorter side: lowest / median / highest", "kinds"), rows))
    return section


def _report(section: Section, name: str, split: Any, seen: Looks, on_bad_image: str) -> None:
    """Findings of one split."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS or 2**63
    bad: Severity = "warning" if on_bad_image == "skip" else "error"
    skip = "mend or remove them; training can drop them with --on_bad_image skip."
    bombs = lambda f: "decompression bomb" in f.error  # noqa: E731
    broken = lambda f: bool(f.error) and not bombs(f)  # noqa: E731
    kinds: list[tuple[str, Severity, Any, str, str]] = [
        ("picture-bomb", bad, bombs, "are so large that decoding them is refused", skip),
        ("picture-truncated", bad, lambda f: broken(f) and f.width > 0, "are cut short or damaged", skip),
        ("picture-unreadable", bad, lambda f: broken(f) and not f.width, "cannot be read", skip),
        (
            "picture-huge",
            "warning",
            lambda f: f.width * f.height > limit,
            "have more pixels than is safe",
            "reduce them.",
        ),
        (
            "picture-thin",
            "warning",
            lambda f: f.width and min(f.width, f.height) == 1,
            "are one pixel wide",
            "remove them.",
        ),
        ("picture-16-bit", "info", lambda f: f.mode[:1] in ("I", "F"), "have more than 8 bits a pixel", _LOOK),
        ("picture-cmyk", "info", lambda f: f.mode in ("CMYK", "YCCK"), "are CMYK", _LOOK),
        ("picture-palette", "info", lambda f: f.mode in ("P", "PA", "1"), "have a palette", _LOOK),
        ("picture-alpha", "info", lambda f: f.has_alpha, "have transparent pixels", _LOOK),
        ("picture-animated", "info", lambda f: f.frames > 1, "are animated", "the first frame is read."),
        ("picture-turned", "info", lambda f: f.exif_orientation in range(2, 9), "are turned by their EXIF data", _TURN),
    ]
    for code, severity, wanted, what, fix in kinds:
        places = [i for i, facts in enumerate(seen.facts) if wanted(facts)]
        if not places:
            continue
        ids = split.select([int(seen.rows[i]) for i in places[:MOST_NAMED]])["id"][:]
        reasons = [seen.facts[i].error for i in places]
        named = [f"{own} ({reason})" if reason else own for own, reason in zip(ids, reasons, strict=False)]
        share = percent(len(places), len(seen.facts))
        message = f"{len(places):,} of {len(seen.facts):,} pictures ({share}) {what}"
        section.add(code, severity, message, where=f"{name} split", rows=named, fix=fix)


_LOOK = "they are converted to 8-bit RGB; look at a few as the model sees them."
_TURN = "they are turned upright before the model sees them; nothing to do."
