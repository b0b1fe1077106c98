"""Rows that wait say the same as rows that are sent one by one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import rerun as rr
from rerun.chunk import RrdReader

from agent.seeing.rows import Rows, points, scalars, strips, transforms


def everything(path):
    """Entity -> a sorted list of (times, component, value)."""
    found = defaultdict(list)
    for chunk in RrdReader(path).stream():
        if chunk.is_static or "step" not in chunk.timeline_names:
            continue
        batch = chunk.to_record_batch()
        times = [name for name in batch.schema.names if name in ("step", "iteration")]
        for name in batch.schema.names:
            if ":" not in name:
                continue
            for row, value in enumerate(batch[name].to_pylist()):
                if value:
                    when = tuple(batch[time].to_pylist()[row] for time in times)
                    found[str(chunk.entity_path)].append((when, name, str(value)))
    return {entity: sorted(values) for entity, values in found.items()}


def test_rows_that_waited_are_those_that_were_sent_one_by_one(tmp_path):
    random = np.random.default_rng(0)
    together, single = rr.RecordingStream("together"), rr.RecordingStream("single")
    together.save(tmp_path / "together.rrd")
    single.save(tmp_path / "single.rrd")
    rows = Rows(together)
    for step in range(5):
        rows.at(step=step, time=0.2 * step)
        single.set_time("step", sequence=step)
        single.set_time("time", duration=0.2 * step)
        place, line = random.normal(size=7).astype(np.float32), random.normal(size=(step + 1, 3))
        rows.add("curves", scalars, place[:2])
        single.log("curves", rr.Scalars(place[:2]))
        rows.add("place", transforms, place)
        turn = rr.Quaternion(xyzw=place[3:])
        single.log("place", rr.Transform3D.from_fields(translation=place[:3], quaternion=turn))
        rows.add("line", strips, line)
        single.log("line", rr.LineStrips3D([line]))
        for iteration in range(step % 3):
            cloud = random.normal(size=(4 + iteration, 3))
            colours = random.integers(0, 256, (4 + iteration, 3), dtype=np.uint8)
            rows.add("cloud", points, (cloud, colours), iteration=iteration)
            single.set_time("iteration", sequence=iteration)
            single.log("cloud", rr.Points3D(cloud, colors=colours))
        single.disable_timeline("iteration")
        if step == 3:
            rows.send()  # those that came so far; the others follow
    rows.send()
    for recording in (together, single):
        recording.flush()
        recording.disconnect()
    found = everything(tmp_path / "together.rrd")
    assert found == everything(tmp_path / "single.rrd")
    assert set(found) == {"/curves", "/place", "/line", "/cloud"}


def test_what_waits_too_long_is_sent_before_the_end(tmp_path):
    recording = rr.RecordingStream("late")
    recording.save(tmp_path / "late.rrd")
    rows = Rows(recording, hold_s=0.0)
    for step in range(3):
        rows.at(step=step)
        rows.add("curve", scalars, np.array([float(step)]))
    recording.flush()
    recording.disconnect()
    assert [when for when, _, _ in everything(tmp_path / "late.rrd")["/curve"]] == [(0,), (1,)]
