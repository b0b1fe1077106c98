"""Tables of success: the same trials whoever runs them, none lost, none twice."""

import json

import pytest

from agent import evaluate as judged
from agent.build import AgentSettings
from agent.evaluate import EvaluateSettings, as_text, cells_of, comparisons, evaluate, read_trials, table
from agent.evaluate_report import write_evaluation
from agent.stats import wilson
from agent.trials import BUDGET_STEPS
from planners.seeded import Seeded

AGENT = AgentSettings(
    planner=Seeded(candidates=16, iterations=1, elites=4, refine=0, refine_steps=0), stop_on_surprise=False
)


def settings(model, **changes):
    chosen = {"tasks": ["reach"], "methods": ["hold", "both"], "episodes": 2, "workers": 1}
    return EvaluateSettings(model=str(model), agent=AGENT, **{**chosen, **changes})


def acted(trials):
    """What does not depend on the machine's speed."""
    return [{k: v for k, v in t.items() if k not in ("plan_ms", "perceive_ms")} for t in trials]


@pytest.fixture(scope="module")
def done(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    return out, evaluate(settings(tiny_model), out)


@pytest.fixture
def again(done, tmp_path):
    """A copy that may be damaged."""
    (tmp_path / "trials.jsonl").write_text((done[0] / "trials.jsonl").read_text())
    return tmp_path


def test_trials_come_in_the_grids_order(done):
    _, trials = done
    assert [(t["cell"]["method"], t["seed"]) for t in trials] == [
        ("hold", 10000), ("hold", 10001), ("both", 10000), ("both", 10001)
    ]  # fmt: skip
    for trial in trials:
        assert trial["steps"] == len(trial["distances_m"]) - 1 <= BUDGET_STEPS["reach"]
        assert trial["success"] == (trial["failure"] is None)
        assert bool(trial["plan_ms"]) == (trial["cell"]["method"] == "both")


def test_two_workers_come_to_the_same(tiny_model, done, tmp_path):
    trials = evaluate(settings(tiny_model, workers=2), tmp_path)
    assert acted(trials) == acted(done[1])


@pytest.mark.parametrize("cut", [1, 40])
def test_a_killed_run_goes_on(tiny_model, done, again, cut, monkeypatch):
    """Killed in the middle of a line, or right before its end: that trial is run again, the others are kept."""
    log = again / "trials.jsonl"
    log.write_text(log.read_text()[:-cut])
    ran = []
    real = judged._one
    monkeypatch.setattr(
        judged, "_one", lambda cell, seed, how: ran.append((cell.method, seed)) or real(cell, seed, how)
    )
    seen = []
    trials = evaluate(settings(tiny_model), again, progress=lambda d, total, _: seen.append((d, total)))
    assert ran == [("both", 10001)]
    assert seen == [(4, 4)]
    assert acted(trials) == acted(done[1])
    assert len(log.read_text().splitlines()) == 4
    for line in log.read_text().splitlines():
        json.loads(line)


def test_nothing_is_left_to_do_twice(tiny_model, again, monkeypatch):
    monkeypatch.setattr(judged, "_one", lambda *_: pytest.fail("a trial was run again"))
    assert len(evaluate(settings(tiny_model), again)) == 4
    assert len(evaluate(settings(tiny_model, episodes=1), again)) == 2, "only what is asked for counts"


def test_one_table_is_about_one_model(tiny_model, again):
    with pytest.raises(ValueError, match=r"holds trials of model .*tiny.* choose another out="):
        evaluate(settings("another"), again)


def test_rows_add_up(done, tiny_model):
    trials = done[1]
    rows = table(trials, model="tiny", seed=10000)
    assert sum(r["episodes"] for r in rows) == len(trials)
    for row in rows:
        own = [t for t in trials if t["cell"]["method"] == row["method"]]
        assert row["successes"] == sum(t["success"] for t in own)
        assert row["successes"] + sum(row["failures"].values()) == row["episodes"] == 2
        assert row["rate"] == row["successes"] / row["episodes"]
        assert (row["wilson_low"], row["wilson_high"]) == wilson(row["successes"], 2)
        assert (row["model"] is None) == (row["plan_ms_median"] is None) == (row["method"] == "hold")
    assert [r["method"] for r in rows] == ["hold", "both"]
    text = as_text(rows).splitlines()
    assert len(text) == 3
    assert len({len(line) for line in text[1:]}) == 1, "columns line up"


def made(method, wins):
    cell = {"task": "reach", "engine": "mujoco", "split": "train", "goal": "image", "method": method}
    return [{"cell": cell, "seed": seed, "success": won} for seed, won in enumerate(wins)]


def test_comparisons_pair_the_same_seeds():
    trials = made("both", [True] * 8 + [False]) + made("policy", [False] * 8 + [True]) + made("blind", [True])
    policy = next(c for c in comparisons(trials) if c["against"] == "policy")
    assert (policy["episodes"], policy["only_both"], policy["only_other"]) == (9, 8, 1)
    assert policy["p"] == pytest.approx(2 * (1 + 9) / 2**9)
    blind = next(c for c in comparisons(trials) if c["against"] == "blind")
    assert (blind["episodes"], blind["p"]) == (1, 1.0)
    assert comparisons(made("policy", [True])) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": ["juggle"]}, "no task 'juggle'; there are reach, grasp"),
        ({"methods": ["magic"]}, "no method 'magic'; there are random, hold"),
        ({"goals": ["words"]}, "no goal 'words'; there are image, final"),
        ({"engines": ["bullet"]}, "no engine 'bullet'; there are mujoco, pybullet"),
        ({"splits": ["test"]}, "no split 'test'; there are train, held_out"),
        ({"goals": ["final"]}, "nothing to do.*final, moved and final_moved are for grasp and pick_place"),
    ],
)
def test_what_does_not_exist_is_named(changes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        evaluate(settings("none", **changes), tmp_path)


def test_baselines_that_see_nothing_run_once_a_task():
    grid = cells_of(
        settings("none", tasks=["reach", "grasp"], goals=["final", "image"], methods=["random", "both"])
    )
    assert {(c.task, c.goal) for c in grid if c.method == "random"} == {
        ("reach", "image"),
        ("grasp", "final"),
    }
    assert {(c.task, c.goal) for c in grid if c.method == "both"} == {
        ("reach", "image"), ("grasp", "image"), ("grasp", "final")
    }  # fmt: skip


def test_the_page_has_the_table_the_curves_and_the_failures(tiny_model, done, read_page, tmp_path):
    trials = done[1]
    rows = table(trials, model="tiny", seed=10000)
    page = write_evaluation(trials, rows, comparisons(trials), settings(tiny_model), tmp_path)
    read = read_page(page)
    text = " ".join(read.words)
    assert "4 trials from seed 10000" in text
    films = sorted(p.stem for p in (tmp_path / "videos").glob("*.mp4"))
    assert films == sorted(p.stem for p in (tmp_path / "videos").glob("*.rrd")), (
        "a film without its recording"
    )
    assert all(f"recording: videos/{name}.rrd" in text for name in films)
    failed = {t["failure"] for t in trials if t["failure"] and t["cell"]["method"] == "both"}
    assert len(films) == len(failed)
    shown = [tag for tag, _ in read.shown]
    assert shown.count("video") == len(films)
    assert shown.count("img") == 2 + len(films), "two curves, and on paper each film's last frame"


def test_a_folder_without_trials_has_none(tmp_path):
    assert read_trials(tmp_path) == []
    (tmp_path / "trials.jsonl").write_text('{"cell"')
    assert read_trials(tmp_path) == []
