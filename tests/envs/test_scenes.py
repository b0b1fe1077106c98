"""A scene is data: the same for a seed, refused when it cannot be, and the reserved ones are never trained on."""

from __future__ import annotations

import colorsys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from envs import ENGINES, make_arm
from envs.scene_files import load_scene, save_scene, scene_from
from envs.scenes import (
    CAMERAS,
    COLOURS,
    HELD_OUT_CAMERA_DEG,
    HELD_OUT_COLOURS,
    HELD_OUT_SHAPES,
    HELD_OUT_TABLES,
    SHAPES,
    TABLES,
    SceneConfig,
    SceneError,
    check_scene,
    draw_scene,
)


def _camera_turn_deg(scene) -> float:
    for camera in scene.cameras:
        if not camera.on_hand:
            here, usual = (
                np.subtract(c.position, c.look_at) / np.linalg.norm(np.subtract(c.position, c.look_at))
                for c in (camera, CAMERAS[camera.name])
            )
            return float(np.rad2deg(np.arccos(np.clip(here @ usual, -1, 1))))
    raise AssertionError


def _nearest_colour(colour) -> str:
    return min(COLOURS, key=lambda name: float(np.linalg.norm(np.subtract(COLOURS[name], colour))))


@pytest.mark.parametrize("jitter_deg", [1.0, 9.0])
def test_training_never_draws_what_is_held_out_and_evaluation_nothing_else(jitter_deg):
    free = SceneConfig(
        shapes=[s for s in SHAPES if s not in HELD_OUT_SHAPES],
        colours=[c for c in COLOURS if c not in HELD_OUT_COLOURS],
        tables=[t for t in TABLES if t not in HELD_OUT_TABLES],
        camera_jitter_deg=jitter_deg,
        distractors=(0, 2),
    )
    low, high = HELD_OUT_CAMERA_DEG
    widest = 0.0
    for seed in range(400):
        trained, held = draw_scene(free, seed), draw_scene(free, seed, "held_out")
        assert not {o.shape for o in trained.objects} & set(HELD_OUT_SHAPES)
        assert {o.shape for o in held.objects} <= set(HELD_OUT_SHAPES)
        assert not {_nearest_colour(o.colour) for o in trained.objects} & set(HELD_OUT_COLOURS)
        assert {_nearest_colour(o.colour) for o in held.objects} <= set(HELD_OUT_COLOURS)
        assert trained.table not in HELD_OUT_TABLES
        assert held.table in HELD_OUT_TABLES
        turn = _camera_turn_deg(trained)
        # An azimuth turns a steep camera by less than its angle: the ring is one of configured turns.
        assert turn <= low + 1e-6 or turn <= jitter_deg + 1e-6
        widest = max(widest, turn)
        assert _camera_turn_deg(held) <= high + 1e-6
    assert widest > (0.5 if jitter_deg == 1.0 else 4.0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SceneConfig(shapes=["cup"]), "shape 'cup' is reserved"),
        (SceneConfig(colours=["pink"]), "colour 'pink' is reserved"),
        (SceneConfig(tables=["stripes"]), "table 'stripes' is reserved"),
        (SceneConfig(camera_jitter_deg=3.0), "1.0 to 4.0 degrees are reserved"),
        (SceneConfig(shapes=["teapot"]), "no shape 'teapot'; there are .*cube.*cylinder"),
        (SceneConfig(colours=["mauve"]), "no colour 'mauve'; there are .*blue"),
        (SceneConfig(tables=["marble"]), "no table 'marble'; there are .*checker"),
        (SceneConfig(gripper="gold"), "no gripper 'gold'; there are dark, white, orange"),
        (SceneConfig(camera_turn_deg=(0.0, 60.0)), "lifts an exterior camera to .* between 10 and 80"),
        (SceneConfig(camera_distance=9.0), "camera_distance 9.0: take 0.5 to 3 times"),
        (SceneConfig(distractors=(30, 30)), "no room for 'distractor_"),
        (SceneConfig(least_move_m=0.9), "no place for a target 0.9 m"),
    ],
)
def test_a_config_that_cannot_be_says_what_exists(config, words):
    with pytest.raises(SceneError, match=words):
        draw_scene(config, 0)


