"""Physical time, gaps refused, actions that add up to the poses they came from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from data.poses import apply_action
from data.sampling import Sampling, model_actions, next_rows, runs, windows


def steps(time_s: np.ndarray, period_s: float) -> np.ndarray:
    """Durations of the steps of all windows but the last."""
    table = windows(next_rows(time_s, Sampling(period_s=period_s)), 4)
    return np.diff(time_s[table[table[:, -1] < len(time_s) - 1]], axis=1)


@pytest.mark.parametrize(
    ("rate_hz", "period_s"), [(15, 0.2), (14.2, 0.25), (60, 0.2), (5, 0.2), (14.2, 1.0), (20, 0.25)]
)
def test_steps_take_the_time_asked_for_whatever_the_rate(rate_hz, period_s):
    rng = np.random.default_rng(0)
    time_s = np.cumsum(rng.normal(1 / rate_hz, 0.05 / rate_hz, 200))
    found = steps(time_s, period_s)
    assert len(found) > 0.5 * len(time_s) - 4 * period_s * rate_hz
    assert np.abs(found - period_s).max() <= np.diff(time_s).max() / 2, "there was a nearer row"


def test_every_window_that_the_log_has_is_found_once():
    table = windows(next_rows(np.arange(10) * 0.1, Sampling(period_s=0.2)), 3)
    assert table.tolist() == [[i, i + 2, i + 4] for i in range(6)]


def test_no_step_crosses_a_gap():
    time_s = np.arange(40) * 0.2
    time_s[15:] += 3.0
    following = next_rows(time_s, Sampling(period_s=0.2))
    assert following[14] == -1
    assert [r.tolist() for r in runs(following)] == [list(range(15)), list(range(15, 40))]
    for window in windows(following, 5):
        assert not (window[0] < 15 <= window[-1])


def test_a_log_slower_than_the_steps_gives_none():
    assert runs(next_rows(np.arange(30) / 3.0, Sampling(period_s=0.1))) == []
    assert windows(next_rows(np.array([0.0]), Sampling(period_s=0.1)), 2).shape == (0, 2)


def test_metas_frame_indices(fixtures):
    cases = json.loads((fixtures / "vjepa2" / "g_droid_transform.json").read_text())["frame_sampling"][
        "cases"
    ]
    for case in cases:
        sampling = Sampling(mode="header_fps", period_s=1 / case["fps"])
        following = next_rows(np.arange(case["vlen"]) / 14.2, sampling, header_fps=case["vfps"])
        table = windows(following, case["fpc"])
        assert table[case["sf"]].tolist() == case["indices"]


def test_rows_mode_needs_the_nominal_rate():
    following = next_rows(np.arange(12) / 14.2, Sampling(mode="rows", period_s=0.2), nominal_hz=15)
    assert following.tolist() == [*range(3, 12), -1, -1, -1]
    with pytest.raises(ValueError, match="needs nominal_hz"):
        next_rows(np.arange(12) / 15, Sampling(mode="rows"))
    with pytest.raises(ValueError, match="choose one of time, rows, header_fps"):
        Sampling(mode="frames")


def poses(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(count, 7, generator=generator, dtype=torch.float64) * 0.05
    result = walk.cumsum(0) + torch.tensor([0.4, 0, 0.3, torch.pi, 0, 0, 0])
    result[:, 6] = torch.rand(count, generator=generator, dtype=torch.float64)
    return result


def test_measured_actions_lead_from_pose_to_pose():
    walk, rows = poses(30), np.arange(0, 30, 3)
    actions = model_actions(walk, rows, gripper="measured")
    after = apply_action(walk[rows[:-1]], actions)
    torch.testing.assert_close(after[:, [0, 1, 2, 6]], walk[rows[1:]][:, [0, 1, 2, 6]])
    turn = after[:, 3:6] - walk[rows[1:]][:, 3:6]
    torch.testing.assert_close(torch.cos(turn), torch.ones_like(turn), atol=1e-9, rtol=0)


def test_the_gripper_is_what_was_commanded_within_the_step():
    walk, rows = poses(7), np.array([0, 2, 4, 6])
    commanded = np.zeros((7, 7))
    commanded[:, 6] = [0, 0.1, 0.2, 1.0, 1.0, np.nan, 0.3]
    actions = model_actions(walk, rows, commanded)
    # Row 1 is the last of the step from 0 to 2, row 3 of that from 2 to 4; the last step's command is unknown.
    expected = torch.tensor([0.1, 1.0], dtype=torch.float64) - walk[[0, 2], 6]
    torch.testing.assert_close(actions[:2, 6], expected)
    torch.testing.assert_close(actions[2, 6], walk[6, 6] - walk[4, 6])
    torch.testing.assert_close(actions[:, :6], model_actions(walk, rows)[:, :6])
    with pytest.raises(ValueError, match="choose commanded or measured"):
        model_actions(walk, rows, gripper="none")
