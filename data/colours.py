"""From a decoder's planes of brightness and colour to RGB: as large as they are, or at a model's size in one pass."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter

_EXACT_BACK = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_SHRINK = (
    "bilinear+accurate_rnd+full_chroma_int"  # a triangle over what each pixel covers, as in `fit_frames`
)


class Conversion(Protocol):
    """Writes decoded frames into uint8 RGB [H, W, 3]."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what becomes of a frame this large."""
        ...

    def __call__(self, frame: Any, out: np.ndarray) -> None: ...


def _lines(plane: Any, height: int, width: int) -> np.ndarray:
    return np.asarray(memoryview(plane)).reshape(-1, plane.line_size)[:height, :width]  # lines are padded


def _colour_position(first: int, *, halved: bool) -> int:
    """Where colour is sampled: amid two pixels (128 of 256) where it is `halved`, unless a crop starts between them."""
    return (-128 if first % 2 else 128) if halved else -513  # which means where the pixel is


class Whole:
    """A frame as large as it is.  Not `exact`, it is darker by 1 in 255, and made in a fraction of the time."""

    def __init__(self, *, exact: bool) -> None:
        self._how = _EXACT_BACK if exact else None
        self._reformatter = VideoReformatter()

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def __call__(self, frame: Any, out: np.ndarray) -> None:
        picture = self._reformatter.reformat(frame, format="rgb24", interpolation=self._how, threads=1)
        out[:] = _lines(picture.planes[0], out.shape[0], 3 * out.shape[1]).reshape(out.shape)


class Fitted:
    """A frame cropped by name and shrunk to `side` x `side`, in exact colours; at full size it never is RGB.

    It is what `fit_frames` makes of an exact `Whole`, to the rounding, but where colours that RGB has not are averaged.
    """

    def __init__(self, side: int, crop: str) -> None:
        self._side, self._crop = side, crop
        self._key: tuple[Any, ...] = ()
        self._graph = Graph()

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self._side, self._side

    def __call__(self, frame: Any, out: np.ndarray) -> None:
        key = (frame.height, frame.width, frame.format.name, int(frame.colorspace), int(frame.color_range))
        if key != self._key:
            self._graph, self._key = self._configured(frame), key
        self._graph.vpush(frame)
        small = self._graph.vpull()
        for channel, plane in zip((1, 2, 0), small.planes):
            out[..., channel] = _lines(plane, self._side, self._side)

    def _configured(self, frame: Any) -> Graph:
        from data.images import crop_box  # brings torch, which listing logs does without

        top, left, height, width = crop_box(frame.height, frame.width, self._crop)
        across = _colour_position(left, halved=frame.format.chroma_width(2) == 1)
        down = _colour_position(top, halved=frame.format.chroma_height(2) == 1)
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
            time_base="1/1000",  # of no consequence, but it wants one
        )
        graph.link_nodes(
            source,
            graph.add("crop", f"w={width}:h={height}:x={left}:y={top}:exact=1"),
            graph.add(
                "scale",
                f"w={self._side}:h={self._side}:flags={_SHRINK}:in_h_chr_pos={across}:in_v_chr_pos={down}",
            ),
            # Packed RGB takes as long again as the shrinking; planes of it do not.
            graph.add("format", "pix_fmts=gbrp"),
            graph.add("buffersink"),
        ).configure()
        return graph
