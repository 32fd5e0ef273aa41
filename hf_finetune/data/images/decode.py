"""One image, opened as viewers show it: upright, in RGB, first frame, 16 bits brought to 8; and what it is."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

Cell = dict[str, Any] | str | None
"""An image as ``datasets`` stores it (``{"bytes", "path"}``), or a path; None if a row has no image."""

# Read on opening, these would run a program (EPS, WMF), open a second file inside the first (IPTC), or are not images
# but names that Pillow knows (the rest).
REFUSED_FORMATS = frozenset({"EPS", "WMF", "IPTC", "MPEG", "BUFR", "GRIB", "HDF5"})
NO_IMAGE = "no image"
# All that Pillow's decoders raise on broken files; the last is an image beyond ``2 × Image.MAX_IMAGE_PIXELS``.
DECODE_FAULTS: tuple[type[Exception], ...] = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, RuntimeError,
    AttributeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_TRANSPOSE = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation → Pillow's Image.Transpose

# Pillow warns of broken EXIF data, odd TIFF tags and large images, once a file. What matters is an error and named by
# the audit. The rule is global because the threads that decode share the list of rules.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL(\.|$)")
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"PIL(\.|$)")


def open_image(cell: Cell) -> Image.Image:
    """Decode one image to RGB, turned as EXIF says; of animations and documents the first frame.

    The pixels are those of ``transformers.image_utils.load_image``, so that ``pipeline()`` sees what was trained on:
    transparency is dropped, not laid over a colour. Pixels differ only where ``load_image`` loses the image:

    - 16-bit grey is scaled to 8 bits; ``load_image`` makes everything above 255 white.
    - 32-bit grey and floating-point images with values beyond 0 to 255, and floats within 0 to 1, are scaled.
    - Broken EXIF data and L*a*b* colours are read; ``load_image`` raises.

    Raises:
        One of ``DECODE_FAULTS``: the file is broken, of an unknown kind, or declares more than 179 million pixels.
    """
    with _opened(cell) as image:
        image.load()
        return _upright(_to_rgb(image), _orientation(image))


def open_reduced(cell: Cell, edge: int) -> Image.Image:
    """As :func:`open_image`, with the shorter edge reduced to ``edge`` pixels; a smaller image stays as it is.

    A JPEG is decoded near that size at once, which spares most of the work on a large photograph.

    Raises:
        One of ``DECODE_FAULTS``, as :func:`open_image`.
    """
    with _opened(cell) as image:
        shape, size = image.size, _reduce(image.size, edge)
        image.draft("RGB", size)
        image.load()
        orientation = _orientation(image)
        upright = _upright(_to_rgb(image), orientation)
    if size == shape:
        return upright
    return upright.resize(size[::-1] if orientation >= 5 else size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def reduced_size(cell: Cell, edge: int) -> tuple[int, int] | None:
    """Width and height that :func:`open_reduced` gives, before turning, from the file's header; None if it has none."""
    try:
        with _opened(cell) as image:
            return _reduce(image.size, edge)
    except DECODE_FAULTS:
        return None


def decode_fault(cell: Cell) -> str | None:
    """Why an image cannot be used for training, in a few words; None if it can. Decoded at low resolution."""
    if _is_empty(cell):
        return NO_IMAGE
    try:
        with _opened(cell) as image:
            image.draft("RGB", (32, 32))  # JPEG: reads the whole stream, but computes an eighth of the pixels
            image.load()
            if image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK"):  # these convert always
                _to_rgb(image)
    except DECODE_FAULTS as error:
        return describe_fault(error)
    return None


