"""`forearm calibrate`: fit imagined directions to true ones; or learn what is no surprise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.cli.runs import Run
from agent.settings import EnvConfig


@dataclass(kw_only=True)
class Config:
    """Move a little at random, see which way the model thinks it went, and fit the map between the two."""

    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm."""
    model: str = "forearm-panda"
    """A shipped model's name, or a folder."""
    steps: int = 60
    """Moves of up to 5 cm, within 9 cm of the middle of the workspace, where it goes first."""
    seed: int = 0
    """Of the scene (in simulation) and of the motion."""
    camera_yaw_deg: float = 0.0
    """Simulation: turn the outside cameras about the middle of the table first, to see the repair."""
    reaches: int = 0
    """Simulation: goal pictures to reach before and after, to measure what the map is worth."""
    planner: dict[str, Any] = field(default_factory=dict)
    """How Mode 2 searches in these reaches."""
    surprise_episodes: int = 0
    """Simulation: instead of the above, drive so many ordinary episodes and set by them from where on the model is
    surprised; changes the model's folder."""


EXAMPLES = (
    "forearm calibrate",
    "forearm calibrate camera_yaw_deg=30 reaches=10",
    "forearm calibrate model=outputs/train/my_robot/model surprise_episodes=100",
    "forearm calibrate model=outputs/train/my_robot/model steps=100",
    "forearm calibrate env=franka env.host=172.16.0.2 env.dry_run=false env.confirm=true",
)


def run(config: Config, run: Run) -> int:
    from agent.arms import begin_real, is_real, open_arm, require_motion
    from agent.build import load_mind, planner_from
    from agent.calibrate import calibrate, verdict
    from agent.calibrate_reach import lay_out, reach_errors
    from agent.seen_places import body_of

    if config.surprise_episodes:
        return _calibrate_surprise(config, run)
    require_motion(config.env, "calibrate")
    if is_real(config.env) and config.reaches:
        raise ValueError("reaches= lays scenes out, which a simulator can; with a real arm leave it out")
    if is_real(config.env) and config.camera_yaw_deg:
        raise ValueError("camera_yaw_deg turns simulated cameras; turn a real one by hand")
    mind = load_mind(config.model)
    arm, driver = open_arm(config.env, say=run.say)
    with arm:
        if is_real(config.env):
            begin_real(arm, config.env)
        else:
            lay_out(arm, driver, seed=config.seed, camera_yaw_deg=config.camera_yaw_deg)
        found = calibrate(arm, mind.model, steps=config.steps, seed=config.seed, body=body_of(mind))
        for line in found.words:
            run.say(line)
        run.say(verdict(found))
        path = found.save(run.dir / "calibration.json")
        run.say(f"calibration  {path}   apply it: forearm plan calibration={path} ...")
        run.results |= {
            "yaw_deg": found.yaw_deg, "pivot_m": found.pivot, "explained": found.explained,
            "explained_before": found.explained_before, "residual_m": found.residual_m, "moves": found.moves,
        }  # fmt: skip
        seeds = range(config.seed, config.seed + config.reaches)
        for name, map_ in (("before", None), ("after", found)) if config.reaches else ():
            errors = reach_errors(
                arm, driver, mind, seeds, camera_yaw_deg=config.camera_yaw_deg, calibration=map_,
                planner=planner_from(config.planner),
            )  # fmt: skip
            run.results[f"reach_error_{name}_m"] = errors
            mean, worst = sum(errors) / len(errors), max(errors)
            run.say(
                f"reach {name:<7} {1000 * mean:.0f} mm mean, {1000 * worst:.0f} mm worst of {len(errors)}"
            )
    return 0 if found.trustworthy else 1


def _calibrate_surprise(config: Config, run: Run) -> int:
    from dataclasses import asdict

    from agent.build import load_mind
    from agent.surprise import calibrated
    from agent.violations import CALIBRATION_SEED, watch_many
    from world_model.checkpoint import resolve, set_normalisation

    folder, mind = resolve(config.model), load_mind(config.model)
    seed = CALIBRATION_SEED + config.seed
    ordinary = watch_many("", config.surprise_episodes, mind, run.dir, seed=seed, say=run.say)
    scale = asdict(calibrated([watched.arrays for watched in ordinary]))
    set_normalisation(folder, surprise=scale)
    for name, value in scale.items():
        run.say(f"{name:<11} {value:.4g}")
    run.say(f"stored in {folder}")
    run.results |= {"surprise": scale, "episodes": len(ordinary)}
    return 0
