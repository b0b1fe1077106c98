"""Pictures over time: there at once, true to what was shown, and without harm to the rest of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from agent.seeing.stream import encode, enlarged, make_encoder


def moving(count, size=128):
    """A square that wanders over a ramp."""
    ramp = np.broadcast_to(np.linspace(60, 180, size)[:, None, None], (size, size, 3))
    frames = []
    for number in range(count):
        frame = ramp.copy()
        frame[20 + 3 * number : 50 + 3 * number, 30:60] = (220, 60, 40)
        frames.append(frame.astype(np.uint8))
    return frames


def test_each_frame_gives_its_packet_at_once_and_comes_back():
    encoder, _ = make_encoder(128, 128)
    frames = moving(20)
    packets = [encode(encoder, frame, number) for number, frame in enumerate(frames)]
    assert [len(found) for found in packets] == [1] * 20
    decoder = av.CodecContext.create("libdav1d" if encoder.name == "libsvtav1" else "h264", "r")
    seen = [f for found in packets for f in decoder.decode(av.Packet(bytes(found[0])))] + decoder.decode(None)
    assert len(seen) == 20
    for frame, back in zip(frames, seen, strict=True):
        assert abs(back.to_ndarray(format="rgb24").astype(int) - frame).mean() < 6
    assert sum(len(bytes(found[0])) for found in packets) < 20 * 2000


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux tells the priorities of threads")
def test_nothing_gets_real_time_priority():
    """Root's encoder used to put the whole process above everything else on the machine."""
    before = os.sched_getscheduler(0)
    encoder, _ = make_encoder(128, 128)
    encode(encoder, moving(1)[0], 0)
    found = {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}
    assert found == {before}


def test_small_pictures_are_enlarged_and_large_ones_left():
    small = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    grown = enlarged(small)
    assert grown.shape == (64, 64, 3)
    np.testing.assert_array_equal(grown[::4, ::4], small)
    large = np.zeros((64, 80, 3), np.uint8)
    assert enlarged(large) is large
