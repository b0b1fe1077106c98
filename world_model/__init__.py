"""Perceive, imagine and learn: encoders, predictors, learning signals, and the loader of Meta's weights."""

from world_model.meta import load_vjepa2

__all__ = ["load_vjepa2"]
