"""Pictures without a screen: nothing to set, whatever was imported first; and what is said when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from envs.gl import REMEDY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="EGL is Linux's way")
CHOICES = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
ARM = (
    "from envs import make_arm; arm, _ = make_arm(width=32, height=32); frames = arm.reset(seed=0).frames;"
    "frames['portrait'] = arm.truth.portrait(64, 48)"
)
TASK = (
    "import mujoco, gymnasium, envs.gym; arm = gymnasium.make('forearm/PickPlace-v0', width=32, height=32);"
    "frames = arm.reset(seed=0)[0]['frames']"
)
CONTEXT = "from envs.gl import new_context, named_errors; new_context(8, 8)"
# GLFW only warns; drawing is what fails.
DRAW = """import mujoco
with named_errors():
    mujoco.MjrContext(mujoco.MjModel.from_xml_string('<mujoco/>'), 50)
"""
FORK = """import os, sys
if os.fork() == 0:
    try:
        new_context(8, 8)
    except Exception as error:
        print(error, file=sys.stderr, flush=True)
    os._exit(0)  # as multiprocessing ends a child: the parent's display is not ours to close
os.wait()
"""


def _fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A new Python on a machine without a screen, where nobody has chosen how to draw."""
    bare = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=280, env=bare | environment
    )


@pytest.mark.parametrize("code", [ARM, TASK], ids=["arm and portrait", "task, mujoco imported first"])
def test_a_library_user_without_a_screen_sees_pictures(code: str) -> None:
    seen = "assert all(frame.std() > 5 for frame in frames.values()); arm.close(); print('seen')"
    done = _fresh(f"{code}; {seen}; import os; assert 'MUJOCO_GL' not in os.environ")
    assert done.stdout == "seen\n", done.stderr
    assert "GLFW" not in done.stderr


def test_what_a_user_has_chosen_is_kept_and_named_when_it_fails() -> None:
    # On a real screen GLFW would do: a display that nobody has.
    done = _fresh(f"{CONTEXT}\n{DRAW}", MUJOCO_GL="glfw", DISPLAY=":9876")
    assert "MUJOCO_GL is 'glfw'; unset it, or set it to egl" in done.stderr
    done = _fresh(f"{CONTEXT}\n{DRAW}", DISPLAY=":9876")
    assert "set MUJOCO_GL=egl" in done.stderr


def test_a_machine_without_gl_is_told_the_line_that_doctor_prints() -> None:
    done = _fresh(CONTEXT, __EGL_VENDOR_LIBRARY_FILENAMES="/nowhere.json")
    assert REMEDY in done.stderr.splitlines()[-1]


def test_a_process_forked_from_one_that_draws_says_so_instead_of_hanging() -> None:
    """As vectorised environments are by default, in a process that has looked at one of them before."""
    done = _fresh(f"{CONTEXT}\n{FORK}")
    assert "forked from one that had drawn already" in done.stderr
    assert '"context": "spawn"' in done.stderr
