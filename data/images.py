"""From a camera's picture to a model's: crops by name, resizing, Meta's exact preprocessing."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROPS = ("square", "droid_train", "none")

Picture = TypeVar("Picture", np.ndarray, Tensor)


def crop_box(height: int, width: int, crop: str) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop.

    square       the largest centred square
    droid_train  what V-JEPA 2-AC was trained on: at most 1.35:1, centred, squeezed afterwards
    none         the whole picture, squeezed afterwards
    """
    h, w = height, width
    if crop == "square":
        h = w = min(height, width)
    elif crop == "droid_train":
        if width / height > 1.35:
            w = round(height * 1.35)
        elif width / height < 0.75:
            h = round(width / 0.75)
    elif crop != "none":
        raise ValueError(f"crop {crop!r} is not known; choose one of {', '.join(CROPS)}")
    return (height - h) // 2, (width - w) // 2, h, w


def fit_frames(frames: Picture, *, size: int, crop: str = "square") -> Picture:
    """Crop and shrink uint8 [..., H, W, 3] to uint8 [..., size, size, 3], every pixel averaged over what it covers.

    Frames that fit already come back untouched.  Collection, the cache and the agent all use this one.
    """
    height, width = frames.shape[-3:-1]
    top, left, h, w = crop_box(height, width, crop)
    cut = frames[..., top : top + h, left : left + w, :]
    if (h, w) == (size, size):
        return cut
    tensor = torch.from_numpy(np.ascontiguousarray(cut)) if isinstance(cut, np.ndarray) else cut
    lead = tensor.shape[:-3]
    # Channels last in memory: torch's uint8 kernel is several times faster so.
    flat = tensor.reshape(-1, h, w, 3).permute(0, 3, 1, 2)
    small = F.interpolate(flat, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    fitted = small.permute(0, 2, 3, 1).reshape(*lead, size, size, 3).contiguous()
    return fitted.numpy() if isinstance(frames, np.ndarray) else fitted  # type: ignore[return-value]


def meta_frames(frames: Tensor | np.ndarray, *, size: int = 256, crop: str = "droid_train") -> Tensor:
    """V-JEPA 2-AC's own preprocessing: uint8 [..., H, W, 3] -> normalised float32 [..., 3, size, size].

    Bilinear without antialiasing, as its loader has it: other resizing shifts what its weights see.
    """
    tensor = torch.as_tensor(frames)
    top, left, h, w = crop_box(tensor.shape[-3], tensor.shape[-2], crop)
    cut = tensor[..., top : top + h, left : left + w, :].float().movedim(-1, -3)
    lead = cut.shape[:-3]
    small = F.interpolate(cut.reshape(-1, 3, h, w), size=(size, size), mode="bilinear", align_corners=False)
    return normalise(small.reshape(*lead, 3, size, size))


def normalise(pixels: Tensor) -> Tensor:
    """Pixels 0..255 [..., 3, H, W] -> ImageNet's mean 0 and deviation 1."""
    mean = torch.tensor(IMAGENET_MEAN, device=pixels.device, dtype=pixels.dtype)[:, None, None] * 255
    std = torch.tensor(IMAGENET_STD, device=pixels.device, dtype=pixels.dtype)[:, None, None] * 255
    return (pixels - mean) / std
