"""Video in and out: exact frames by number from any file that FFmpeg reads, and atomic writing.

A frame is addressed by its number in display order, never by a time: containers lie about their rate (DROID says
60 fps for 15).
"""

from __future__ import annotations

import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from data.decoder import Decoder, VideoError
from data.priority import usual_priority

MAX_OPEN = 24  # decoders kept open in one process
# The fast conversions of colours darken by 1 in 255, each way (and back in data/colours.py).
_EXACT = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP

_ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4", "av1": "libsvtav1", "hevc": "libx265"}
# Two of three frames are needed by no other, so that who reads every third one decodes half of them.
_LEFT_OUT = {"bf": "2", "x264-params": "b-adapt=0:b-pyramid=none:weightb=0:pbratio=1.0"}
_OPTIONS = {
    # Without arithmetic coding and deblocking: a sixth larger, decoded in half the time.
    "h264": {"preset": "superfast", "tune": "fastdecode", "crf": "18", "threads": "1", **_LEFT_OUT},
    "hevc": {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=none"},
    "av1": {"preset": "10", "crf": "30", "svtav1-params": "lp=1"},
    "mpeg4": {"flags": "+qscale", "global_quality": "354", "bf": "0"},  # 118 times the quantiser
}


_open: OrderedDict[str, Decoder] = OrderedDict()
_open_lock = threading.Lock()
_owner = os.getpid()


def _decoder(path: str) -> Decoder:
    global _owner, _open_lock
    if _owner != os.getpid():  # forked: the parent's decoders share file offsets with it
        _open_lock = threading.Lock()
        _open.clear()
        _owner = os.getpid()
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror or error}") from error
    stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
    with _open_lock:
        decoder = _open.get(path)
        if decoder is None or decoder.stamp != stamp:  # never opened, or written anew since
            decoder = _open[path] = Decoder(path, stamp)
            while len(_open) > MAX_OPEN:
                _open.popitem(last=False)
        _open.move_to_end(path)
        return decoder


def close_videos() -> None:
    """Close every decoder of this process (before files are moved or deleted)."""
    with _open_lock:
        _open.clear()


@dataclass(slots=True)
class VideoFrames:
    """Frames of a video file, or of a part of it, read when asked for.  Pickles; survives fork and spawn."""

    path: Path
    first_frame: int = 0
    length: int | None = None
    exact: bool = False  # colours to the last bit, for frames to be written again: takes as long as decoding

    def __len__(self) -> int:
        if self.length is None:
            self.length = max(0, self.frames_in_file - self.first_frame)
        return self.length

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Return uint8 RGB [len(indices), H, W, 3], exact by number, in the order asked for."""
        decoder, numbers = self._numbers(indices)
        return decoder.read(numbers, exact=self.exact)

    def read_fitted(self, indices: Sequence[int], *, size: int, crop: str) -> np.ndarray:
        """What `fit_frames` makes of these frames, uint8 [len(indices), size, size, 3], in exact colours and one pass."""
        decoder, numbers = self._numbers(indices)
        return decoder.read_fitted(numbers, size, crop)

    def _numbers(self, indices: Sequence[int]) -> tuple[Decoder, list[int]]:
        """The file's decoder and the frames' numbers in the file."""
        wanted = [int(i) for i in indices]
        decoder = _decoder(str(self.path))
        last = min(len(self), len(decoder.pts) - self.first_frame) - 1
        for i in wanted:
            if not 0 <= i <= last:
                raise IndexError(
                    f"{self.path}: frame {i} asked for, it has 0..{last} (from {self.first_frame})"
                )
        return decoder, [i + self.first_frame for i in wanted]

    @property
    def frames_in_file(self) -> int:
        """Frames that the container lists, whatever part of it this is."""
        return len(_decoder(str(self.path)).pts)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return _decoder(str(self.path)).size

    @property
    def header_fps(self) -> float:
        """The rate that the container claims.  Not to be trusted: it exists to reproduce loaders that did."""
        rate = _decoder(str(self.path)).stream.average_rate
        return float(rate) if rate else 0.0


class VideoWriter:
    """Writes one video frame by frame; the file appears under its name only when complete (`close`).

    Left by an exception, or killed, it leaves nothing under `path`.
    """

    def __init__(
        self,
        path: Path | str,
        fps: float,
        *,
        gop: int = 10,
        codec: str = "h264",
        options: dict[str, str] | None = None,
    ) -> None:
        if codec not in _ENCODERS:
            raise ValueError(f"codec {codec!r} is not known; choose one of {sorted(_ENCODERS)}")
        self.path = Path(path)
        self.frames = 0
        self._codec, self._gop, self._rate = codec, gop, Fraction(fps).limit_denominator(1000)
        self._options = {**_OPTIONS[codec], **(options or {})}
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        self._container: Any = None
        self._stream: Any = None
        self._reformatter = VideoReformatter()

    @usual_priority()
    def _start(self, height: int, width: int) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._temporary), "w", format="mp4")
        self._stream = stream = self._container.add_stream(_ENCODERS[self._codec], self._rate, self._options)
        stream.height, stream.width = height, width
        # Halved chroma needs even sides; what has odd ones keeps full chroma.
        stream.pix_fmt = "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = self._gop, 1
        stream.codec_context.open(strict=False)
        return self._container

    def add(self, frame: np.ndarray) -> None:
        """Append one frame: uint8 RGB [H, W, 3], of the first one's size."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"{self.path}: a frame is uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}"
            )
        container = self._container or self._start(frame.shape[0], frame.shape[1])
        if frame.shape[:2] != (self._stream.height, self._stream.width):
            raise ValueError(
                f"{self.path}: frame {self.frames} is {frame.shape[0]}x{frame.shape[1]}, "
                f"the first was {self._stream.height}x{self._stream.width}"
            )
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._reformatter.reformat(
            picture, format=self._stream.pix_fmt, interpolation=_EXACT, threads=1
        )
        picture.pts, picture.time_base = self.frames, 1 / self._rate
        for packet in self._stream.encode(picture):
            container.mux(packet)
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._container is None:
            raise VideoError(f"{self.path}: no frame was added, there is nothing to write")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        with open(self._temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self._temporary, self.path)

    def abort(self) -> None:
        """Drop what was written."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def write_video(
    path: Path | str, frames: Iterable[np.ndarray], fps: float, *, gop: int = 10, codec: str = "h264"
) -> None:
    """Write frames uint8 [H, W, 3] as one video; `path` appears when it is complete."""
    with VideoWriter(path, fps, gop=gop, codec=codec) as writer:
        for frame in frames:
            writer.add(frame)
