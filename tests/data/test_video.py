"""Frames by number are the frames that decoding the whole file gives, whatever the codec and the order."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest

from data.decoder import Decoder
from data.video import VideoError, VideoFrames, VideoWriter, close_videos, write_video

VIDEOS = [
    "lerobot_tiny/videos/observation.images.wrist_left/chunk-000/file-000.mp4",  # AV1
    "droid_raw_tiny/1.0.1/LAB/success/2023-07-08/Sat_Jul__8_08:57:28_2023/recordings/MP4/25047636.mp4",  # mp4v
]


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_videos()


@pytest.fixture
def frames(truth) -> list[np.ndarray]:
    return [truth["picture"](step, 1) for step in range(40)]


def in_sequence(path: Path, transform: str = "xvid") -> np.ndarray:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        if context.name == "mpeg4":
            context.options = {"idct": transform}
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def assert_random_is_sequential(path: Path, seed: int = 0) -> None:
    whole = in_sequence(path)
    video = VideoFrames(path)
    assert len(video) == len(whole)
    rng = np.random.default_rng(seed)
    for _ in range(40):
        wanted = rng.integers(0, len(whole), rng.integers(1, 6))
        np.testing.assert_array_equal(video.read(wanted.tolist()), whole[wanted])


@pytest.mark.parametrize("name", VIDEOS)
def test_random_reads_of_videos_that_others_wrote(fixtures, name):
    assert_random_is_sequential(fixtures / name)


@pytest.mark.parametrize(
    ("codec", "gop", "options"),
    [
        ("h264", 10, {}),
        ("h264", 250, {"bf": "3"}),
        ("h264", 12, {"bf": "3", "x264-params": "open-gop=1"}),
        ("mpeg4", 10, {}),
        ("hevc", 20, {"bf": "2"}),
    ],
)
def test_random_reads_of_what_we_write(tmp_path, frames, codec, gop, options):
    path = tmp_path / "v.mp4"
    with VideoWriter(path, 15, gop=gop, codec=codec, options=options) as writer:
        for frame in frames:
            writer.add(frame)
    assert_random_is_sequential(path)
    error = np.abs(VideoFrames(path).read(range(40)).astype(int) - np.stack(frames)).mean()
    assert error < 4, f"codec loss of {error:.2f} levels"


def test_the_faster_transform_loses_nothing(tmp_path, frames):
    """MPEG-4 leaves the last bits of its cosine transform open; ours is a sixth faster than FFmpeg's usual one."""
    path = tmp_path / "v.mp4"
    with VideoWriter(path, 60, gop=12, codec="mpeg4") as writer:
        for frame in frames:
            writer.add(frame)
    usual, read = (a.astype(int) for a in (in_sequence(path, "simple"), VideoFrames(path).read(range(40))))
    assert np.abs(read - usual).mean() < 0.5
    assert np.abs(read - frames).mean() <= np.abs(usual - frames).mean() + 0.02


@pytest.mark.parametrize("between", ["0", "2"])
def test_what_nobody_asked_for_before_a_keyframe_is_not_decoded(tmp_path, frames, monkeypatch, between):
    path = tmp_path / "v.mp4"
    with VideoWriter(path, 15, gop=10, codec="mpeg4", options={"bf": between}) as writer:
        for frame in frames:
            writer.add(frame)
    whole, left_out = in_sequence(path), []
    begins = Decoder._begins_anew
    monkeypatch.setattr(
        Decoder, "_begins_anew", lambda self, t: left_out.append(begins(self, t)) or left_out[-1]
    )
    video = VideoFrames(path)
    for wanted in ([5, 22], [6, 9, 12, 15], [8, 21], [13], [14, 21], [15, 16], [9, 10], [1, 38]):
        left_out.clear()
        np.testing.assert_array_equal(video.read(wanted), whole[wanted])
        if wanted == [14, 21] and between == "0":
            assert sum(left_out) == 5  # 15 to 19


