"""A Rerun recording of one logged episode: cameras, the arm in 3-D, pose, gripper, actions, gaps in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from agent.seeing.robot_view import RobotView
from agent.seeing.rows import Rows
from agent.seeing.stream import VideoStream
from data.checks import Finding
from data.sampling import measured_poses
from data.survey import AXES, steps
from data.types import Episode

WIDEST_PX = 640  # pictures are for looking at
_BLOCK = 32


def record_episode(episode: Episode, path: Path, *, findings: Sequence[Finding] = ()) -> Path:
    """Write the recording and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recording = rr.RecordingStream("forearm", recording_id=str(episode.meta.get("uuid") or path.stem))
    recording.save(path, default_blueprint=_blueprint(list(episode.frames)))
    try:
        recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        recording.log("about", rr.TextDocument(_about(episode), media_type="text/markdown"), static=True)
        _log_cameras(recording, episode)
        _log_arm(recording, episode)
        _log_plots(recording, episode)
        _log_notes(recording, episode, findings)
        recording.flush()
    finally:
        recording.disconnect()
    return path


def _at(recording: rr.RecordingStream, episode: Episode, row: int) -> None:
    recording.set_time("row", sequence=row)
    recording.set_time("time", duration=float(episode.time_s[row]))


def _about(episode: Episode) -> str:
    meta = episode.meta
    facts = {
        "task": episode.task,
        "success": episode.success,
        "rows": f"{len(episode)} in {episode.time_s[-1]:.2f} s",
        **{name: meta.get(name) for name in ("uuid", "format", "robot", "frame", "tool", "source")},
    }
    return "\n".join(f"- **{name}** {value}" for name, value in facts.items() if value is not None)


def _log_cameras(recording: rr.RecordingStream, episode: Episode) -> None:
    """Each camera as a video stream, with its place in the world where that is known."""
    tracks: dict[str, np.ndarray] = episode.meta.get("base_T_cam") or {}
    for name, source in episode.frames.items():
        entity = f"world/cameras/{name}"
        stream = VideoStream(recording, f"{entity}/picture", widest_px=WIDEST_PX)
        for start in range(0, len(episode), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(episode)))
            for row, frame in zip(rows, source.read(rows), strict=True):
                _at(recording, episode, row)
                stream.show(frame)
        camera = episode.cameras.get(name)
        if camera is not None and camera.K is not None and stream.scale is not None:
            across, down = stream.scale
            pinhole = rr.Pinhole(
                image_from_camera=camera.K * np.array([[across], [down], [1.0]]),
                width=stream.width, height=stream.height, image_plane_distance=0.15,
            )  # fmt: skip
            recording.log(f"{entity}/picture", pinhole, static=True)
        if camera is not None and camera.base_T_cam is not None:
            recording.log(entity, _transform(camera.base_T_cam), static=True)
        for row, base_T_cam in enumerate(tracks.get(name, ())[: len(episode)]):
            _at(recording, episode, row)
            recording.log(entity, _transform(base_T_cam))


def _transform(matrix: np.ndarray) -> rr.Transform3D:
    return rr.Transform3D(translation=matrix[:3, 3], mat3x3=matrix[:3, :3])


def _log_arm(recording: rr.RecordingStream, episode: Episode) -> None:
    """The arm where its joints are known, the tool and its path always, and in simulation the objects."""
    joints = episode.joints
    rows = Rows(recording)
    robot = RobotView(recording, rows) if joints is not None and joints.shape[1] == 7 else None
    path = [episode.ee_position.astype(np.float32)]
    recording.log("world/path", rr.LineStrips3D(path, colors=[[59, 111, 181]], radii=0.002), static=True)
    if episode.commanded is not None and np.isfinite(episode.commanded[:, :3]).all():
        strip = [episode.commanded[:, :3].astype(np.float32)]
        recording.log(
            "world/commanded", rr.LineStrips3D(strip, colors=[[200, 85, 61]], radii=0.001), static=True
        )
    recording.log("world/tool", rr.TransformAxes3D(0.08), static=True)
    for name in episode.objects:
        box = rr.Boxes3D(half_sizes=[[0.02] * 3], colors=[[42, 127, 98]], labels=[name])
        recording.log(f"world/objects/{name}", box, static=True)
    for row in range(len(episode)):
        _at(recording, episode, row)
        rows.at(row=row, time=float(episode.time_s[row]))
        if robot is not None and joints is not None:
            robot.show(joints[row], float(episode.closedness[row]))
        turn = rr.Quaternion(xyzw=episode.ee_quaternion[row])
        recording.log("world/tool", rr.Transform3D(translation=episode.ee_position[row], quaternion=turn))
        for name, poses in episode.objects.items():
            turn = rr.Quaternion(xyzw=poses[row, 3:])
            place = rr.Transform3D(translation=poses[row, :3], quaternion=turn)
            recording.log(f"world/objects/{name}", place)
    rows.send()


