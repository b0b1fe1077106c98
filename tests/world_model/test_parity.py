"""What Meta's code computed, ours computes: encoder, predictor, losses, energies, poses, in fp32 on the CPU."""

import pytest
import torch

from data.poses import apply_action, pose_difference, rotation_from_euler
from world_model.attention import attend
from world_model.losses import layer_norm, vjepa2_ac
from world_model.rope import rotary_tables, rotate

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.mark.parametrize("name", ["rope_d4", "rope_d8", "rope_d10", "rope_d20", "rope_d20_float"])
def test_rotary_units(golden, name: str) -> None:
    units = golden("ab_rope_and_mask_units")
    d = int(name.removesuffix("_float").removeprefix("rope_d"))
    pos = units.get(f"{name}.pos", units["rope.pos"]).float()
    q = units[f"rope_d{d}.q"]
    # A head of 3 d channels whose time axis is under test.
    cos, sin = rotary_tables(torch.stack([pos, pos, pos], -1), 3 * d)
    torch.testing.assert_close(rotate(q.repeat(1, 1, 1, 3), cos, sin)[..., :d], units[f"{name}.y"], **CLOSE)


def test_interleaved_rotation_turns_each_pair_by_one_angle() -> None:
    positions = torch.tensor([[3.0, 1.0, 2.0]])
    x = torch.randn(1, 16, dtype=torch.float64)
    turned = rotate(x, *rotary_tables(positions, 16, "interleaved"))
    norms = x.unflatten(-1, (-1, 2)).norm(dim=-1)
    torch.testing.assert_close(turned.unflatten(-1, (-1, 2)).norm(dim=-1), norms, atol=1e-6, rtol=1e-6)
    pair = torch.view_as_complex(x[0, :2].contiguous()) * torch.exp(torch.tensor(3j))
    torch.testing.assert_close(turned[0, :2], torch.view_as_real(pair).double(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(turned[0, 12:], x[0, 12:])
    tiled = rotate(x, *rotary_tables(positions, 16, "tiled"))
    assert (tiled - turned).abs().max() > 0.05  # the two variants are not to be confused


@pytest.mark.parametrize("conditions", [2, 3])
def test_framewise_attention_is_the_official_block_causal_mask(golden, conditions: int) -> None:
    mask = golden("ab_rope_and_mask_units")[f"mask_T3_H2_W2_add{conditions}"].bool()
    q, k, v = torch.randn(3, 2, 2, len(mask), 8).unbind(0)
    masked = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attend(q, k, v, frame=4 + conditions), masked)


@pytest.mark.parametrize("case", ["frames4", "frames8", "dup2", "nonsquare"])
def test_encoder(golden, meta_encoder, case: str) -> None:
    cases = golden("a_encoder_cases")
    with torch.no_grad():
        torch.testing.assert_close(meta_encoder(cases[f"{case}.x"]), cases[f"{case}.y"], **CLOSE)


def test_encoder_block_by_block_and_masked(golden, meta_encoder) -> None:
    cases, seen = golden("a_encoder_cases"), []
    hooks = [b.register_forward_hook(lambda _m, _i, out: seen.append(out[0])) for b in meta_encoder.blocks]
    with torch.no_grad():
        meta_encoder(cases["frames4.x"])
        for h in hooks:
            h.remove()
        masked = meta_encoder(cases["frames4.x"], ids=cases["masked.mask"])
    for i, x in enumerate(seen):
        torch.testing.assert_close(x, cases[f"frames4.block{i}"], **CLOSE)
    torch.testing.assert_close(masked, cases["masked.y"], **CLOSE)


@pytest.mark.parametrize("case", ["t1", "t4", "t8_full", "t3_ext", "t2_nonsquare"])
def test_predictor(golden, meta_predictor, case: str) -> None:
    c = golden("b_ac_predictor_cases")
    predictor, seen = meta_predictor((3, 4) if case == "t2_nonsquare" else (4, 4)), []
    for block in predictor.predictor_blocks:
        block.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
    with torch.no_grad():
        y = predictor(
            c[f"{case}.tokens"], c[f"{case}.actions"], c[f"{case}.states"], c.get(f"{case}.extrinsics")
        )
    torch.testing.assert_close(y, c[f"{case}.y"], **CLOSE)
    if case == "t4":
        for i, x in enumerate(seen):
            torch.testing.assert_close(x, c[f"t4.block{i}"], **CLOSE)


def test_predictor_has_no_length_limit_and_a_frame_never_sees_the_future(meta_predictor) -> None:
    predictor = meta_predictor()
    z, a, s = torch.randn(1, 40, 16, 96), torch.randn(1, 40, 7), torch.randn(1, 40, 7)
    changed = z.clone()
    changed[:, 30] += 1
    with torch.no_grad():
        before, after = predictor(z, a, s), predictor(changed, a, s)
    assert torch.equal(before[:, :30], after[:, :30])
    assert (before[:, 30:] - after[:, 30:]).abs().amin(dim=(0, 2, 3)).max() > 0


def _loss_inputs(golden, encoder, normalise: bool):
    c = golden("c_train_loss")
    clips = c["clips"]
    with torch.no_grad():
        h = encoder(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 5))
    return c, layer_norm(h) if normalise else h


