"""Opens the video of a camera, or says in the words of the report why it cannot be; turns it exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data.checks import Damaged
from data.types import Frames
from data.video import VideoError, VideoFrames


def open_video(file: Path, *, camera: str, first_frame: int = 0, length: int | None = None) -> VideoFrames:
    """A lazy video whose packets have been listed; with `length`, a part that must be there."""
    if not file.exists():
        raise Damaged(
            "camera missing",
            file=file,
            value=f"camera {camera}",
            remedy="Copy the video from the original, or leave the camera out with cameras=[...].",
        )
    video = VideoFrames(file, first_frame)
    kind = file.suffix.lstrip(".").lower()
    try:
        frames = len(video)
        reason, value = f"truncated {kind}", f"camera {camera} has no frame"
    except VideoError as error:
        frames = 0
        reason, value = f"truncated {kind}", str(error).removeprefix(f"{file}: ")
    if frames and (length is None or frames >= length):
        return VideoFrames(file, first_frame, length) if length is not None else video
    if frames and length is not None:
        reason = "frames and rows disagree"
        value = (
            f"camera {camera}: frames {first_frame} to {first_frame + length - 1} wanted, {frames} are there"
        )
    raise Damaged(
        reason,
        file=file,
        value=value,
        remedy="Copy the video again from the original, or leave the camera out with cameras=[...].",
    )


def exactly(frames: Frames) -> Frames:
    """The same frames, of a video with exact colours: each time that the others are written again they darken."""
    return replace(frames, exact=True) if isinstance(frames, VideoFrames) else frames