def _is_empty(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path") is None)


def describe_fault(error: Exception) -> str:
    """What Pillow says of a file, in one line that is the same in every run."""
    if isinstance(error, UnidentifiedImageError):  # its own words hold the path, or the address of a buffer
        return "cannot identify image file: empty, or no format that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return f"decompression bomb: {str(error).split(',')[0]}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


@dataclass(frozen=True)
class ImageFacts:
    """What the file of an image is; for a broken one the facts of its header, or zero."""

    width: int = 0  # before turning
    height: int = 0
    mode: str = ""  # Pillow's name of the kind of pixel, e.g. ``RGB``, ``I;16``, ``CMYK``, ``P``
    format: str = ""  # e.g. ``JPEG``
    frames: int = 0  # of an animation or a document of several pages; 1 otherwise
    bits: int = 0  # a channel, in the file
    has_alpha: bool = False  # some pixels may be transparent
    exif_orientation: int = 1  # 1 to 8; 1 is upright, and where nothing is said
    error: str | None = None  # why the image cannot be used; None if it can


def image_facts(cell: Cell) -> ImageFacts:
    """What an image is, from its header; raises nothing for a broken one."""
    if _is_empty(cell):
        return ImageFacts(error=NO_IMAGE)
    try:
        with _opened(cell) as image:
            return ImageFacts(
                *image.size,
                mode=image.mode,
                format=image.format or "",
                bits=_bits(image),
                has_alpha=image.has_transparency_data,
                frames=_frames(image),
                exif_orientation=_orientation(image),
            )
    except DECODE_FAULTS as error:
        return ImageFacts(error=describe_fault(error))


def _opened(cell: Cell) -> Image.Image:
    """The header of an image; its pixels are decoded on ``load()``."""
    source: Any = cell
    if isinstance(cell, dict):
        source = io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else cell["path"]
    image = Image.open(source)
    if image.format in REFUSED_FORMATS:
        image.close()
        raise OSError(f"files of the format {image.format} are not read")
    return image


def _reduce(size: tuple[int, int], edge: int) -> tuple[int, int]:
    scale = edge / min(size)
    return size if scale >= 1 else (round(size[0] * scale), round(size[1] * scale))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_FAULTS:  # only the EXIF data are broken; the pixels are fine
        return 1
    return found if isinstance(found, int) and found in _TRANSPOSE else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(Image.Transpose(_TRANSPOSE[orientation])) if orientation in _TRANSPOSE else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image in RGB. Pillow's JPEG decoder has put Adobe's inverted CMYK right."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _grey_levels(image)
        return (image if grey is None else Image.fromarray(grey)).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")  # type: ignore[return-value]
    image.info.pop("transparency", None)  # it would be dropped, with a warning each time
    return image.convert("RGB")


def _grey_levels(image: Image.Image) -> np.ndarray | None:
    """uint8 levels of an image of more than 8 bits, shape (height, width); None where its values are 0 to 255 as they are.

    16 bits are scaled by their type, like viewers do, whatever values occur. 32 bits and floats have no range of their
    own: it is read off the values, as 0 to 1, 8 bits, 16 bits, or else lowest to highest.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16") or _scaled_by_decoder(image):
        return _scaled(values, 0, 4095 if _sample_bits(image) == 12 else 65535)
    finite = values[np.isfinite(values)] if image.mode == "F" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and high <= 255:
        return _scaled(values, 0, 1) if image.mode == "F" and high <= 1 else None
    if low >= 0 and high <= 65535 and image.mode == "I":
        return _scaled(values, 0, 65535)
    return _scaled(values, low, high)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from ``low`` to ``high`` as 0 to 255, rounded; NaN becomes black."""
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint8)
    wide: Any = np.float32 if high - low <= 65535 else np.float64
    share: np.ndarray = (values.astype(wide) - low) * (255 / (high - low))
    return np.rint(np.nan_to_num(share, nan=0.0).clip(0, 255)).astype(np.uint8)


def _scaled_by_decoder(image: Image.Image) -> bool:
    """Portable greymaps of more than 8 bits: Pillow brings their values to 16 bits, in mode ``I``."""
    return (image.format, image.mode) == ("PPM", "I")


def _sample_bits(image: Any) -> int | None:
    """Bits of a channel as a TIFF file names them; None in other formats."""
    bits = image.tag_v2.get(ExifTags.Base.BitsPerSample) if hasattr(image, "tag_v2") else None
    return int(bits[0]) if bits else None


def _bits(image: Any) -> int:
    named = _sample_bits(image)
    if named:
        return named
    # "RGB;16B", say: Pillow decodes 16-bit colours to 8 bits, and only the name of the raw pixels tells.
    layout = str(image.tile[0].args) if getattr(image, "tile", None) else ""
    if ";16" in layout or image.mode.startswith("I;16") or _scaled_by_decoder(image):
        return 16
    return {"1": 1, "I": 32, "F": 32}.get(image.mode, 8)


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except DECODE_FAULTS:  # a later frame is broken: the first, which is used, may be whole
        return 1


def unreadable_images(split: Dataset, indices: list[int]) -> list[tuple[int, str]]:
    """Those of the rows that cannot be decoded, with what Pillow says. Decoding runs in threads, at low resolution."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        faults = pool.map(lambda index: decode_fault(split[index]["image"]), indices)
        return [(index, fault) for index, fault in zip(indices, faults, strict=True) if fault]


def image_endings() -> frozenset[str]:
    """The endings, in small letters and with their dots, of the formats that are read."""
    kinds = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in kinds if kind in Image.OPEN and kind not in REFUSED_FORMATS)
