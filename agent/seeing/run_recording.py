"""The Rerun recording of a run: the arm and what it imagines in 3-D, cameras beside goals, energies, words."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
from PIL import Image

from agent.agent import Step
from agent.build import Mind
from agent.task import Task
from envs.arm import Limits

from .blueprint import run_blueprint
from .imagery import DREAM, REAL, Imagery
from .maps import can_map
from .nearest import RealFrames
from .plots import Plots
from .robot_view import RobotView
from .rows import Rows, points, strips, transforms
from .stream import VideoStream
from .viewer import open_viewer

MOST_POINTS = 120  # of a cloud of candidates: more cannot be told apart
# Rows that wait for company: a row by itself takes a kilobyte of packing.
_TOGETHER = rr.ChunkBatcherConfig(flush_tick=20.0, flush_num_bytes=2**20)


class RunRecording:
    """A watcher of `agent.play`: call it with every step, close it at the end.

    With a `mind` there are pictures of what is imagined; `real` are the frames that the nearest are sought among, by
    default those of the run itself.  `live` is the address at which a viewer opens and listens; None: none does.
    `brief` is what was decided before the first step.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        limits: Limits,
        *,
        mind: Mind | None = None,
        truth: Any = None,
        real: RealFrames | None = None,
        cameras: tuple[str, ...] = ("exterior_left", "wrist"),
        live: str | None = None,
        brief: Sequence[str] = (),
    ) -> None:
        self.path, self._task, self._truth, self._cameras, self._live = path, task, truth, cameras, bool(live)
        name = f"{path.parent.name} {path.stem}"
        self._recording = rr.RecordingStream(
            "forearm",
            recording_id=name,
            batcher_config=rr.ChunkBatcherConfig.LOW_LATENCY() if live else _TOGETHER,
        )
        decoded = mind is not None and "decoder" in mind.heads
        blueprint = run_blueprint(cameras, decoded=decoded, mapped=mind is not None and can_map(mind.model))
        if live:
            viewer = rr.GrpcSink(open_viewer(live))
            self._recording.set_sinks(viewer, rr.FileSink(str(path)), default_blueprint=blueprint)
        else:
            self._recording.save(path, default_blueprint=blueprint)
        self._goal_shown = -1
        self._path: list[np.ndarray] = []
        self._streams = {c: VideoStream(self._recording, f"cameras/{c}") for c in cameras}
        self._imagery = Imagery(self._recording, mind, cameras, real) if mind is not None else None
        self._rows = Rows(self._recording)
        self._looks: dict[str, Any] = {}  # of objects: what was logged of them
        self._cloudy = False
        self._show_room(limits)
        self._robot = RobotView(self._recording, self._rows)
        self._plots = Plots(self._recording, self._rows, None if mind is None else mind.heads.get("body"))
        self._brief = list(brief)

    def __call__(self, step: Step) -> None:
        observation, log = step.percept.observation, self._recording.log
        self._recording.set_time("step", sequence=step.index)
        self._recording.set_time("time", duration=observation.time_s)
        self._rows.at(step=step.index, time=float(observation.time_s))
        self._robot.show(observation.joints, float(observation.pose[6]))
        self._show_objects()
        for name, stream in self._streams.items():
            stream.show(observation.frames[name])
        goal = self._task.goals[step.goal_index]
        if step.goal_index != self._goal_shown:
            self._goal_shown = step.goal_index
            for name, frame in goal.frames.items():
                log(f"goals/{name}", _jpeg(frame))
            log("decisions", rr.TextLog(f"goal {step.goal_index + 1}: {goal.name}"))
        brief, self._brief = self._brief, []
        for reason in [*brief, *step.choice.reasons, *step.notes]:
            log("decisions", rr.TextLog(reason))
        self._plots.show(step)
        if step.decision is not None:
            self._show_plan(step)
        if self._imagery is not None:
            self._imagery.add(step, goal.frames)
            if self._live:
                self._imagery.draw()
        if self._live:
            self._rows.send()

    def close(self, *, pictures: bool = True) -> None:
        """`pictures=False`: what waits to be painted of the imagined is left out; all that was seen and decided is in."""
        self._rows.send()
        if pictures and self._imagery is not None:
            self._imagery.draw()
        self._recording.flush()
        self._recording.disconnect()

    def _show_room(self, limits: Limits) -> None:
        log = self._recording.log
        log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        low, high = np.array(limits.low), np.array(limits.high)
        envelope = rr.Boxes3D(
            centers=[(low + high) / 2], half_sizes=[(high - low) / 2], colors=[[130, 150, 170, 90]], radii=0.001
        )  # fmt: skip
        log("world/envelope", envelope, static=True)
        table = rr.Boxes3D(
            centers=[[0.45, 0, limits.table_z - 0.02]], half_sizes=[[0.55, 0.75, 0.02]], colors=[[176, 156, 132]],
            fill_mode="solid",
        )  # fmt: skip
        log("world/table", table, static=True)
        for name, colour, radius in (("path", REAL, 0.002), ("imagined/path", DREAM, 0.003)):
            log(f"world/{name}", rr.LineStrips3D.from_fields(colors=[colour], radii=[radius]), static=True)
        for name, radius in (("steps", 0.007), ("candidates", 0.0025)):
            log(f"world/imagined/{name}", rr.Points3D.from_fields(radii=[radius]), static=True)

    def _show_plan(self, step: Step) -> None:
        """Where the hand was, where it is imagined to go, and the ends of all candidates, iteration by iteration."""
        assert step.decision is not None
        rows, plan = self._rows, step.decision.plan
        imagined = plan.imagined.poses[0, 0].numpy()  # [H, 7]
        here = step.percept.observation.pose[:3]
        self._path.append(here.astype(np.float32))
        rows.add("world/path", strips, np.stack(self._path))
        ahead = np.concatenate([here[None], imagined[:, :3]]).astype(np.float32)
        fading = np.array(
            [[*DREAM, int(255 - 150 * h / len(imagined))] for h in range(len(imagined))], np.uint8
        )
        rows.add("world/imagined/path", strips, ahead)
        rows.add("world/imagined/steps", points, (ahead[1:], fading))
        if self._cloudy and not plan.clouds:  # Mode 1 drew none: those of an earlier step would stay
            self._recording.log("world/imagined/candidates", rr.Clear(recursive=False))
        self._cloudy = bool(plan.clouds)
        for number, cloud in enumerate(plan.clouds):
            energies = cloud["energies"][0].numpy()
            best = np.argsort(energies)[:MOST_POINTS]
            ends = cloud["poses"][0, :, -1, :3].numpy()[best]
            ends = np.round(ends * 2048) / 2048  # half a millimetre; zeros at the end of a number compress
            rows.add("world/imagined/candidates", points, (ends, _shades(len(best))), iteration=number)

    def _show_objects(self) -> None:
        """Each object's look once, and again where it changes; where it is at every step."""
        if self._truth is None:
            return
        scene = self._truth.scene
        for name, pose in self._truth.object_poses().items():
            entity, item = f"world/objects/{name}", scene.object(name)
            if self._looks.get(name) != item:
                self._looks[name] = replace(item)
                self._recording.log(entity, _look(item))
            self._rows.add(entity, transforms, np.array(pose, np.float64))


def _jpeg(frame: np.ndarray) -> rr.EncodedImage:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=90)
    return rr.EncodedImage(contents=buffer.getvalue(), media_type="image/jpeg")


def _look(item: Any) -> Any:
    colour = [int(255 * c) for c in item.colour]
    if item.shape == "cube":
        half = [item.half_width_m, item.half_width_m, item.half_height_m]
        return rr.Boxes3D(half_sizes=[half], colors=[colour], fill_mode="solid")
    return rr.Cylinders3D(
        lengths=[2 * item.half_height_m], radii=[item.half_width_m], colors=[colour], fill_mode="solid"
    )


@cache
def _shades(count: int) -> np.ndarray:
    """From blue for the best to pale for the worst: uint8 [count, 3]."""
    share = np.linspace(0, 1, count)[:, None]
    best, worst = np.array([37, 99, 190]), np.array([214, 202, 170])
    return (best + share * (worst - best)).astype(np.uint8)