def test_held_out_shapes_can_be_chosen_one_by_one():
    config = SceneConfig(shapes=["bowl"])
    assert {draw_scene(config, seed, "held_out").objects[0].shape for seed in range(20)} == {"bowl"}


def _with_object(**changes):
    scene = draw_scene(SceneConfig(), 0)
    scene.objects[0] = replace(scene.objects[0], **changes)
    return scene


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": (0.95, 0.0, 0.02)}, "'object' at .* is out of reach, 0.95 m from the base"),
        ({"position": (0.5, 0.45, 0.02)}, "out of reach.*y -0.35 to 0.35"),
        ({"position": (0.5, 0.0, -0.05)}, "z = -0.050 m is in the table or below it"),
        ({"shape": "sphere"}, "no shape 'sphere'; there are"),
        ({"mass_kg": 0.0}, "sizes and mass must be above zero"),
        ({"position": (0.5, float("nan"), 0.02)}, "all numbers finite"),
        ({"colour": (255.0, 0.0, 0.0)}, "colours go from 0 to 1"),
        ({"name": "panda_hand"}, "cannot be called 'panda_hand'"),
    ],
)
def test_an_object_that_cannot_be_is_named_with_the_reason(changes, words):
    with pytest.raises(SceneError, match=words):
        check_scene(_with_object(**changes))


def test_an_object_inside_another_is_refused_and_one_on_top_is_not():
    scene = draw_scene(SceneConfig(), 0)
    first = scene.objects[0]
    x, y, z = first.position
    scene.objects.append(replace(first, name="second", position=(x + 0.01, y, z)))
    with pytest.raises(SceneError, match=r"'second' is inside 'object': their centres are 0.010 m apart"):
        check_scene(scene)
    scene.objects[1].position = (x, y, z + 2 * first.half_height_m)
    check_scene(scene)
    scene.objects[1].name = "object"
    with pytest.raises(SceneError, match="two objects are called 'object'"):
        check_scene(scene)


def test_a_scene_survives_its_file_and_engines_check_what_they_are_given(tmp_path: Path):
    scene = draw_scene(SceneConfig(distractors=(1, 1), tables=["checker"]), 3)
    save_scene(scene, tmp_path / "scene.yaml")
    assert asdict(load_scene(tmp_path / "scene.yaml")) == asdict(scene)
    for engine in ENGINES:
        arm, driver = make_arm(engine, cameras=())
        arm.reset(options={"scene": load_scene(tmp_path / "scene.yaml")})
        assert set(driver.object_poses()) == {"object", "distractor_1"}
        with pytest.raises(SceneError, match="out of reach"):
            arm.reset(options={"scene": _with_object(position=(1.5, 0.0, 0.02))})
        arm.close()


def test_a_short_file_is_enough_and_mistakes_in_it_are_named(tmp_path: Path):
    mug = {"name": "object", "shape": "cup", "half_width_m": 0.028, "half_height_m": 0.03, "mass_kg": 0.1}
    mug |= {"colour": [0.1, 0.6, 0.7], "position": [0.5, 0.0, 0.03]}
    scene = scene_from({"objects": [mug], "table": "speckle"})
    assert scene.objects[0].shape == "cup"
    assert len(scene.cameras) == 3
    with pytest.raises(SceneError, match=r"a scene has no 'tabel'; it has .*table"):
        scene_from({"tabel": "plain"})
    with pytest.raises(SceneError, match=r"an? object needs .*shape"):
        scene_from({"objects": [{"name": "object"}]})
    (tmp_path / "bad.yaml").write_text("objects: [")
    with pytest.raises(SceneError, match=r"cannot read the scene .*bad.yaml"):
        load_scene(tmp_path / "bad.yaml")


