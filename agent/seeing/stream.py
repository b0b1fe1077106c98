"""Pictures over time in a recording, as a video stream: a quarter of the size of single pictures."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

import av
import av.error
import numpy as np
import rerun as rr

from data.priority import usual_priority

KEY_EVERY = 15  # a viewer that jumps decodes from the key frame before
LEAST_PX = 64  # the AV1 encoder's
# SVT-AV1 has been seen to wait for itself for ever, once, on a machine far too busy: nobody waits with it.
PATIENCE_S = 20.0
MOST_LEFT_BEHIND = 2
T = TypeVar("T")
_STUCK: list[av.VideoCodecContext] = []  # never freed: that would wait as well


class VideoStream:
    """One entity's frames, all of one size; each is there at once, at the recording's current time.

    Frames wider than `widest_px` are made smaller.
    """

    def __init__(self, recording: rr.RecordingStream, entity: str, *, widest_px: int | None = None) -> None:
        self._recording, self._entity, self._widest_px = recording, entity, widest_px
        self._encoder: av.VideoCodecContext | None = None
        self._left_behind = 0
        self._count = 0
        self.scale: tuple[float, float] | None = None  # shown pixels a given one, across and down

    @property
    def width(self) -> int:
        return self._encoder.width if self._encoder is not None else 0

    @property
    def height(self) -> int:
        return self._encoder.height if self._encoder is not None else 0

    def show(self, frame: np.ndarray) -> None:
        """uint8 [H, W, 3]"""
        if self._left_behind > MOST_LEFT_BEHIND:
            return
        given = frame.shape[:2]
        frame = enlarged(frame)
        if self._encoder is None:
            smaller = min(1.0, (self._widest_px or frame.shape[1]) / frame.shape[1])
            smaller = max(smaller, LEAST_PX / min(frame.shape[:2]))
            self._encoder, codec = make_encoder(*(int(side * smaller) for side in frame.shape[:2]))
            self.scale = (self._encoder.width / given[1], self._encoder.height / given[0])
            weakref.finalize(self, end, self._encoder)
            self._recording.log(self._entity, rr.VideoStream(codec=codec), static=True)
        encoder = self._encoder
        try:
            packets = within(PATIENCE_S, lambda: encode(encoder, frame, self._count))
        except TimeoutError:
            self._leave_behind(encoder)
            self.show(frame)
            return
        for packet in packets:
            self._recording.log(self._entity, rr.VideoStream.from_fields(sample=bytes(packet)))
        self._count += 1

    def _leave_behind(self, encoder: av.VideoCodecContext) -> None:
        """Another encoder goes on, with a key frame, from a clean start; this one is neither asked nor taken down."""
        _STUCK.append(encoder)
        self._left_behind += 1
        what = "another takes over" if self._left_behind <= MOST_LEFT_BEHIND else "its pictures end here"
        logging.getLogger(__name__).warning(
            "%s: the %s encoder gave nothing for %.0f s; %s", self._entity, encoder.name, PATIENCE_S, what
        )
        smaller = encoder.height, encoder.width
        self._encoder, _ = make_encoder(*smaller)
        weakref.finalize(self, end, self._encoder)


def make_encoder(height: int, width: int) -> tuple[av.VideoCodecContext, rr.VideoCodec]:
    """An encoder that gives a packet for every frame at once.

    AV1, which Rerun's viewer decodes by itself (for H.264 it needs an ffmpeg); H.264 where PyAV was built without.
    """
    av1 = "libsvtav1" in av.codecs_available
    encoder = av.CodecContext.create("libsvtav1" if av1 else "libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 30), Fraction(30)
    encoder.gop_size, encoder.thread_count = KEY_EVERY, 1
    # A viewer shows packets as they come: no frame may wait for a later one.
    if av1:
        encoder.options = {"preset": "12", "crf": "32", "svtav1-params": "pred-struct=1:lp=1:rtc=1"}
    else:
        encoder.options = {"preset": "veryfast", "crf": "23", "bf": "0", "tune": "zerolatency"}
    with usual_priority():
        encoder.open()
    return encoder, rr.VideoCodec.AV1 if av1 else rr.VideoCodec.H264


def encode(encoder: av.VideoCodecContext, frame: np.ndarray, number: int) -> list[av.Packet]:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    picture = picture.reformat(encoder.width, encoder.height, "yuv420p")
    picture.pts = number
    return encoder.encode(picture)


def end(encoder: av.VideoCodecContext) -> None:
    """Tell the encoder that nothing comes any more, or it complains on the terminal when it is taken down."""
    if not any(stuck is encoder for stuck in _STUCK):
        with contextlib.suppress(av.error.FFmpegError, TimeoutError):
            within(PATIENCE_S, lambda: encoder.encode(None))


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call gives; TimeoutError where it gives nothing in time (it is left in a thread of its own)."""
    given: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            given.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not given:
        raise TimeoutError
    return given[0]


def enlarged(frame: np.ndarray, least: int = LEAST_PX) -> np.ndarray:
    """Each pixel repeated until the picture is large enough to encode."""
    times = -(-least // min(frame.shape[:2]))
    return frame if times <= 1 else frame.repeat(times, 0).repeat(times, 1)
