"""Meta's preprocessing to the last bit that matters, and a resize of ours that agrees with others'."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from data.images import crop_box, fit_frames, meta_frames

CROPS = {"train_cfg": "droid_train", "eval_cfg": "square"}


@pytest.mark.parametrize(("theirs", "crop"), CROPS.items())
def test_metas_preprocessing(fixtures, theirs, crop):
    data = load_file(fixtures / "vjepa2" / "g_droid_transform.safetensors")
    ours = meta_frames(data["frames_uint8"], size=64, crop=crop).movedim(1, 0)  # theirs is [C, T, H, W]
    np.testing.assert_allclose(ours.numpy(), data[theirs], atol=1e-5)


@pytest.mark.parametrize(("theirs", "crop"), CROPS.items())
def test_metas_crop_boxes(fixtures, theirs, crop):
    boxes = json.loads((fixtures / "vjepa2" / "g_droid_transform.json").read_text())["crop_boxes"]
    for size, box in boxes.items():
        width, height = map(int, size.split("x"))
        assert list(crop_box(height, width, crop)) == box[f"{theirs}(i,j,h,w)"], size


def test_tall_pictures_and_unknown_crops():
    assert crop_box(400, 150, "droid_train") == (100, 0, 200, 150)
    assert crop_box(400, 150, "none") == (0, 0, 400, 150)
    with pytest.raises(ValueError, match="choose one of square, droid_train, none"):
        crop_box(10, 10, "middle")


@pytest.mark.parametrize("crop", ["square", "droid_train", "none"])
def test_fit_agrees_with_pillow(crop):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 90, 160, 3), dtype=np.uint8)
    ours = fit_frames(frames, size=32, crop=crop)
    top, left, h, w = crop_box(90, 160, crop)
    for frame, mine in zip(frames, ours):
        cut = Image.fromarray(frame[top : top + h, left : left + w])
        theirs = np.asarray(cut.resize((32, 32), Image.Resampling.BILINEAR))
        assert np.abs(theirs.astype(int) - mine).max() <= 2


def test_fit_keeps_what_fits_and_takes_tensors_and_views():
    frames = np.random.default_rng(1).integers(0, 256, (3, 2, 40, 56, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_frames(frames, size=40), frames[..., 8:48, :])
    np.testing.assert_array_equal(
        fit_frames(torch.from_numpy(frames), size=16).numpy(), fit_frames(frames, size=16)
    )
    assert fit_frames(frames, size=16).shape == (3, 2, 16, 16, 3)