CUBE = {"name": "object", "shape": "cube", "half_width_m": 0.02, "half_height_m": 0.02, "mass_kg": 0.1}
CUBE |= {"colour": [1, 0, 0], "position": [0.5, 0, 0.02]}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"objects": 3}, "a scene's objects must be a list, got 3"),
        ({"seed": "x"}, "a scene's seed must be a whole number, got 'x'"),
        ({"seed": -1}, "no scene of seed -1"),
        ({"objects": [CUBE | {"position": [0.5, 0]}]}, r"position of the object 'object' must be 3 numbers"),
        ({"objects": [CUBE | {"mass_kg": "heavy"}]}, "mass_kg of the object 'object' must be a number"),
        ({"start_position": [2, 0, 0.2]}, "would start at .*2.* out of its workspace"),
        ({"light_diffuse": None}, "light_diffuse of the scene '' must be a number, got None"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_it_must_be(told, words):
    with pytest.raises(SceneError, match=words):
        scene_from(told)


@pytest.mark.parametrize("table", ["checker", "speckle"])
def test_a_textured_table_looks_the_same_in_both_engines(table):
    frames = []
    for engine in ENGINES:
        arm, _ = make_arm(engine, cameras=("exterior_left",), scene=SceneConfig(tables=[table]))
        frames.append(arm.reset(seed=2).frames["exterior_left"][64:].astype(float))
        arm.close()
    assert np.abs(frames[0] - frames[1]).mean() < 12
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] > 0.9
    assert frames[0].std() > 10


def test_a_camera_stands_where_the_lab_says_and_the_rest_of_the_scene_stays():
    usual, moved = (
        draw_scene(SceneConfig(), 4),
        draw_scene(SceneConfig(camera_turn_deg=(14.0, 6.0), camera_distance=1.1), 4),
    )
    for a, b in zip(usual.cameras, moved.cameras, strict=True):
        if a.on_hand:
            assert asdict(a) == asdict(b)
            continue
        here, there = (np.subtract(c.position, c.look_at) for c in (a, b))
        assert np.linalg.norm(there) == pytest.approx(1.1 * np.linalg.norm(here))
        up = [np.rad2deg(np.arctan2(v[2], np.hypot(v[0], v[1]))) for v in (here, there)]
        around = [np.rad2deg(np.arctan2(v[1], v[0])) for v in (here, there)]
        assert (around[1] - around[0], up[1] - up[0]) == pytest.approx((14.0, 6.0))
    assert [asdict(o) for o in usual.objects] == [asdict(o) for o in moved.objects]
    assert usual.start_position == moved.start_position


def test_another_gripper_is_seen_and_looks_the_same_in_both_engines():
    frames = {}
    for engine in ENGINES:
        for gripper in ("dark", "white"):
            arm, _ = make_arm(engine, cameras=("wrist",), scene=SceneConfig(gripper=gripper))
            frames[engine, gripper] = arm.reset(seed=2).frames["wrist"].astype(float)
            arm.close()
    for engine in ENGINES:
        change = np.abs(frames[engine, "white"] - frames[engine, "dark"]).max(-1)
        assert 0.02 < (change > 60).mean() < 0.4, "only the fingers change"
    assert np.abs(frames["mujoco", "white"] - frames["pybullet", "white"]).mean() < 12


def test_things_in_any_colour_are_otherwise_the_same_scenes() -> None:
    reserved = [colorsys.rgb_to_hsv(*COLOURS[name])[0] for name in HELD_OUT_COLOURS]
    changed = 0
    for seed in range(300):
        usual, other = (draw_scene(SceneConfig(any_colour=share), seed) for share in (0.0, 0.6))
        item, now = usual.objects[0], other.objects[0]
        if now.colour != item.colour:
            changed += 1
            hue, _, _ = colorsys.rgb_to_hsv(*now.colour)
            assert min(abs((hue - taken + 0.5) % 1 - 0.5) for taken in reserved) > 20 / 360
            assert np.linalg.norm(np.subtract(now.colour, other.table_colour)) > 0.2
        now.colour = item.colour
        assert other == usual
    assert 150 < changed < 210
    held = SceneConfig(any_colour=1.0)
    assert draw_scene(held, 7, "held_out") == draw_scene(SceneConfig(), 7, "held_out")


def test_a_share_beyond_all_things_is_refused() -> None:
    with pytest.raises(SceneError, match="0 to 1"):
        draw_scene(SceneConfig(any_colour=1.5), 0)
