"""Learning signals, one term a file.  A recipe adds them up with weights."""

from world_model.losses.inverse_dynamics import InverseDynamics
from world_model.losses.masked import dense_context, masked_prediction
from world_model.losses.masks import LONG, SHORT, Mask, Tubes, multiblock_mask, tube_mask
from world_model.losses.prediction import layer_norm, prediction_error, vjepa2_ac
from world_model.losses.sigreg import sigreg
from world_model.losses.straightening import straightening
from world_model.losses.vicreg import vicreg

__all__ = [
    "LONG", "SHORT", "InverseDynamics", "Mask", "Tubes", "dense_context", "layer_norm", "masked_prediction",
    "multiblock_mask", "prediction_error", "sigreg", "straightening", "tube_mask", "vicreg",
    "vjepa2_ac",
]  # fmt: skip
