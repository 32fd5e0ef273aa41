"""Archives: their images come out once, and nothing of them gets anywhere else, whatever they name or claim."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from hf_finetune.data.readers import archives
from hf_finetune.data.readers.archives import is_archive, safe_parts
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.errors import UserError


def unpack(archive):
    return archives.unpack(archive, IMAGE.endings())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


def png(value=0, size=(2, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path, files: dict[str, bytes]):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


def tar_of(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, content, fields in members:
            add(archive, name, content, **fields)
    return path


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(archive) -> UserError:
    with pytest.raises(UserError) as caught:
        unpack(archive)
    assert caught.value.where == str(archive)
    return caught.value


ENDINGS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_images_and_tables_come_out_and_nothing_else(ending, tmp_path, capsys):
    good = {"cat/1.png": png(1), "cat/sub/2.JPG": b"x", "metadata.csv": b"file_name,label\n", "a.cls": b"1"}
    bad = {
        "run.sh": b"rm",
        "cat/.hidden.png": b"x",
        "__MACOSX/cat/._1.png": b"x",
        "cat/Thumbs.db": b"x",
        ".DS_Store": b"x",
    }
    folder = unpack(pack(tmp_path / f"a{ending}", good | bad))
    assert names(folder) == sorted(good)
    assert (folder / "cat/1.png").read_bytes() == png(1)
    assert "4 files unpacked" in capsys.readouterr().out


def test_unpacked_once_and_anew_when_the_archive_changes(tmp_path, cache, monkeypatch):
    archive = pack(tmp_path / "a.zip", {"1.png": png(1)})
    first = unpack(archive)
    monkeypatch.setattr(archives, "_unpack_zip", lambda *_: pytest.fail("unpacked twice"))
    assert unpack(archive) == first
    monkeypatch.undo()
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(cache.parent))
    pack(archive, {"2.png": png(2)})
    assert names(unpack(archive)) == ["2.png"]
    assert names(first) == ["1.png"]


def test_several_ask_at_once(tmp_path, cache):
    archive = pack(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(50)})
    found = []
    threads = [threading.Thread(target=lambda: found.append(unpack(archive))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert len(names(found[0])) == 50
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [found[0].name]


def test_what_a_killed_run_left_is_removed(tmp_path, cache):
    archive = pack(tmp_path / "a.zip", {"1.png": png(1)})
    partial = unpack(archive).with_suffix(".partial")
    unpack(archive).rename(partial)
    (partial / "half.png").write_bytes(b"x")
    assert names(unpack(archive)) == ["1.png"]
    assert not partial.exists()


# Names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b.png", ["a", "b.png"]),
        ("./a//b.png", ["a", "b.png"]),
        ("a\\b.png", ["a", "b.png"]),
        ("..a/b..png", ["..a", "b..png"]),
        ("ähre/é.png", ["ähre", "é.png"]),
        ("./", []),
        ("../b.png", None),
        ("a/../../b.png", None),
        ("a/..", None),
        ("a\\..\\..\\b.png", None),
        ("/etc/b.png", None),
        ("\\\\server\\b.png", None),
        ("C:\\b.png", None),
        ("c:b.png", None),
        ("a\0.png", None),
    ],
)
def test_names_that_stay_inside(name, parts):
    assert safe_parts(name) == parts


def test_no_mixture_of_dots_and_strokes_leads_out(tmp_path):
    random = np.random.default_rng(0)
    pieces = ["..", ".", "a", "/", "\\", "C:", "", "b.png", "...", "//", "~"]
    inside = 0
    for _ in range(3000):
        name = "".join(random.choice(pieces, int(random.integers(1, 8))))
        parts = safe_parts(name)
        if parts:
            inside += 1
            real = os.path.realpath(tmp_path.joinpath(*parts))
            assert real.startswith(str(tmp_path.resolve()) + "/"), name
    assert inside > 300


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:\\evil.png", "..\\evil.png"])
def test_a_member_that_leads_out_is_refused_and_nothing_is_written(ending, name, tmp_path, cache):
    error = refused(pack(tmp_path / f"a{ending}", {"good.png": png(), name: png()}))
    assert "leads out of it" in error.what
    assert "evil.png" in error.what
    assert list(tmp_path.rglob("*.png")) == []
    assert not [path for path in cache.iterdir() if path.is_dir()]


# Links and devices

LINK, HARD, FIFO, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (LINK, "/etc/passwd"),
        (LINK, "../../secret.png"),
        (LINK, "a/../../secret.png"),
        (HARD, "/etc/passwd"),
        (HARD, "../secret.png"),
    ],
)
def test_links_that_lead_out_are_refused(kind, target, tmp_path):
    archive = tar_of(tmp_path / "a.tar", ("cat/1.png", b"", {"type": kind, "linkname": target}))
    assert "'cat/1.png' links to" in refused(archive).what


def test_a_linked_folder_is_no_way_out(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tar_of(
        tmp_path / "a.tar",
        ("door", b"", {"type": LINK, "linkname": str(outside)}),
        ("door/1.png", png(), {}),
    )
    refused(archive)
    assert list(outside.iterdir()) == []


def test_links_within_the_archive_become_files_of_their_own(tmp_path):
    archive = tar_of(
        tmp_path / "a.tar",
        ("b/early.png", b"", {"type": LINK, "linkname": "chain.png"}),
        ("b/chain.png", b"", {"type": LINK, "linkname": "../a/1.png"}),
        ("a/1.png", png(7), {}),
        ("b/hard.png", b"", {"type": HARD, "linkname": "a/1.png"}),
    )
    folder = unpack(archive)
    assert names(folder) == ["a/1.png", "b/chain.png", "b/early.png", "b/hard.png"]
    assert {(folder / name).read_bytes() for name in names(folder)} == {png(7)}
    assert not any((folder / name).is_symlink() for name in names(folder))


@pytest.mark.parametrize("target", ["1.png", "missing.png", "."])
def test_links_in_a_circle_and_to_nothing_are_refused(target, tmp_path):
    archive = tar_of(tmp_path / "a.tar", ("1.png", b"", {"type": LINK, "linkname": target}))
    assert "links to a file that the archive does not hold" in refused(archive).what


@pytest.mark.parametrize("kind", [FIFO, DEVICE, tarfile.BLKTYPE])
def test_devices_are_refused(kind, tmp_path):
    assert "is a device" in refused(tar_of(tmp_path / "a.tar", ("1.png", b"", {"type": kind}))).what


def test_links_in_zip_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("1.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert "is a link or a device" in refused(tmp_path / "a.zip").what


def test_modes_of_members_give_nobody_rights(tmp_path):
    folder = unpack(tar_of(tmp_path / "a.tar", ("1.png", png(), {"mode": 0o4777})))
    assert not (folder / "1.png").stat().st_mode & (stat.S_ISUID | 0o111)


# Bounds


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 50_000)
    monkeypatch.setattr(archives, "MAX_RATIO", 20)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("name", ["1.png", "passed-over.bin"])
def test_an_archive_that_expands_without_measure_is_refused(ending, name, tmp_path, cache, small_bounds):
    archive = pack(tmp_path / f"a{ending}", {name: bytes(3_000_000), "2.png": png()})
    if ending == ".zip" and name != "1.png":
        assert names(unpack(archive)) == ["2.png"]  # what is passed over is not unpacked either
        return
    assert "it unpacks to more than" in refused(archive).what
    assert not [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_all_blocks_of_all_members_count(ending, tmp_path, cache, small_bounds, monkeypatch):
    monkeypatch.setattr(archives, "_CHUNK", 1000)
    random = np.random.default_rng(0).integers(0, 256, 900, dtype=np.uint8).tobytes()  # alone, not more than is allowed
    archive = pack(tmp_path / f"a{ending}", {f"{number}.png": random * 30 for number in range(3)})
    assert "it unpacks to more than" in refused(archive).what


def test_what_headers_claim_does_not_count(tmp_path, small_bounds):
    pack(tmp_path / "a.zip", {"1.png": bytes(3_000_000)})
    content = (tmp_path / "a.zip").read_bytes()
    claimed = (3_000_000).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content.replace(claimed, (10).to_bytes(4, "little")))
    refused(tmp_path / "a.zip")
    (tmp_path / "b.tar").write_bytes(tar_of(tmp_path / "c.tar", ("1.png", png(), {})).read_bytes())
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        member = tarfile.TarInfo("1.png")
        member.size = 1 << 40
        archive.addfile(member)
    refused(tmp_path / "d.tar")


def test_a_header_without_end_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "1.png", png(), pax_headers={"comment": "x" * 20_000_000})
    assert "a header claims" in refused(tmp_path / "a.tar.gz").what


def test_sparse_members_count_by_what_they_become(tmp_path, small_bounds):
    header = tarfile.TarInfo("1.png")
    header.size = 0
    header.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "1.png"}
    header.pax_headers |= {"GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "0", "GNU.sparse.map": ""}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header)
    refused(tmp_path / "a.tar")


def test_no_more_members_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(names(unpack(pack(tmp_path / "a.zip", {f"{i}.png": png() for i in range(3)})))) == 3
    assert "more than 3 members" in refused(pack(tmp_path / "b.zip", {f"{i}.png": png() for i in range(4)})).what
    assert "more than 3 members" in refused(pack(tmp_path / "b.tar", {f"{i}.txt": b"" for i in range(4)})).what


def test_no_more_than_the_disk_has(tmp_path, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: free)
    assert "needs more than the 900 bytes" in refused(pack(tmp_path / "a.zip", {"1.png": bytes(2000)})).what


# Broken archives


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_archive_at_all_and_half_of_one(ending, tmp_path, cache):
    archive = tmp_path / f"a{ending}"
    archive.write_bytes(b"no archive" * 200)
    assert "cannot be unpacked" in refused(archive).what
    noise = np.random.default_rng(0).bytes(50_000)
    whole = pack(tmp_path / f"b{ending}", {"1.png": noise, "2.png": noise[::-1]}).read_bytes()
    archive.write_bytes(whole[: len(whole) // 3])
    refused(archive)
    archive.write_bytes(b"")
    refused(archive)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_flipped_byte_in_a_zip_is_found(tmp_path):
    archive = pack(tmp_path / "a.zip", {"1.png": np.random.default_rng(0).bytes(5000)})
    content = bytearray(archive.read_bytes())
    content[2000] ^= 255
    archive.write_bytes(content)
    assert "CRC" in refused(archive).what


def test_damaged_archives_never_get_past_the_error(tmp_path):
    random = np.random.default_rng(0)
    for ending in (".zip", ".tar", ".tar.gz"):
        whole = pack(tmp_path / f"a{ending}", {f"cat/{i}.png": png(i) for i in range(4)}).read_bytes()
        for turn in range(40):
            content = np.frombuffer(whole, dtype=np.uint8).copy()
            places = random.integers(0, len(content), 6)
            content[places] = random.integers(0, 256, 6)
            damaged = tmp_path / f"d{turn}{ending}"
            damaged.write_bytes(content.tobytes())
            with contextlib.suppress(UserError):  # everything else is a defect
                unpack(damaged)


def test_an_encrypted_zip_is_named(tmp_path):
    archive = pack(tmp_path / "a.zip", {"1.png": png()})
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    assert "is encrypted" in refused(archive).what


def test_a_missing_archive(tmp_path):
    assert refused(tmp_path / "no.zip").what == "the archive does not exist"


# Unicode


def test_names_of_older_zip_tools_keep_their_letters(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("XXXXX/1.png", png())
    content = (tmp_path / "a.zip").read_bytes().replace(b"XXXXX", "ähre".encode())
    (tmp_path / "a.zip").write_bytes(content)
    assert names(unpack(tmp_path / "a.zip")) == ["ähre/1.png"]


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_composed_and_decomposed_names_stay_as_they_are(ending, tmp_path):
    wanted = ["caf\u00e9/1.png", "cafe\u0301/1.png"]
    assert names(unpack(pack(tmp_path / f"a{ending}", dict.fromkeys(wanted, png())))) == sorted(wanted)


def test_endings():
    assert all(is_archive(f"a{ending}".upper()) for ending in archives.ENDINGS)
    assert not any(is_archive(name) for name in ("a.csv", "a.gz", "zip", "a.rar"))