def test_a_part_of_a_file_counts_from_its_own_start(tmp_path, frames):
    write_video(tmp_path / "v.mp4", frames, 15)
    whole = VideoFrames(tmp_path / "v.mp4")
    part = VideoFrames(tmp_path / "v.mp4", first_frame=25, length=10)
    assert len(part) == 10
    np.testing.assert_array_equal(part.read([0, 9]), whole.read([25, 34]))
    assert len(VideoFrames(tmp_path / "v.mp4", first_frame=25)) == 15
    for wrong in (10, -1):
        with pytest.raises(IndexError, match=r"v\.mp4: frame -?\d+ asked for, it has 0\.\.9"):
            part.read([wrong])


def test_repeated_and_empty_reads(tmp_path, frames):
    write_video(tmp_path / "v.mp4", frames, 15)
    video = VideoFrames(tmp_path / "v.mp4")
    twice = video.read([7, 3, 7])
    np.testing.assert_array_equal(twice[0], twice[2])
    assert video.read([]).shape == (0, 48, 64, 3)


def test_header_rate_is_told_but_frames_are_not_counted_by_it(fixtures):
    video = VideoFrames(fixtures / VIDEOS[1])
    assert video.header_fps == 60.0
    assert len(video) == 19


def test_odd_sizes_keep_their_size(tmp_path):
    write_video(tmp_path / "v.mp4", [np.full((33, 47, 3), 120, np.uint8)] * 3, 5)
    assert VideoFrames(tmp_path / "v.mp4").read([2]).shape == (1, 33, 47, 3)


def test_reads_go_on_in_a_forked_child(tmp_path, frames):
    write_video(tmp_path / "v.mp4", frames, 15)
    video = VideoFrames(tmp_path / "v.mp4")
    before = video.read([30])
    child = os.fork()
    if not child:
        same = all((video.read([i])[0] == frames[i]).mean() > 0.1 for i in range(5, 40, 5))
        os._exit(0 if same and (video.read([30]) == before).all() else 1)
    np.testing.assert_array_equal(video.read([30]), before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(video)).read([30]), before)


def test_more_files_than_may_stay_open(tmp_path, frames, monkeypatch):
    monkeypatch.setattr("data.video.MAX_OPEN", 2)
    videos = []
    for i in range(4):
        write_video(tmp_path / f"{i}.mp4", frames[i : i + 5], 15)
        videos.append(VideoFrames(tmp_path / f"{i}.mp4"))
    first = [v.read([2]) for v in videos]
    for video, frame in zip(videos, first):
        np.testing.assert_array_equal(video.read([2]), frame)


def test_a_file_written_anew_is_read_anew(tmp_path, frames):
    path = tmp_path / "v.mp4"
    for part in (frames[:10], frames[20:35]):
        write_video(path, part, 15)
        assert len(VideoFrames(path)) == len(part)
        assert np.abs(VideoFrames(path).read([0])[0].astype(int) - part[0]).mean() < 4


def test_damage_is_a_named_error(tmp_path, frames):
    path = tmp_path / "v.mp4"
    write_video(path, frames, 15)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match=r"v\.mp4"):
        len(VideoFrames(path))
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        len(VideoFrames(tmp_path / "missing.mp4"))


def test_a_writer_that_fails_leaves_nothing(tmp_path, frames):
    def write() -> None:
        with VideoWriter(tmp_path / "v.mp4", 15) as writer:
            writer.add(frames[0])
            writer.add(frames[0][:10, :10])

    with pytest.raises(ValueError, match="frame 1 is 10x10, the first was 48x64"):
        write()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "v.mp4", [frames[0].astype(float)], 15)
    with pytest.raises(ValueError, match="choose one of"):
        VideoWriter(tmp_path / "v.mp4", 15, codec="gif")
    with pytest.raises(VideoError, match="no frame was added"), VideoWriter(tmp_path / "v.mp4", 15):
        pass
