"""What tables of bad input are made of: files that are wrong in one way, and what must be true of every refusal."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from hf_finetune.cli.main import main as hf_finetune

GOOD = [("good film", "positive"), ("bad film", "negative")] * 20
RUN = "run"


class Case:
    """A good file, good checkpoints and good images, and a folder in which everything that is wrong is written."""

    def __init__(self, folder: Path, checkpoints, image_folder: str) -> None:
        self.folder = folder
        self.checkpoints = checkpoints
        self.images = image_folder
        self.good = self.file("good.csv", GOOD)
        self.bert = checkpoints("bert")
        self.vit = checkpoints("vit")

    # Command lines

    def text(self, *flags, train=None, model=None, data=None):
        data = data or ["--train_file", str(train or self.good)]
        model = ["--model_name_or_path", str(model or self.bert)]
        return ["train", "text-classification", *model, *data, "--output_dir", str(self.folder / RUN), *flags]

    def image(self, *flags, data=None, model=None):
        source = ["--model_name_or_path", str(model or self.vit), "--dataset_name", str(data or self.images)]
        return ["train", "image-classification", *source, "--output_dir", str(self.folder / RUN), *flags]

    def bare(self, *flags, task="text-classification"):
        """A command line with the flags that are given, and no other."""
        return ["train", task, *map(str, flags)]

    # Files

    def raw(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def above(self, levels, name, content):
        """The folder so many levels above a file that is written."""
        return str(Path(self.raw(name, content)).parents[levels - 1])

    def file(self, name, rows, header=("text", "label")):
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return str(path)

    def lines(self, name, rows):
        """JSON lines."""
        return self.raw(name, "".join(json.dumps(row) + "\n" for row in rows))

    def frame(self, name, columns):
        """Parquet of columns."""
        import pandas as pd

        pd.DataFrame(columns).to_parquet(self.folder / name)
        return str(self.folder / name)

    def dir(self, name):
        (self.folder / name).mkdir(parents=True)
        return str(self.folder / name)

    def cut(self, path, share=0.5):
        """The file, cut short in place."""
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: int(len(content) * share)])
        return path

    # Checkpoints and images

    def checkpoint(self, name, **changes):
        """A copy of a checkpoint with files (dots as ``__``) taken away (None), replaced, or changed by a function."""
        target = self.folder / f"broken {name}"
        shutil.copytree(self.checkpoints(name), target)
        for file, change in changes.items():
            path = target / file.replace("__", ".")
            if change is None:
                path.unlink()
            else:
                path.write_bytes(change(path.read_bytes()) if callable(change) else change)
        return str(target)

    def settings(self, name, **values):
        """A copy of a checkpoint with other values in its config.json."""
        return self.checkpoint(name, config__json=lambda old: json.dumps(json.loads(old) | values).encode())

    def album(self, **changes):
        """Six good images in two classes, and files (by path) written into them or, with None, classes emptied."""
        from PIL import Image

        root = self.folder / "album"
        for index in range(6):
            place = root / ("cat" if index % 2 else "dog")
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (index * 40, 99, 200 - index * 40)).save(place / f"{index}.png")
        for path, content in changes.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                shutil.rmtree(root / path)
            else:
                (root / path).write_bytes(content)
        return str(root)

    def bad_album(self):
        """Eight images in two classes, none of which is one."""
        for index in range(8):
            self.raw(f"bad/{'ab'[index % 2]}/{index}.png", b"x")
        return str(self.folder / "bad")

    def broken_image(self):
        root = self.folder / "images"
        shutil.copytree(self.images, root)
        image = next((root / "train" / "class 1").iterdir())
        image.write_bytes(image.read_bytes()[:60])
        return root

    def table(self, more):
        root = Path(self.images)
        files = [file for name in ("class 1", "class 2") for file in sorted((root / "train" / name).iterdir())[:6]]
        rows = [(file.relative_to(root).as_posix(), file.parent.name) for file in files] + more
        path = self.file("images.csv", rows, ("path", "label"))
        data = ["--train_file", path, "--image_root", self.images]
        return ["train", "image-classification", "--model_name_or_path", self.vit, *data]

    def copied(self):
        return Path(shutil.copytree(Path(self.images, "train"), self.folder / "copied"))

    def linked(self):
        root = self.copied()
        (root / "class 1" / "out.png").symlink_to(Path(self.images, "test"))
        return root

    def bomb(self):
        import struct
        import zlib

        root = self.copied()
        header = b"IHDR" + struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        (root / "class 1" / "bomb.png").write_bytes(data + empty)
        return root

    def archive(self, member):
        import zipfile

        path = self.folder / "images.zip"
        if member is None:
            path.write_bytes(b"no archive")
            return path
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"x")
        return path

    def states(self):
        """Size and time of every file of the user's that a command line of ours can name, by path."""
        roots = [self.folder, Path(self.bert), Path(self.vit), Path(self.images)]
        found = {}
        for path in (path for root in roots for path in root.rglob("*")):
            facts = path.stat()
            if path.is_file():
                found[path] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            elif path.is_relative_to(self.folder):
                found[path] = "folder"
        return found


def assert_refused(case, argv, error, fix, capfd):
    """Status 2, one ``error:`` and one ``fix:`` line with these words, no traceback, no file changed, made or gone."""
    before = case.states()
    capfd.readouterr()
    status = hf_finetune([str(word) for word in argv])
    said = capfd.readouterr()
    lines = [line for line in said.err.splitlines() if line]
    assert status == 2, said.err[-2000:]
    assert [line.split(":")[0] for line in lines[-2:]] == ["error", "fix"], lines
    assert [line.split(":")[0] in ("error", "fix") for line in lines].count(True) == 2, lines
    assert "Traceback" not in said.err + said.out, said.err
    assert error in lines[-2], lines[-2]
    assert fix in lines[-1], lines[-1]
    assert case.states() == before
