"""Claims: the schedule is the published one, and always starts, peaks and ends where it says."""

import math

import pytest

from world_model.train.schedule import Schedule

# Rates of the official schedule (warm-up 4,500, constant, anneal 4,500 of 94,500), by its n-th step from 1.
OFFICIAL = {1: 7.507777777777777e-05, 100: 8.277777777777777e-05, 2250: 0.00025, 4499: 0.00042492222222222217,
            4500: 0.000425, 47250: 0.000425, 90000: 0.000425, 90001: 0.00042490555555555555, 92250: 0.0002125,
            94499: 9.444444444442566e-08, 94500: 0.0}  # fmt: skip


@pytest.mark.parametrize("number", OFFICIAL)
def test_it_is_the_schedule_of_vjepa2_ac(number):
    schedule = Schedule(
        steps=94_500,
        peak=4.25e-4,
        start=7.5e-5,
        warmup_steps=4_500,
        cooldown_fraction=4_500 / 94_500,
        shape="linear",
    )
    assert schedule.at(number - 1) == pytest.approx(OFFICIAL[number], abs=1e-12)


def test_cosine_passes_half_way_at_half_time():
    schedule = Schedule(steps=100, peak=2.0)
    assert schedule.at(49) == pytest.approx(1.0)
    assert schedule.at(24) == pytest.approx(1 + math.cos(math.pi / 4))
    assert schedule.at(99) == pytest.approx(0.0)


@pytest.mark.parametrize("wrong", [{"shape": "square"}, {"cooldown_fraction": 1.5}, {"warmup_steps": 11}])
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Schedule(steps=10, peak=1.0, **wrong)
