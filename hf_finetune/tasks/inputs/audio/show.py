"""How recordings are shown: a waveform and a clip on pages, the recorder of ``serve``, examples for cards and exports."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image, ImageDraw

from hf_finetune.data.audio.decode import decode_fault, open_audio
from hf_finetune.tasks.inputs.audio.row_input import FILE
from hf_finetune.tasks.inputs.files import row_of_file

RATE, SECONDS = 16_000, 10  # of a clip on a page
WIDTH, HEIGHT = 320, 80  # pixels of a waveform
# One of the recordings that the Hub's own pages play.
SAMPLE = "https://cdn-media.huggingface.co/speech_samples/sample1.flac"


def preview(row: dict[str, Any]) -> dict[str, str | None]:
    import soundfile

    samples = open_audio(row["audio"], RATE)[: SECONDS * RATE]
    clip = io.BytesIO()
    soundfile.write(clip, samples, RATE, format="WAV", subtype="PCM_16")
    return {"text": None, "image": _url("image/png", _waveform(samples)), "audio": _url("audio/wav", clip.getvalue())}


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _waveform(samples: np.ndarray) -> bytes:
    """Return a PNG of the largest sample of each part of a recording."""
    peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(samples, WIDTH)])
    heights = np.maximum(1, peaks / max(peaks.max(), 1e-6) * HEIGHT / 2).astype(int)
    image = Image.new("RGBA", (WIDTH, HEIGHT))
    drawing = ImageDraw.Draw(image)
    for place, height in enumerate(heights.tolist()):
        drawing.line([(place, HEIGHT // 2 - height), (place, HEIGHT // 2 + height)], fill=(91, 141, 239))
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    audio = gradio.Audio(label="recording", sources=["upload", "microphone"], type="filepath", buttons=["download"])
    return [audio], [audio.change]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    [path] = values
    return row_of_file(path, "audio", FILE, "recording", decode_fault) if path else None


def widget(inputs: dict[str, str]) -> list[dict[str, str]] | None:
    return [{"src": SAMPLE, "example_title": "A sentence"}]


def usage_sample(inputs: dict[str, str]) -> str:
    return '"speech.wav"'


def onnx_code(columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    code = [
        "extractor = AutoFeatureExtractor.from_pretrained(folder)",
        'samples, rate = soundfile.read("speech.wav", dtype="float32")  # mono, at extractor.sampling_rate',
        'inputs = extractor(samples, sampling_rate=rate, return_tensors="np")',
    ]
    return "AutoFeatureExtractor", ["import soundfile"], code
