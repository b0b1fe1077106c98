"""Pictures over time in a recording, as a video stream: a quarter of the size of single pictures."""

from __future__ import annotations

import contextlib
import weakref
from fractions import Fraction

import av
import av.error
import numpy as np
import rerun as rr

from data.priority import usual_priority

KEY_EVERY = 15  # a viewer that jumps decodes from the key frame before
LEAST_PX = 64  # the AV1 encoder's


class VideoStream:
    """One entity's frames, all of one size; each is there at once, at the recording's current time."""

    def __init__(self, recording: rr.RecordingStream, entity: str) -> None:
        self._recording, self._entity = recording, entity
        self._encoder: av.VideoCodecContext | None = None
        self._count = 0

    def show(self, frame: np.ndarray) -> None:
        """uint8 [H, W, 3]"""
        frame = enlarged(frame)
        if self._encoder is None:
            self._encoder, codec = make_encoder(*frame.shape[:2])
            weakref.finalize(self, end, self._encoder)
            self._recording.log(self._entity, rr.VideoStream(codec=codec), static=True)
        for packet in encode(self._encoder, frame, self._count):
            self._recording.log(self._entity, rr.VideoStream.from_fields(sample=bytes(packet)))
        self._count += 1


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
    with contextlib.suppress(av.error.FFmpegError):
        encoder.encode(None)


def enlarged(frame: np.ndarray, least: int = LEAST_PX) -> np.ndarray:
    """Each pixel repeated until the picture is large enough to encode."""
    times = -(-least // min(frame.shape[:2]))
    return frame if times <= 1 else frame.repeat(times, 0).repeat(times, 1)