def _log_plots(recording: rr.RecordingStream, episode: Episode) -> None:
    """Pose, gripper, joints, steps over a model period, and the time between rows."""
    index = [
        rr.TimeColumn("row", sequence=np.arange(len(episode))),
        rr.TimeColumn("time", duration=episode.time_s),
    ]

    def plot(entity: str, values: np.ndarray, every: int = 1) -> None:
        times = index
        if every > 1 or len(values) < len(episode):
            rows = np.arange(len(values)) * every
            times = [
                rr.TimeColumn("row", sequence=rows),
                rr.TimeColumn("time", duration=episode.time_s[rows]),
            ]
        recording.send_columns(entity, times, rr.Scalars.columns(scalars=values))

    poses = measured_poses(episode).numpy()
    for i, axis in enumerate(AXES[:6]):
        plot(f"plots/{'position' if i < 3 else 'rotation'}/{axis}", poses[:, i])
    plot("plots/gripper/measured", episode.closedness)
    if episode.commanded is not None:
        plot("plots/gripper/commanded", episode.commanded[:, 6])
    for i, angle in enumerate(episode.joints.T if episode.joints is not None else ()):
        plot(f"plots/joints/{i + 1}", angle)
    change = steps(episode)
    every = max(1, (len(episode) - 1) // max(1, len(change)))
    for i, axis in enumerate(AXES):
        plot(f"plots/actions/{axis}", change[:, i], every)
    plot("plots/period_ms", 1e3 * np.diff(episode.time_s, append=episode.time_s[-1:]))


def _log_notes(recording: rr.RecordingStream, episode: Episode, findings: Sequence[Finding]) -> None:
    """What the check found, at the row where it is; gaps in time; pauses of the operator."""
    for finding in findings:
        _at(recording, episode, min(finding.row or 0, len(episode) - 1))
        recording.log("notes", rr.TextLog(str(finding), level="WARN"))
    between = np.diff(episode.time_s)
    usual = float(np.median(between)) if len(between) else 0.0
    for row in np.flatnonzero(between > 2 * usual).tolist():
        _at(recording, episode, row + 1)
        recording.log(
            "notes", rr.TextLog(f"{between[row]:.3f} s since the row before, usually {usual:.3f} s")
        )
    paused = episode.meta.get("paused")
    if paused is not None and len(paused) >= len(episode):
        changes = np.flatnonzero(np.diff(paused[: len(episode)].astype(int), prepend=0)).tolist()
        for row in changes:
            _at(recording, episode, row)
            recording.log("notes", rr.TextLog("operator let go" if paused[row] else "operator took over"))


def _blueprint(cameras: list[str]) -> rrb.Blueprint:
    views = [rrb.Spatial2DView(origin=f"world/cameras/{name}/picture", name=name) for name in cameras]
    plots = ("position", "rotation", "gripper", "actions", "joints", "period_ms")
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial3DView(origin="world", name="arm"), rrb.Horizontal(*views), row_shares=[3, 2]
            ),
            rrb.Vertical(
                *[rrb.TimeSeriesView(origin=f"plots/{name}", name=name) for name in plots],
                rrb.Tabs(
                    rrb.TextLogView(origin="notes", name="notes"),
                    rrb.TextDocumentView(origin="about", name="about"),
                ),
            ),
            column_shares=[3, 2],
        ),
        collapse_panels=True,
    )
