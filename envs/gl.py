"""Off-screen OpenGL for MuJoCo: which back-end draws, and what to do when none can."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from .arm import ArmError

PACKAGES = "libegl1 libopengl0 libgl1-mesa-dri"
REMEDY = f"sudo apt-get install --yes {PACKAGES}   (more in docs/troubleshooting.md)"


def wants_egl() -> bool:
    """EGL was asked for, or nobody asked for anything and Linux has no screen.

    MuJoCo looks at MUJOCO_GL once, when it is first imported, and takes GLFW when it is not set.  Deciding here,
    when a picture is needed, works in whatever order things were imported and leaves the environment alone.
    """
    if sys.platform != "linux":
        return False
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return asked == "egl" or not (asked or screen)


_drew_in: int | None = None  # the process that drew first


def new_context(width: int, height: int) -> Any:
    """A current OpenGL context, or ArmError with the line to run."""
    global _drew_in
    if _drew_in not in (None, os.getpid()):
        raise ArmError(
            "this process was forked from one that had drawn already, and OpenGL does not survive that: start it "
            'with "spawn" (gymnasium.make_vec(..., vector_kwargs={"context": "spawn"}))'
        )
    _drew_in = os.getpid()
    with named_errors():
        if wants_egl():
            from mujoco.egl import GLContext
        else:
            from mujoco.gl_context import GLContext
        context = GLContext(width, height)
        context.make_current()
        return context


@contextlib.contextmanager
def named_errors() -> Iterator[None]:
    """OpenGL's errors, told as what to do about them."""
    try:
        yield
    except Exception as error:  # the back-ends raise their own kinds
        asked = os.environ.get("MUJOCO_GL")
        if asked and not wants_egl():
            remedy = f"MUJOCO_GL is {asked!r}; unset it, or set it to egl"
        elif not wants_egl():
            remedy = "the screen that DISPLAY names cannot be used; set MUJOCO_GL=egl"
        else:
            remedy = f"on Debian or Ubuntu: {REMEDY}"
        raise ArmError(f"no off-screen OpenGL: {error}; {remedy}") from error
