"""Straightforward ways to read clips, each at its best, that `benchmarks.data` measures against: OpenCV and decord.

Every loader gives uint8 RGB [FRAMES, H, W, 3]: whole frames, or frames cropped and shrunk to a model's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.images import crop_box
from data.video import VideoFrames

FRAMES = 8  # of a clip
Clip = tuple[Path, int, int]  # file, first frame, frames from one to the next
Loader = Callable[[Clip], np.ndarray]
BESIDE = "ours, a batch side by side"
ONCE = ("opencv", "decord", "decord that scales")  # those that open the file for each clip


@dataclass(frozen=True)
class Fit:
    """What becomes of a frame: its crop, and the side that this is shrunk to."""

    size: int
    crop: str

    def __str__(self) -> str:
        return f"{self.size}x{self.size} ({self.crop})"


def _numbers(clip: Clip) -> range:
    _, start, stride = clip
    return range(start, start + FRAMES * stride, stride)


def ours(fit: Fit | None) -> dict[str, Loader]:
    def whole(clip: Clip) -> np.ndarray:
        return VideoFrames(clip[0]).read(_numbers(clip))

    def fitted(clip: Clip) -> np.ndarray:
        assert fit is not None
        return VideoFrames(clip[0]).read_fitted(_numbers(clip), size=fit.size, crop=fit.crop)

    read = fitted if fit else whole
    return {"ours": read, BESIDE: read}


def _shrunk(picture: np.ndarray, fit: Fit) -> np.ndarray:
    """Crop, then average over what each pixel covers: what OpenCV has for shrinking."""
    import cv2  # pyright: ignore[reportMissingImports]

    top, left, height, width = crop_box(picture.shape[0], picture.shape[1], fit.crop)
    cut = picture[top : top + height, left : left + width]
    return cv2.resize(cut, (fit.size, fit.size), interpolation=cv2.INTER_AREA)


def opencv(fit: Fit | None) -> dict[str, Loader]:
    import cv2  # pyright: ignore[reportMissingImports]

    kept: dict[Path, Any] = {}

    def read(capture: Any, start: int, stride: int) -> np.ndarray:
        capture.set(cv2.CAP_PROP_POS_FRAMES, start)
        frames = []
        for offset in range((FRAMES - 1) * stride + 1):
            if offset % stride:
                capture.grab()
                continue
            picture = capture.read()[1]
            frames.append(cv2.cvtColor(_shrunk(picture, fit) if fit else picture, cv2.COLOR_BGR2RGB))
        return np.stack(frames)

    def once(clip: Clip) -> np.ndarray:
        capture = cv2.VideoCapture(str(clip[0]))
        try:
            return read(capture, *clip[1:])
        finally:
            capture.release()

    def with_kept(clip: Clip) -> np.ndarray:
        if clip[0] not in kept:
            kept[clip[0]] = cv2.VideoCapture(str(clip[0]))
        return read(kept[clip[0]], *clip[1:])

    return {"opencv": once, "opencv, handles kept": with_kept}


def decord(fit: Fit | None) -> dict[str, Loader]:
    import decord  # pyright: ignore[reportMissingImports]

    if fit is not None:
        import cv2  # pyright: ignore[reportMissingImports]  # noqa: F401  # shrinks

    sizes: dict[Path, tuple[int, int]] = {}

    def read(clip: Clip, **options: int) -> np.ndarray:
        reader = decord.VideoReader(str(clip[0]), num_threads=-1, ctx=decord.cpu(0), **options)
        return reader.get_batch(list(_numbers(clip))).asnumpy()

    def whole(clip: Clip) -> np.ndarray:
        frames = read(clip)
        return np.stack([_shrunk(frame, fit) for frame in frames]) if fit else frames

    def scaling(clip: Clip) -> np.ndarray:
        """The whole picture shrunk by decord itself while it decodes, then cut to the nearest pixel."""
        assert fit is not None
        if clip[0] not in sizes:
            sizes[clip[0]] = VideoFrames(clip[0]).size
        height, width = sizes[clip[0]]
        top, left, h, w = crop_box(height, width, fit.crop)
        frames = read(clip, width=round(width * fit.size / w), height=round(height * fit.size / h))
        x, y = round(left * fit.size / w), round(top * fit.size / h)
        return frames[:, y : y + fit.size, x : x + fit.size]

    return {"decord": whole} | ({"decord that scales": scaling} if fit else {})
