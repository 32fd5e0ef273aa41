"""One image: every kind of pixel as viewers show it, the same for pipelines, and broken files named, not crashed on."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image
from transformers.image_utils import load_image

from hf_finetune.data.images.decode import (
    DECODE_FAULTS,
    REFUSED_FORMATS,
    decode_fault,
    image_facts,
    open_image,
    open_reduced,
    reduced_size,
)

# pytest lifts the rule that the module sets; a test of its own looks at warnings
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FORMATS = [
    "PNG",
    "TIFF",
    "GIF",
    "BMP",
    "JPEG",
    "WEBP",
    "AVIF",
    "JPEG2000",
    "PPM",
    "TGA",
    "ICO",
    "PCX",
    "SGI",
    "DDS",
    "QOI",
    "MSP",
    "XBM",
]
MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA", "HSV"]


def encoded(image: Image.Image, kind="PNG", **options) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def noise(mode: str, size=(7, 5)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def writable() -> list[tuple[str, str]]:
    found = []
    for mode in MODES:
        for kind in FORMATS:
            try:
                encoded(noise(mode), kind, sizes=[(7, 5)])
            except (OSError, ValueError, KeyError):
                continue
            found.append((mode, kind))
    return found


WRITABLE = writable()


def grey_png(rows: list[bytes], bits: int, width: int) -> dict:
    """A grey PNG written by hand, so that no encoder of Pillow's stands between the values and the test."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return {"bytes": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""), "path": None}


def levels(cell) -> list[int]:
    pixels = np.asarray(open_image(cell))
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[0, :, 0].tolist()


# The promise: pipelines see the same pixels


def test_enough_kinds_of_file_are_tried():
    assert len(WRITABLE) > 60
    assert {mode for mode, _ in WRITABLE} == set(MODES)


@pytest.mark.parametrize(("mode", "kind"), WRITABLE, ids=lambda value: value)
def test_every_mode_and_format_gives_the_pixels_that_pipelines_see(mode, kind, tmp_path):
    file = tmp_path / f"image.{kind.lower()}"
    noise(mode).save(file, kind, sizes=[(7, 5)])  # of icons, whose own sizes are larger
    if (mode, kind) == ("YCbCr", "TIFF") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 cannot read the YCbCr TIFF that it writes")
    opened = open_image(str(file))
    assert (opened.mode, opened.size) == ("RGB", (7, 5))
    np.testing.assert_array_equal(opened, load_image(str(file)))
    np.testing.assert_array_equal(opened, open_reduced(str(file), 5))
    assert decode_fault(str(file)) is None


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])], ids=["one index", "an alpha each"])
def test_transparent_palettes_give_their_colours(transparency, tmp_path):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50, 1, 2, 3])
    image.save(tmp_path / "a.png", transparency=transparency)
    assert open_image(str(tmp_path / "a.png")).getpixel((0, 0)) == (200, 100, 50)
    np.testing.assert_array_equal(open_image(str(tmp_path / "a.png")), load_image(str(tmp_path / "a.png")))


def test_transparency_is_dropped_as_pipelines_drop_it():
    assert open_image(encoded(Image.new("RGBA", (1, 1), (10, 20, 30, 0)))).getpixel((0, 0)) == (10, 20, 30)
    assert open_image(encoded(Image.new("LA", (1, 1), (50, 0)))).getpixel((0, 0)) == (50, 50, 50)


def test_cmyk_is_read_as_adobe_writes_it_in_jpegs_and_as_it_is_in_tiffs():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    adobe = encoded(red, "JPEG", quality=100)
    assert b"Adobe" in adobe["bytes"]  # the inks are inverted in such a file
    np.testing.assert_allclose(open_image(adobe).getpixel((5, 5)), (255, 0, 0), atol=2)
    np.testing.assert_allclose(open_reduced(adobe, 4).getpixel((1, 1)), (255, 0, 0), atol=2)
    assert open_image(encoded(red, "TIFF")).getpixel((5, 5)) == (255, 0, 0)


# Where they differ, and why


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = [0, 128, 129, 257, 1000, 32768, 65278, 65535]
    cell = grey_png([struct.pack(">8H", *values)], 16, 8)
    assert levels(cell) == [0, 0, 1, 1, 4, 128, 254, 255]  # the value divided by 257, rounded
    (tmp_path / "a.png").write_bytes(cell["bytes"])
    assert np.asarray(load_image(str(tmp_path / "a.png")))[0, 3:, 0].tolist() == [255] * 5


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_16_bit_tiff_of_either_byte_order(mode):
    image = Image.new(mode, (3, 1))
    for x, value in enumerate([0, 25700, 65535]):
        image.putpixel((x, 0), value)
    assert levels(encoded(image, "TIFF")) == [0, 100, 255]


