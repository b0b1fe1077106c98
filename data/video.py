"""Video in and out: exact frames by number from any file that FFmpeg reads, and atomic writing.

A frame is addressed by its number in display order, never by a time: containers lie about their rate (DROID says
60 fps for 15).  The packets are listed once, then a read seeks to the keyframe before and decodes forward.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import uuid
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from data.priority import usual_priority

MAX_OPEN = 24  # decoders kept open in one process
# The fast conversions of colours darken by 1 in 255, each way.
_EXACT = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_EXACT_BACK = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
LARGE = 640 * 480 + 1  # pixels, from which on frames are decoded by several threads
NEAR = 8  # frames: nearer than this, decoding on is cheaper than seeking

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


class VideoError(OSError):
    """A video that cannot be read or written; the message says where and why."""


class _Decoder:
    """One open file: its packet table and a decoder that remembers where it stands."""

    def __init__(self, path: str, stamp: tuple[int, ...]) -> None:
        self.path, self.stamp = path, stamp
        self.lock = threading.Lock()
        self.reformatters = {False: VideoReformatter(), True: VideoReformatter()}  # fast and exact
        try:
            self.container = av.open(path)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"{path}: no readable video ({error}); it is missing, truncated or not a video"
            ) from error
        if not self.container.streams.video:
            self.container.close()
            raise VideoError(f"{path}: holds no video stream")
        self.stream = self.container.streams.video[0]
        # Threads delay the first frame by one frame each, which pays for large frames alone; a loader's worker
        # processes are the threads already.
        large = self.stream.width * self.stream.height >= LARGE
        alone = multiprocessing.parent_process() is None
        self.stream.codec_context.thread_count = min(4, os.cpu_count() or 1) if large and alone else 1
        self.stream.thread_type = "FRAME"
        shown, keys = [], []
        try:
            for packet in self.container.demux(self.stream):
                if packet.size and not packet.is_discard:
                    time = packet.pts if packet.pts is not None else packet.dts
                    if time is not None:
                        shown.append(time)
                        if packet.is_keyframe:
                            keys.append(time)
        except (av.error.FFmpegError, OSError) as error:
            if not shown:
                raise VideoError(f"{path}: no packet can be read ({error}); the file is damaged") from error
        self.pts = sorted(set(shown))
        self.keys = sorted(keys)
        self.number = {time: i for i, time in enumerate(self.pts)}
        self.near = 1 if self.stream.codec_context.thread_count == 1 else NEAR
        self.frames: Any = None  # the running decode generator, after a seek
        self.position = -1  # number of the last frame that the generator gave
        self.wanted: set[int] = set()  # times of the frames that the present read asks for

    def read(self, numbers: Sequence[int], exact: bool) -> np.ndarray:
        frames = np.empty((len(numbers), self.stream.height, self.stream.width, 3), np.uint8)
        places = sorted(range(len(numbers)), key=lambda i: numbers[i])
        with self.lock:
            self.wanted = {self.pts[number] for number in numbers}
            before = -1
            for place in places:
                if before >= 0 and numbers[place] == numbers[before]:
                    frames[place] = frames[before]
                else:
                    self._one(numbers[place], frames[place], exact)
                before = place
        return frames

    def _one(self, number: int, out: np.ndarray, exact: bool) -> None:
        """Decode one frame into `out`."""
        key = bisect_right(self.keys, self.pts[number]) - 1
        key_number = self.number.get(self.keys[key], 0) if key >= 0 else 0
        fresh = self.frames is None or not self.position < number or key_number > self.position + self.near
        if fresh:
            self._seek(key)
        while True:
            for frame in self._forward():
                here = self.number.get(frame.pts, -1)
                self.position = max(self.position, here)
                if here == number:
                    self._convert(frame, number, out, exact)
                    return
                if here > number:
                    break
            # An earlier read had no use for it and left it out.  Or the container seeks past it (open groups, shifted
            # decode times): start a keyframe earlier.
            key -= fresh
            fresh = True
            if key < -1:
                raise VideoError(
                    f"{self.path}: frame {number} of {len(self.pts)} cannot be decoded; the file is damaged"
                )
            self._seek(key)

    def _convert(self, frame: Any, number: int, out: np.ndarray, exact: bool) -> None:
        how = _EXACT_BACK if exact else None
        picture = self.reformatters[exact].reformat(frame, format="rgb24", interpolation=how, threads=1)
        plane = picture.planes[0]
        if (frame.height, frame.width) != out.shape[:2]:
            raise VideoError(
                f"{self.path}: frame {number} is {frame.height}x{frame.width}, "
                f"the file says {out.shape[0]}x{out.shape[1]}"
            )
        lines = np.asarray(memoryview(plane)).reshape(-1, plane.line_size)  # type: ignore[arg-type]
        out[:] = lines[: out.shape[0], : 3 * out.shape[1]].reshape(out.shape)

    def _seek(self, key: int) -> None:
        start = self.keys[key] if key >= 0 else (self.pts[0] if self.pts else 0)
        try:
            self.container.seek(start, stream=self.stream, backward=True)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path}: cannot seek ({error}); the file is damaged") from error
        self.position = -1
        self.frames = self._decoded()

    def _decoded(self) -> Iterator[Any]:
        """Frames from where the container stands; those that nobody asked for nor needs are not decoded."""
        context = self.stream.codec_context
        for packet in self.container.demux(self.stream):
            needed = packet.pts is None or packet.pts in self.wanted
            context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from packet.decode()

    def _forward(self) -> Iterator[Any]:
        while True:
            try:
                yield next(self.frames)
            except (StopIteration, av.error.EOFError):
                self.frames = None
                return
            except (av.error.FFmpegError, OSError) as error:
                self.frames = None
                after = self.position + 1
                raise VideoError(
                    f"{self.path}: frame {after} or soon after cannot be decoded ({error})"
                ) from error


_open: OrderedDict[str, _Decoder] = OrderedDict()
_open_lock = threading.Lock()
_owner = os.getpid()


def _decoder(path: str) -> _Decoder:
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
            decoder = _open[path] = _Decoder(path, stamp)
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
        wanted = [int(i) for i in indices]
        decoder = _decoder(str(self.path))
        last = min(len(self), len(decoder.pts) - self.first_frame) - 1
        for i in wanted:
            if not 0 <= i <= last:
                raise IndexError(
                    f"{self.path}: frame {i} asked for, it has 0..{last} (from {self.first_frame})"
                )
        if not wanted:
            height, width = self.size
            return np.empty((0, height, width, 3), np.uint8)
        return decoder.read([i + self.first_frame for i in wanted], self.exact)

    @property
    def frames_in_file(self) -> int:
        """Frames that the container lists, whatever part of it this is."""
        return len(_decoder(str(self.path)).pts)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        stream = _decoder(str(self.path)).stream
        return stream.height, stream.width

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
