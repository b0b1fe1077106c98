"""One open video file: its packets listed once, then a read seeks to the keyframe before and decodes forward."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import av
import av.error
import numpy as np

from data.colours import Conversion, Fitted, Whole
from data.workers import own_threads

LARGE = 640 * 480 + 1  # pixels, from which on frames are decoded by several threads
NEAR = 8  # frames: nearer than this, going on is cheaper than seeking


class VideoError(OSError):
    """A video that cannot be read or written; the message says where and why."""


class Decoder:
    """One open file: its packet table and a decoder that remembers where it stands."""

    def __init__(self, path: str, stamp: tuple[int, ...]) -> None:
        self.path, self.stamp = path, stamp
        self.lock = threading.Lock()
        self.conversions: dict[Any, Conversion] = {False: Whole(exact=False), True: Whole(exact=True)}
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
        self.size = self.stream.height, self.stream.width
        self.plain = (
            self.stream.codec_context.name == "mpeg4"
        )  # newer codecs miss frames that they are not given
        if self.plain:  # a sixth faster, and a little nearer to what was encoded
            self.stream.codec_context.options = {"idct": "xvid"}
        # Threads delay the first frame by one frame each, which pays for large frames alone.
        large = self.stream.width * self.stream.height >= LARGE
        self.stream.codec_context.thread_count = own_threads() if large else 1
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
        self.near = 1 if self.stream.codec_context.thread_count == 1 and not self.plain else NEAR
        self.frames: Any = None  # the running decode generator, after a seek
        self.position = -1  # number of the last frame that the generator gave
        self.wanted: set[int] = set()  # times of the frames that the present read asks for
        self.ahead: set[int] = set()  # those of them whose packets the decoder has not been given

    def read(self, numbers: Sequence[int], *, exact: bool = False) -> np.ndarray:
        """Frames as large as they are: uint8 RGB [len(numbers), H, W, 3]."""
        return self._read(numbers, self.conversions[exact])

    def read_fitted(self, numbers: Sequence[int], size: int, crop: str) -> np.ndarray:
        """Frames cropped and shrunk: uint8 RGB [len(numbers), size, size, 3]."""
        if (size, crop) not in self.conversions:
            self.conversions[size, crop] = Fitted(size, crop)
        return self._read(numbers, self.conversions[size, crop])

    def _read(self, numbers: Sequence[int], conversion: Conversion) -> np.ndarray:
        frames = np.empty((len(numbers), *conversion.size(*self.size), 3), np.uint8)
        places = sorted(range(len(numbers)), key=lambda i: numbers[i])
        with self.lock:
            self.wanted = {self.pts[number] for number in numbers}
            self.ahead = self.wanted.copy()
            before = -1
            for place in places:
                if before >= 0 and numbers[place] == numbers[before]:
                    frames[place] = frames[before]
                else:
                    self._one(numbers[place], frames[place], conversion)
                before = place
        return frames

    def _one(self, number: int, out: np.ndarray, conversion: Conversion) -> None:
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
                    self.wanted.discard(frame.pts)
                    self._convert(frame, number, out, conversion)
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

    def _convert(self, frame: Any, number: int, out: np.ndarray, conversion: Conversion) -> None:
        height, width = self.size
        if (frame.height, frame.width) != (height, width):
            raise VideoError(
                f"{self.path}: frame {number} is {frame.height}x{frame.width}, the file says {height}x{width}"
            )
        try:
            conversion(frame, out)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(
                f"{self.path}: the colours of frame {number} cannot be read ({error})"
            ) from error

    def _seek(self, key: int) -> None:
        start = self.keys[key] if key >= 0 else (self.pts[0] if self.pts else 0)
        try:
            self.container.seek(start, stream=self.stream, backward=True)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path}: cannot seek ({error}); the file is damaged") from error
        self.position = -1
        self.ahead = self.wanted.copy()
        self.frames = self._decoded()

    def _decoded(self) -> Iterator[Any]:
        """Frames from where the container stands; those that nobody asked for nor needs are not decoded."""
        context = self.stream.codec_context
        for packet in self.container.demux(self.stream):
            time = packet.pts
            needed = time is None or time in self.wanted
            if self.plain and time is not None and not needed and self._begins_anew(time):
                continue
            self.ahead.discard(packet.pts)
            context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from packet.decode()

    def _begins_anew(self, time: int) -> bool:
        """Whether a keyframe comes after this time and before all that is still wanted."""
        key = bisect_right(self.keys, time)
        return bool(self.ahead) and key < len(self.keys) and self.keys[key] <= min(self.ahead)

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
