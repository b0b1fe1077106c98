"""A Rerun recording of one roll-out in imagination beside what came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from agent.imagining import RollOuts

from .imagery import DREAM, REAL, captioned, framed, grown
from .imagination import Shown
from .stream import VideoStream


def record_imagination(shown: Shown, rolled: RollOuts, cameras: Sequence[str], path: Path) -> Path:
    """Write the recording and return its path.

    The hand is where a small head reads it from the imagined latents; without one, where the actions tell the model that
    it went, which is hardly ever wrong.
    """
    recording = rr.RecordingStream(
        "forearm",
        recording_id=f"{path.parent.name} imagination",
        batcher_config=rr.ChunkBatcherConfig(flush_tick=20.0, flush_num_bytes=2**20),
    )
    recording.save(path, default_blueprint=_blueprint(shown.decoded is not None))
    log = recording.log
    streams = {name: VideoStream(recording, name) for name in ("came", "imagined", "nearest")}
    stretch, start = shown.encoded.stretch, shown.start
    context = stretch.poses[: start + 1, :3].numpy()
    came = stretch.poses[start : start + 1 + len(shown.latents)].numpy()
    dreamt = np.concatenate([came[:1], shown.poses.numpy()])
    if shown.hand is not None:
        dreamt[1:, :3] = shown.hand.numpy()
    kinds = {"imagined": (dreamt[:, :3], DREAM, "read from what was imagined")}
    if shown.hand is None:
        kinds["imagined"] = (dreamt[:, :3], DREAM, "told to the model")
    elif shown.hand_seen is not None:
        seen = np.concatenate([came[:1, :3], shown.hand_seen.numpy()])
        kinds["came"] = (seen, REAL, "read from the frames that came")
    for name, (_, colour, words) in kinds.items():
        look = rr.SeriesLines(colors=[colour], names=[words])
        log(f"plots/hand_error_mm/{name}", look, static=True)
    log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    log("world/before", rr.LineStrips3D([context], colors=[[130, 140, 150]], radii=0.001), static=True)
    try:
        for h in range(1, len(came)):
            recording.set_time("steps_ahead", sequence=h)
            for name, poses, colour in (("came", came, REAL), ("imagined", dreamt, DREAM)):
                log(f"world/{name}", rr.LineStrips3D([poses[: h + 1, :3]], colors=[colour], radii=0.002))
                log(f"world/{name}/hand", rr.Points3D(poses[h : h + 1, :3], colors=[colour], radii=0.006))
                log(f"plots/gripper/{name}", rr.Scalars(float(poses[h, 6])))
            for name, (places, _, _) in kinds.items():
                error = 1000 * float(np.linalg.norm(came[h, :3] - places[h]))
                log(f"plots/hand_error_mm/{name}", rr.Scalars(error))
            log("plots/latent_error/imagined", rr.Scalars(rolled.latent[h - 1]))
            log("plots/latent_error/nothing_changes", rr.Scalars(rolled.copy_last[h - 1]))
            log("plots/latent_error/other_actions", rr.Scalars(rolled.wrong_actions[h - 1]))
            near = shown.near[h - 1]
            text = f"{near.where}, distance {near.distance:.2f}"
            pictures = {
                "came": [framed(grown(f), REAL) for f in shown.frames[h - 1]],
                "nearest": [captioned(framed(grown(f), REAL), text) for f in near.frames],
            }
            if shown.decoded is not None:
                pictures["imagined"] = [framed(f, DREAM) for f in shown.decoded[h - 1]]
            for name, found in pictures.items():
                streams[name].show(np.concatenate(found, 0))
        recording.flush()
    finally:
        recording.disconnect()
    return path


def _blueprint(decoded: bool) -> rrb.Blueprint:
    pictures = {"came": "came", "imagined": "imagined (decoded)", "nearest": "nearest real frame"}
    views = [
        rrb.Spatial2DView(origin=key, name=title)
        for key, title in pictures.items()
        if decoded or key != "imagined"
    ]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial3DView(origin="world", name="the hand: came (green), imagined (blue)"),
                rrb.Horizontal(
                    rrb.TimeSeriesView(
                        origin="plots/latent_error", name="error of the latent, mean of all starts"
                    ),
                    rrb.TimeSeriesView(origin="plots/hand_error_mm", name="error of the hand [mm]"),
                    rrb.TimeSeriesView(origin="plots/gripper", name="gripper"),
                ),
                row_shares=[2, 1],
            ),
            rrb.Horizontal(*views),
            column_shares=[3, 4],
        ),
        rrb.TimePanel(timeline="steps_ahead", state="collapsed"),
        rrb.SelectionPanel(state="hidden"),
        rrb.BlueprintPanel(state="hidden"),
    )