def test_a_dark_16_bit_image_stays_dark():
    assert levels(grey_png([struct.pack(">3H", 0, 100, 255)], 16, 3)) == [0, 0, 1]


def test_portable_greymaps_of_more_than_8_bits():
    cell = {"bytes": b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000), "path": None}
    assert levels(cell) == [0, 128, 255]
    assert levels({"bytes": b"P5 2 1 65535\n" + struct.pack(">2H", 100, 255), "path": None}) == [0, 1]


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", [0, 128, 255], [0, 128, 255]),  # 8 bits in a wider cell
        ("I", [0, 256, 65535], [0, 1, 255]),  # 16 bits
        ("I", [-1000, 0, 1000], [0, 128, 255]),  # signed: lowest to highest
        ("I", [0, 2**30, 2**31 - 1], [0, 128, 255]),
        ("F", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", [0.0, 100.7, 255.0], [0, 100, 255]),  # as Pillow has it, and so pipelines
        ("F", [-2.0, 0.0, 2.0], [0, 128, 255]),
        ("F", [float("nan"), 0.0, 1.0], [0, 0, 255]),
        ("F", [float("-inf"), 1000.0, 3000.0], [0, 0, 255]),
        ("F", [7000.0] * 3, [0, 0, 0]),
        ("F", [0.0] * 3, [0, 0, 0]),
    ],
)
def test_32_bit_and_floating_point_images_find_their_range(mode, values, expected):
    image = Image.fromarray(np.array([values], dtype=np.int32 if mode == "I" else np.float32))
    assert image.mode == mode
    assert levels(encoded(image, "TIFF")) == expected


@pytest.mark.parametrize(("bits", "packed", "expected"), [(1, b"\x40", [0, 255]), (2, b"\x60", [85, 170])])
def test_grey_of_few_bits(bits, packed, expected):
    assert levels(grey_png([packed], bits, 2)) == expected