def test_training_losses(golden, golden_text, meta_encoder, meta_predictor) -> None:
    predictor = meta_predictor()
    cases = golden_text("c_train_loss")["cases"]
    assert len(cases) == 8
    for case in cases:
        c, h = _loss_inputs(golden, meta_encoder, case["normalize_reps"])
        out = vjepa2_ac(
            predictor,
            h,
            c["actions"],
            c["states"],
            c["extrinsics"] if case["use_extrinsics"] else None,
            auto_steps=case["auto_steps"],
            power=case["loss_exp"],
            normalise=case["normalize_reps"],
            rollout_start="before_june_2025" if "prefix_bug" in case["name"] else "fixed",
        )
        for ours, theirs in [
            ("teacher_forced", "jloss_teacher_forced"),
            ("rollout", "sloss_rollout"),
            ("loss", "loss"),
        ]:
            assert out[ours].item() == pytest.approx(case[theirs], abs=1e-5), (case["name"], ours)


def test_training_gradients(golden, golden_text, meta_encoder, meta_predictor) -> None:
    predictor, case = meta_predictor(), golden_text("c_train_loss")["cases"][0]
    c, h = _loss_inputs(golden, meta_encoder, True)
    torch.testing.assert_close(h.flatten(1, 2), c["official_2step_L1.h"], **CLOSE)
    out = vjepa2_ac(predictor, h, c["actions"], c["states"])
    out["loss"].backward()
    torch.testing.assert_close(out["forced"].flatten(1, 2), c["official_2step_L1.z_tf"], **CLOSE)
    torch.testing.assert_close(out["rolled"].flatten(1, 2), c["official_2step_L1.z_ar"], **CLOSE)
    for name, p in predictor.named_parameters():
        norm = case["grad_norms"][name]
        if norm is None:
            assert p.grad is None
        else:
            assert p.grad.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-6), name
        stored = c.get(f"official_2step_L1.grad.{name}")
        if stored is not None:
            torch.testing.assert_close(p.grad, stored, **CLOSE)


def test_first_optimiser_step(golden, golden_text, meta_encoder, meta_predictor) -> None:
    predictor, step = meta_predictor(), golden_text("c_train_loss")["optimizer_step"]
    c, h = _loss_inputs(golden, meta_encoder, True)
    decayed = set(step["decayed_params"])
    groups = [
        {
            "params": [p for n, p in predictor.named_parameters() if n in decayed],
            "weight_decay": step["wd_used"],
        },
        {"params": [p for n, p in predictor.named_parameters() if n not in decayed], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=step["lr_used"], betas=(0.9, 0.999), eps=1e-8)
    vjepa2_ac(predictor, h, c["actions"], c["states"])["loss"].backward()
    optimiser.step()
    stored = [k for k in c if k.startswith("after_step.")]
    assert len(stored) == 5
    for name in stored:
        torch.testing.assert_close(
            predictor.get_parameter(name.removeprefix("after_step.")).detach(), c[name], atol=2e-6, rtol=1e-4
        )


def _same_rotation(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(rotation_from_euler(a), rotation_from_euler(b), atol=1e-6, rtol=0)


def test_pose_arithmetic(golden) -> None:
    e = golden("e_poses")
    for poses, wanted in [
        ("poses", "actions"),
        ("poses", "poses_to_diff_pairs"),
        ("poses_camera_frame", "actions_camera_frame"),
    ]:
        actions = pose_difference(e[poses][:-1], e[poses][1:])
        torch.testing.assert_close(actions[:, [0, 1, 2, 6]], e[wanted][:, [0, 1, 2, 6]], atol=1e-9, rtol=0)
        _same_rotation(actions[:, 3:6], e[wanted][:, 3:6])
    for suffix, kind in [("y", torch.float32), ("y_f64", torch.float64)]:
        new = apply_action(e["new_pose.pose"].to(kind), e["new_pose.action"].to(kind))
        torch.testing.assert_close(new[..., [0, 1, 2, 6]], e[f"new_pose.{suffix}"][..., [0, 1, 2, 6]])
        _same_rotation(new[..., 3:6], e[f"new_pose.{suffix}"][..., 3:6])
