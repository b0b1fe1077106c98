"""What a table looks like from above: one picture for both engines."""

from __future__ import annotations

import numpy as np

from .scenes import Scene

SIZE_PX = 256


def table_picture(scene: Scene) -> np.ndarray | None:
    """uint8 [256, 256, 3] that covers the table once, or None for a plain one."""
    if scene.table == "plain":
        return None
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    if scene.table == "checker":
        shade = np.where((x // 16 + y // 16) % 2, 0.82, 1.0)
    elif scene.table == "stripes":
        shade = np.where((x // 8) % 2, 0.78, 1.0)
    else:
        rng = np.random.default_rng([scene.seed, 3])
        shade = 1.0 - 0.25 * np.kron(rng.uniform(size=(64, 64)), np.ones((4, 4)))
    colour = np.array(scene.table_colour) * shade[..., None]
    return np.round(255 * colour.clip(0, 1)).astype(np.uint8)