def test_lab_colours_are_shown():
    cell = encoded(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF")
    assert decode_fault(cell) is None
    np.testing.assert_allclose(open_image(cell).getpixel((0, 0)), (255, 255, 255), atol=3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_animations(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    cell = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert open_image(cell).getpixel((1, 1)) == (255, 0, 0)
    assert image_facts(cell).frames == 3


# EXIF


CORNERS = {1: (0, 0), 2: (5, 0), 3: (5, 3), 4: (0, 3), 5: (0, 0), 6: (3, 0), 7: (3, 5), 8: (0, 5)}


@pytest.mark.parametrize("orientation", CORNERS)
@pytest.mark.parametrize("opener", [open_image, lambda cell: open_reduced(cell, 100)], ids=["whole", "reduced"])
def test_all_eight_orientations(orientation, opener):
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = opener(encoded(image, exif=exif))
    assert opened.size == ((4, 6) if orientation >= 5 else (6, 4))
    assert np.argwhere(np.asarray(opened)[..., 0] == 255).tolist() == [list(CORNERS[orientation][::-1])]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("edge", [2, 100])
def test_impossible_orientations_turn_nothing(orientation, edge):
    exif = Image.Exif()
    exif[0x0112] = orientation
    cell = encoded(Image.new("RGB", (6, 4)), exif=exif)
    assert open_image(cell).size == (6, 4)
    assert open_reduced(cell, edge).size == ((3, 2) if edge == 2 else (6, 4))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("seed", range(40))
def test_broken_exif_data_never_cost_the_image(seed, kind):
    random = np.random.default_rng(seed)
    start = (b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12")[seed % 3]
    cell = encoded(Image.new("RGB", (6, 4), (9, 9, 9)), kind, exif=start + random.bytes(int(random.integers(0, 40))))
    assert sorted(open_image(cell).size) == [4, 6]
    assert decode_fault(cell) is None
    assert image_facts(cell).exif_orientation in range(1, 9)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 3)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_images_of_one_pixel_of_width(size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    cell = encoded(Image.new("RGB", size, (1, 2, 3)), exif=exif)
    upright = size[::-1] if orientation == 6 else size
    assert open_image(cell).size == open_reduced(cell, 50).size == (upright if size != (3, 3) else (3, 3))
    assert reduced_size(cell, 50) == size


# Broken files, bombs and what is no image


def bomb(width=60_000, height=60_000) -> dict:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return {"bytes": data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")), "path": None}


def test_a_decompression_bomb_is_named_and_never_decoded():
    fault = decode_fault(bomb())
    assert fault == "decompression bomb: Image size (3600000000 pixels) exceeds limit of 178956970 pixels"
    assert image_facts(bomb()).error == fault
    assert reduced_size(bomb(), 100) is None
    for opener in (open_image, lambda cell: open_reduced(cell, 10)):
        with pytest.raises(Image.DecompressionBombError):
            opener(bomb())


def test_large_images_and_odd_files_are_no_storm_of_warnings(tmp_path):
    (tmp_path / "large.png").write_bytes(bomb(12_000, 9_000)["bytes"])  # between Pillow's warning and its error
    image = Image.new("P", (3, 2), 1)
    image.save(tmp_path / "palette.png", transparency=bytes([0, 1]))
    Image.new("RGB", (3, 2)).save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    script = (
        "import sys; from hf_finetune.data.images.decode import *\n"
        "for name in sys.argv[1:]: print(image_facts(name)); print(decode_fault(name))"
    )
    files = [str(tmp_path / name) for name in ("large.png", "palette.png", "exif.jpg")]
    command = [sys.executable, "-W", "always", "-c", script, *files]
    done = subprocess.run(command, env=os.environ | {}, capture_output=True, text=True, check=True)
    assert "width=12000" in done.stdout
    assert "Bomb" not in done.stderr
    assert "PIL" not in done.stderr


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "cannot identify image file"),
        (b"no image", "cannot identify image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "format EPS are not read"),
        (encoded(noise("RGB", (90, 90)), "JPEG")["bytes"][:-500], "truncated"),
        (encoded(noise("RGB", (90, 90)))["bytes"][:-500], "truncated"),
    ],
    ids=["empty", "text", "a program", "half a JPEG", "half a PNG"],
)
def test_what_cannot_be_decoded_is_said(data, fault):
    cell = {"bytes": data, "path": None}
    assert fault in decode_fault(cell)
    assert "truncated" in fault or fault in image_facts(cell).error
    with pytest.raises(DECODE_FAULTS):
        open_image(cell)


def test_a_fault_reads_the_same_in_every_run():
    assert decode_fault({"bytes": b"x", "path": None}) == decode_fault({"bytes": b"x", "path": None})
    assert decode_fault("no/such/file.png") == "No such file or directory"
    assert decode_fault(None) == decode_fault({"bytes": None, "path": None}) == "no image"
    assert image_facts(None).error == "no image"


@pytest.mark.parametrize(("mode", "kind"), WRITABLE, ids=lambda value: value)
def test_damaged_files_raise_only_what_is_expected(mode, kind):
    whole = encoded(noise(mode), kind)["bytes"]
    random = np.random.default_rng(0)
    for _ in range(20):
        content = np.frombuffer(whole, dtype=np.uint8).copy()
        places = random.integers(0, len(content), int(random.integers(1, 9)))
        content[places] = random.integers(0, 256, len(places))
        end = len(content) if random.random() < 0.5 else int(random.integers(1, len(content)))
        cell = {"bytes": content[:end].tobytes(), "path": None}
        fault = decode_fault(cell)
        try:
            assert open_image(cell).mode == "RGB"
        except DECODE_FAULTS:
            assert fault is not None
        image_facts(cell)


# Facts


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (encoded(noise("RGB"), "JPEG"), ("RGB", "JPEG", 1, 8, False)),
        (encoded(noise("RGBA")), ("RGBA", "PNG", 1, 8, True)),
        (encoded(noise("CMYK"), "JPEG"), ("CMYK", "JPEG", 1, 8, False)),
        (encoded(noise("P"), "GIF"), ("P", "GIF", 1, 8, False)),
        (encoded(noise("1"), "TIFF"), ("1", "TIFF", 1, 1, False)),
        (encoded(Image.new("I;16", (7, 5))), ("I;16", "PNG", 1, 16, False)),
        (encoded(Image.new("I;16", (7, 5)), "TIFF"), ("I;16", "TIFF", 1, 16, False)),
        (encoded(Image.new("F", (7, 5)), "TIFF"), ("F", "TIFF", 1, 32, False)),
        ({"bytes": b"P5 7 5 1000\n" + b"\0" * 70, "path": None}, ("I", "PPM", 1, 16, False)),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, tuple) else "cell",
)
def test_facts_of_a_image(cell, expected):
    facts = image_facts(cell)
    assert (facts.mode, facts.format, facts.frames, facts.bits, facts.has_alpha) == expected
    assert (facts.width, facts.height, facts.exif_orientation, facts.error) == (7, 5, 1, None)


def test_16_bit_colours_are_known_by_their_header():
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 65535, 32768, 0)))
    cell = {"bytes": b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""), "path": None}
    assert image_facts(cell).bits == 16
    assert open_image(cell).getpixel((0, 0)) == (255, 128, 0)


def test_facts_without_decoding_are_those_of_the_header():
    cell = encoded(noise("RGB", (90, 60)), "JPEG", exif=(exif := Image.Exif()))
    assert exif is not None
    half = {"bytes": cell["bytes"][:-500], "path": None}
    assert image_facts(half).error is None
    assert (image_facts(half).width, image_facts(half).height) == (90, 60)
    assert "truncated" in decode_fault(half)


def test_refused_formats_are_formats():
    Image.init()
    assert set(Image.ID) >= REFUSED_FORMATS
