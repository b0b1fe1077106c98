"""Pictures without a screen: nothing to set, whatever was imported first; and what is said when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from envs.gl import REMEDY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="EGL is Linux's way")
ARM = "from envs import make_arm; arm, _ = make_arm(width=32, height=32); frames = arm.reset(seed=0).frames"
TASK = (
    "import gymnasium, envs.gym; arm = gymnasium.make('forearm/PickPlace-v0', width=32, height=32);"
    "frames = arm.reset(seed=0)[0]['frames']"
)
SEEN = "assert all(frame.std() > 5 for frame in frames.values()); arm.close(); print('seen')"


def _fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A new Python on a machine without a screen, where nobody has chosen how to draw."""
    bare = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=bare | environment
    )


@pytest.mark.parametrize("code", [ARM, TASK, f"import mujoco; {ARM}"], ids=["arm", "task", "mujoco first"])
def test_a_library_user_without_a_screen_sees_pictures(code: str) -> None:
    done = _fresh(f"{code}; {SEEN}; import os; assert 'MUJOCO_GL' not in os.environ")
    assert done.stdout == "seen\n", done.stderr
    assert "GLFW" not in done.stderr


def test_portraits_need_no_screen_either() -> None:
    done = _fresh(f"{ARM}; frames = {{'portrait': arm.truth.portrait(64, 48)}}; {SEEN}")
    assert done.stdout == "seen\n", done.stderr


def test_what_a_user_has_chosen_is_kept_and_named_when_it_fails() -> None:
    done = _fresh(ARM, MUJOCO_GL="glfw")
    assert "MUJOCO_GL is 'glfw'; unset it, or set it to egl" in done.stderr
    done = _fresh(ARM, DISPLAY=":99")
    assert "set MUJOCO_GL=egl" in done.stderr


def test_a_machine_without_gl_is_told_the_line_that_doctor_prints() -> None:
    done = _fresh(ARM, __EGL_VENDOR_LIBRARY_FILENAMES="/nowhere.json")
    assert REMEDY in done.stderr.splitlines()[-1]


@pytest.mark.timeout(200)
def test_a_process_forked_from_one_that_draws_says_so_instead_of_hanging() -> None:
    code = f"""
{ARM}
envs = __import__("gymnasium").make_vec("envs.gym:forearm/Reach-v0", num_envs=1, vectorization_mode="async", width=32, height=32)
try:
    envs.reset(seed=[1])
finally:
    envs.close(terminate=True)
"""
    done = _fresh(code)
    assert "forked from one that had drawn already" in done.stderr
    assert '"context": "spawn"' in done.stderr
