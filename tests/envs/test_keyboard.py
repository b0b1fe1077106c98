"""Driving by hand: keys in, actions out; the terminal survives."""

from __future__ import annotations

import contextlib
import os
import pty
import sys

import numpy as np
import pytest

from envs.arm import ArmError
from envs.keyboard import Finished, KeyboardHand, ThrownAway, picture, terminal_keys

OPEN, SHUT = np.zeros(7), np.eye(7)[6]


def _hand(keys: str) -> KeyboardHand:
    pressed = iter(keys)
    return KeyboardHand(lambda: next(pressed, ""))


def test_keys_become_actions_in_the_base_frame():
    hand = _hand("wsadrfqe.")
    actions = [hand.act(OPEN, OPEN) for _ in range(9)]
    np.testing.assert_allclose(actions[0][:3], [0.03, 0, 0])  # away from the base
    for one, other in ((0, 1), (2, 3), (4, 5), (6, 7)):
        np.testing.assert_array_equal(actions[one], -actions[other])
    assert actions[2][1] > 0  # left is +y
    assert actions[4][2] > 0
    assert not actions[8].any()


def test_space_toggles_the_gripper_numbers_choose_the_step_and_other_keys_do_nothing():
    hand = _hand("  31?Zw")
    assert hand.act(OPEN, OPEN)[6] == 1.0
    assert hand.act(OPEN, SHUT)[6] == -1.0
    assert hand.act(OPEN, OPEN)[0] == 0.01


@pytest.mark.parametrize(
    ("key", "end"), [("\n", Finished), ("", Finished), ("x", ThrownAway), ("\x03", ThrownAway)]
)
def test_an_episode_ends_kept_or_thrown_away(key, end):
    with pytest.raises(end):
        _hand(key).act(OPEN, OPEN)


@pytest.mark.timeout(60)
def test_a_terminal_gives_single_keys_and_gets_its_settings_back(monkeypatch):
    import termios

    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with os.fdopen(theirs, "r") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with terminal_keys() as keys:
            os.write(ours, b"wd")
            assert keys() + keys() == "wd"  # no Enter was pressed
        assert termios.tcgetattr(theirs) == before
        with contextlib.suppress(RuntimeError), terminal_keys():
            raise RuntimeError("an arm that failed")
        assert termios.tcgetattr(theirs) == before
    os.close(ours)


def test_without_a_terminal_it_says_so(monkeypatch):
    with open(os.devnull) as nowhere:
        monkeypatch.setattr(sys, "stdin", nowhere)
        with pytest.raises(ArmError, match="needs a terminal"), terminal_keys():
            pass


def test_a_picture_for_the_terminal_has_two_pixels_in_a_cell():
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[0], frame[1] = (255, 0, 0), (0, 0, 255)
    lines = picture({"front": frame, "wrist": frame}, columns=8).splitlines()
    assert len(lines) == 4
    assert lines[0].count("\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m") == 16
