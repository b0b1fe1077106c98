"""Pictures over time: there at once, true to what was shown, and without harm to the rest of the machine."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import rerun as rr
from rerun.chunk import RrdReader

from agent.seeing import stream
from agent.seeing.stream import VideoStream, encode, enlarged, make_encoder, within


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


@pytest.mark.parametrize(
    ("given", "shown"), [((720, 1280), (360, 640)), ((45, 60), (90, 120)), ((60, 1000), (64, 1066)), ((97, 131), (96, 130))]
)  # fmt: skip
def test_a_stream_is_no_wider_than_asked_and_says_by_how_much(tmp_path, given, shown):
    """Cameras drawn in the room need the scale of their pictures."""
    recording = rr.RecordingStream("forearm", recording_id="wide")
    recording.save(tmp_path / "wide.rrd")
    shown_as = VideoStream(recording, "picture", widest_px=640)
    shown_as.show(np.full((*given, 3), 90, np.uint8))
    recording.disconnect()
    assert (shown_as.height, shown_as.width) == shown
    assert shown_as.scale == (shown[1] / given[1], shown[0] / given[0])


class WaitsForEver:
    """An encoder that gives its first frames and then nothing any more, as SVT-AV1 did."""

    def __init__(self, encoder, after):
        self.real, self.left = encoder, after
        self.name, self.width, self.height = encoder.name, encoder.width, encoder.height

    def encode(self, picture):
        self.left -= 1
        if self.left < 0:
            threading.Event().wait()
        return self.real.encode(picture)


def test_an_encoder_that_never_answers_is_left_behind(tmp_path, monkeypatch, caplog):
    """Once, on a busy machine, a recording waited for ever for a packet."""
    made = []

    def make(height, width):
        encoder, codec = make_encoder(height, width)
        made.append(WaitsForEver(encoder, 3) if len(made) == 0 else encoder)
        return made[-1], codec

    def soon(seconds, call):
        """Nobody waits long where nothing comes, and a slow machine is given all its time where something does."""
        stuck = isinstance(made[-1], WaitsForEver) and made[-1].left <= 0
        return within(0.2 if stuck else seconds, call)

    monkeypatch.setattr(stream, "make_encoder", make)
    monkeypatch.setattr(stream, "within", soon)
    recording = rr.RecordingStream("forearm", recording_id="stuck")
    recording.save(tmp_path / "stuck.rrd")
    shown = VideoStream(recording, "picture")
    for number, frame in enumerate(moving(8)):
        recording.set_time("step", sequence=number)
        shown.show(frame)
    del shown
    recording.disconnect()
    rows = [
        c
        for c in RrdReader(tmp_path / "stuck.rrd").stream()
        if str(c.entity_path) == "/picture" and not c.is_static
    ]
    assert sum(chunk.num_rows for chunk in rows) == 8
    assert len(made) == 2
    assert "gave nothing for" in caplog.text


def test_after_three_such_encoders_a_run_goes_on_without_these_pictures(tmp_path, monkeypatch, caplog):
    made = []

    def make(height, width):
        encoder, codec = make_encoder(height, width)
        made.append(WaitsForEver(encoder, 0))
        return made[-1], codec

    monkeypatch.setattr(stream, "make_encoder", make)
    monkeypatch.setattr(stream, "PATIENCE_S", 0.1)
    recording = rr.RecordingStream("forearm", recording_id="stuck")
    recording.save(tmp_path / "stuck.rrd")
    shown = VideoStream(recording, "picture")
    for frame in moving(8):
        shown.show(frame)
    assert len(made) == 4
    assert "its pictures end here" in caplog.text
