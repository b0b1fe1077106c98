"""Frames shrunk before they are RGB are the frames that shrinking RGB gives, and nearer to what was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from data.cutting import fitted
from data.images import fit_frames
from data.types import ArrayFrames
from data.video import VideoFrames, VideoWriter, close_videos

MPEG4 = "droid_raw_tiny/1.0.1/LAB/success/2023-07-08/Sat_Jul__8_08:57:28_2023/recordings/MP4/17225336.mp4"
AV1 = "lerobot_tiny/videos/observation.images.wrist_left/chunk-000/file-000.mp4"
FITS = [
    (48, "square"),
    (96, "droid_train"),
    (40, "none"),
    (64, "square"),
]  # smaller, larger, squeezed, as it is


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_videos()


def scene(step: int, height: int, width: int) -> np.ndarray:
    """Smooth colours within what a video can show, and a square that moves."""
    y, x = np.mgrid[:height, :width]
    image = np.stack(
        [80 + 90 * x / width, 70 + 90 * y / height, 150 - 60 * (x + y) / (width + height)], -1
    ).astype(np.uint8)
    image[20 + step : 50 + step, 30 + 2 * step : 60 + 2 * step] = (180, 90, 80)
    return image


def recorded(path, height: int, width: int, codec: str = "h264", **options: str) -> np.ndarray:
    frames = np.stack([scene(step, height, width) for step in range(6)])
    with VideoWriter(path, 15, codec=codec, options=options) as writer:
        for frame in frames:
            writer.add(frame)
    return frames


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other)


@pytest.mark.parametrize(("size", "crop"), FITS)
@pytest.mark.parametrize("name", [MPEG4, AV1])
def test_videos_that_others_wrote(fixtures, name, size, crop):
    rows = [7, 2, 11]
    ours = VideoFrames(fixtures / name).read_fitted(rows, size=size, crop=crop)
    large = VideoFrames(fixtures / name, exact=True).read(rows)
    error = apart(ours, fit_frames(large, size=size, crop=crop))
    assert error.mean() < 0.2
    assert np.percentile(error, 99) <= 3


@pytest.mark.parametrize(("size", "crop"), FITS)
@pytest.mark.parametrize(
    ("height", "width", "codec", "options"),
    [
        (120, 200, "h264", {}),
        (120, 200, "mpeg4", {}),
        (120, 198, "h264", {}),  # the crop starts between two samples of colour
        (97, 131, "h264", {}),  # full colour
        (120, 200, "h264", {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}),
        (120, 200, "h264", {"color_range": "pc"}),
    ],
)
def test_it_is_what_shrinking_rgb_gives(tmp_path, height, width, codec, options, size, crop):
    frames = recorded(tmp_path / "v.mp4", height, width, codec, **options)
    video = VideoFrames(tmp_path / "v.mp4")
    ours = video.read_fitted(range(6), size=size, crop=crop)
    exact = fit_frames(VideoFrames(tmp_path / "v.mp4", exact=True).read(range(6)), size=size, crop=crop)
    assert apart(ours, exact).mean() < 0.6
    assert np.percentile(apart(ours, exact), 99) <= 6
    if options:  # the writer knows nothing of these, so that they tell the reader lies
        return
    wanted, fast = (fit_frames(f, size=size, crop=crop) for f in (frames, video.read(range(6))))
    assert abs((ours.astype(int) - wanted).mean()) < 0.6  # no darker
    assert apart(ours, wanted).mean() <= apart(fast, wanted).mean() + 0.05


def test_any_order_any_size_and_pictures_that_are_no_video(tmp_path):
    frames = recorded(tmp_path / "v.mp4", 120, 200)
    video = VideoFrames(tmp_path / "v.mp4")
    whole = {size: video.read_fitted(range(6), size=size, crop="square") for size in (32, 64)}
    for rows, size in (([4, 1, 4], 32), ([0], 64), ([5, 2], 32), ([], 64)):
        read = video.read_fitted(rows, size=size, crop="square")
        np.testing.assert_array_equal(read, whole[size][rows])
        np.testing.assert_array_equal(fitted(video, rows, size=size, crop="square"), read)
    np.testing.assert_array_equal(
        fitted(ArrayFrames(frames), [3, 1], size=32, crop="none"),
        fit_frames(frames[[3, 1]], size=32, crop="none"),
    )
    with pytest.raises(IndexError, match=r"v\.mp4: frame 6 asked for, it has 0\.\.5"):
        video.read_fitted([6], size=32, crop="none")
    with pytest.raises(ValueError, match="crop 'middle' is not known"):
        video.read_fitted([0], size=32, crop="middle")
