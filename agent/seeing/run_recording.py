"""The Rerun recording of a run: the arm and what it imagines in 3-D, cameras beside goals, energies, words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from PIL import Image

from agent.agent import Step
from agent.task import Task
from envs.arm import Limits

from .robot_view import RobotView

MOST_POINTS = 160  # of a cloud of candidates: more cannot be told apart


class RunRecording:
    """A watcher of `agent.play`: call it with every step, close it at the end."""

    def __init__(
        self,
        path: Path,
        task: Task,
        limits: Limits,
        *,
        truth: Any = None,
        decoder: Any = None,
        cameras: tuple[str, ...] = ("exterior_left", "wrist"),
        live: bool = False,
    ) -> None:
        self.path, self._task, self._truth, self._decoder, self._cameras = path, task, truth, decoder, cameras
        self._recording = rr.RecordingStream("forearm", recording_id=path.parent.name)
        blueprint = _blueprint(cameras, decoder is not None)
        if live:
            rr.spawn(memory_limit="2GB", connect=False)
            self._recording.set_sinks(rr.GrpcSink(), rr.FileSink(str(path)), default_blueprint=blueprint)
        else:
            self._recording.save(path, default_blueprint=blueprint)
        self._goal_shown = -1
        self._expected: tuple[np.ndarray, float] | None = None
        log = self._recording.log
        log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        low, high = np.array(limits.low), np.array(limits.high)
        log(
            "world/envelope",
            rr.Boxes3D(
                centers=[(low + high) / 2],
                half_sizes=[(high - low) / 2],
                colors=[[120, 140, 160, 90]],
                radii=0.001,
            ),
            static=True,
        )
        log(
            "world/table",
            rr.Boxes3D(
                centers=[[0.45, 0, limits.table_z - 0.02]], half_sizes=[[0.55, 0.75, 0.02]], colors=[[176, 156, 132]],
                fill_mode="solid",
            ),
            static=True,
        )  # fmt: skip
        self._robot = RobotView(self._recording)

    def __call__(self, step: Step) -> None:
        observation, log = step.percept.observation, self._recording.log
        self._recording.set_time("step", sequence=step.index)
        self._recording.set_time("time", duration=observation.time_s)
        self._robot.show(observation.joints, float(observation.pose[6]))
        self._show_objects()
        for name in self._cameras:
            log(f"cameras/{name}", _jpeg(observation.frames[name]))
        if step.goal_index != self._goal_shown:
            self._goal_shown = step.goal_index
            for name, frame in self._task.goals[step.goal_index].frames.items():
                log(f"goals/{name}", _jpeg(frame))
            log(
                "decisions",
                rr.TextLog(f"goal {step.goal_index + 1}: {self._task.goals[step.goal_index].name}"),
            )
        for reason in [*step.choice.reasons, *step.notes]:
            log("decisions", rr.TextLog(reason))
        self._show_plots(step)
        if step.decision is not None:
            self._show_plan(step)

    def close(self) -> None:
        self._recording.flush()
        self._recording.disconnect()

    def _show_plots(self, step: Step) -> None:
        log, pose = self._recording.log, step.percept.observation.pose
        for axis, value in zip("xyz", pose[:3], strict=True):
            log(f"plots/pose/{axis}", rr.Scalars(float(value)))
        log("plots/gripper/real", rr.Scalars(float(pose[6])))
        if self._expected is not None:
            log("plots/gripper/imagined", rr.Scalars(self._expected[1]))
        log("plots/progress/steps_to_go", rr.Scalars(step.steps_to_go))
        log("plots/progress/latent_distance", rr.Scalars(step.distance))
        if step.surprise is not None:
            log("plots/surprise", rr.Scalars(step.surprise))
        if step.decision is not None:
            log("plots/milliseconds/perceive", rr.Scalars(step.milliseconds["perceive"]))
            log("plots/milliseconds/plan", rr.Scalars(step.milliseconds["plan"]))
            for name, value in step.decision.plan.terms.items():
                log(f"plots/energy/{name}", rr.Scalars(float(value[0])))

    def _show_plan(self, step: Step) -> None:
        assert step.decision is not None
        log, plan = self._recording.log, step.decision.plan
        here = step.percept.observation.pose[:3]
        path = np.concatenate([here[None], plan.imagined.poses[0, 0, :, :3].numpy()])
        log("world/imagined/path", rr.LineStrips3D([path], colors=[[59, 111, 181]], radii=0.003))
        log("world/imagined/steps", rr.Points3D(path[1:], colors=[[59, 111, 181]], radii=0.006))
        latent = plan.imagined.latents[0, 0, 0].numpy()
        log("latents/real", rr.Image(_as_map(step.percept.latent[0].numpy())))
        log("latents/imagined_next", rr.Image(_as_map(latent)))
        self._expected = (path[1], float(plan.imagined.poses[0, 0, 0, 6]))
        if self._decoder is not None:
            import torch

            with torch.no_grad():
                seen = (self._decoder(plan.imagined.latents[0, 0, -1:]) * 255).byte().numpy()[0]
            for name, frame in zip(self._cameras, seen, strict=True):
                log(f"imagined/{name}", _jpeg(frame))
        if not plan.clouds:  # Mode 1 drew none: those of an earlier step would stay
            log("world/imagined/candidates", rr.Clear(recursive=False))
        for number, cloud in enumerate(plan.clouds):
            self._recording.set_time("iteration", sequence=number)
            energies = cloud["energies"][0].numpy()
            best = np.argsort(energies)[:MOST_POINTS]
            ends = cloud["poses"][0, :, -1, :3].numpy()[best]
            log("world/imagined/candidates", rr.Points3D(ends, colors=_shades(energies[best]), radii=0.0025))
        self._recording.reset_time()

    def _show_objects(self) -> None:
        if self._truth is None:
            return
        scene = self._truth.scene
        for name, pose in self._truth.object_poses().items():
            item = scene.object(name)
            colour = [int(255 * c) for c in item.colour]
            half = [item.half_width_m, item.half_width_m, item.half_height_m]
            turn = rr.Quaternion(xyzw=[float(v) for v in pose[3:]])
            if item.shape == "cube":
                shape: Any = rr.Boxes3D(
                    centers=[pose[:3]],
                    half_sizes=[half],
                    quaternions=[turn],
                    colors=[colour],
                    fill_mode="solid",
                )
            else:
                shape = rr.Cylinders3D(
                    lengths=[2 * item.half_height_m], radii=[item.half_width_m], centers=[pose[:3]], quaternions=[turn],
                    colors=[colour], fill_mode="solid",
                )  # fmt: skip
            self._recording.log(f"world/objects/{name}", shape)


def _jpeg(frame: np.ndarray) -> rr.EncodedImage:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=88)
    return rr.EncodedImage(contents=buffer.getvalue(), media_type="image/jpeg")


def _as_map(latent: np.ndarray) -> np.ndarray:
    """A latent [N, D] as a small picture: one pixel a channel."""
    values = latent.ravel()
    side = int(np.ceil(np.sqrt(values.size)))
    padded = np.zeros(side * side, np.float32)
    padded[: values.size] = values
    return (np.clip(padded.reshape(side, side) / 6 + 0.5, 0, 1) * 255).astype(np.uint8)


def _shades(energies: np.ndarray) -> np.ndarray:
    """Blue for the best, pale for the worst."""
    rank = np.argsort(np.argsort(energies)) / max(1, len(energies) - 1)
    best, worst = np.array([37, 99, 190]), np.array([214, 202, 170])
    return (best + rank[:, None] * (worst - best)).astype(np.uint8)


def _blueprint(cameras: tuple[str, ...], decoded: bool) -> rrb.Blueprint:
    rows = []
    for name in cameras:
        views = [
            rrb.Spatial2DView(origin=f"cameras/{name}", name=name),
            rrb.Spatial2DView(origin=f"goals/{name}", name=f"{name}: goal"),
        ]
        if decoded:
            views.append(rrb.Spatial2DView(origin=f"imagined/{name}", name=f"{name}: imagined (decoded)"))
        rows.append(rrb.Horizontal(*views))
    plots = rrb.Grid(
        rrb.TimeSeriesView(origin="plots/energy", name="energy"),
        rrb.TimeSeriesView(origin="plots/progress", name="progress"),
        rrb.TimeSeriesView(origin="plots/gripper", name="gripper"),
        rrb.TimeSeriesView(origin="plots/surprise", name="surprise"),
        rrb.TimeSeriesView(origin="plots/pose", name="position"),
        rrb.TimeSeriesView(origin="plots/milliseconds", name="milliseconds"),
        grid_columns=3,
        name="plots",
    )
    latents = rrb.Horizontal(
        rrb.Spatial2DView(origin="latents/real", name="latent: real"),
        rrb.Spatial2DView(origin="latents/imagined_next", name="latent: imagined next"),
        name="latents",
    )
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial3DView(origin="world", name="arm and imagination"),
                rrb.TextLogView(origin="decisions", name="decisions"),
                row_shares=[4, 1],
            ),
            rrb.Vertical(*rows, rrb.Tabs(plots, latents), row_shares=[1] * len(rows) + [2]),
            column_shares=[3, 2],
        ),
        rrb.TimePanel(timeline="step", state="collapsed"),
        rrb.SelectionPanel(state="hidden"),
        rrb.BlueprintPanel(state="hidden"),
    )
