"""`forearm doctor`: the machine, or a folder of logs, looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agent.cli.runs import Run
from agent.settings import EnvConfig

KEEPS_RUN = False


@dataclass(kw_only=True)
class Config:
    """See what this machine can do and what is missing; whether a folder of logs is sound; whether a real arm is.

    A real arm (env=franka) is looked at without moving it; with env.dry_run=false env.confirm=true it goes home and
    moves a few centimetres each way, which shows that axes and gripper are the right way round.
    """

    data: Path | None = None
    """A log folder to check instead of the machine, in any format that Forearm reads."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The arm to check instead of the machine: env=franka."""


EXAMPLES = (
    "forearm doctor",
    "forearm doctor data=datasets/my_logs",
    "forearm doctor env=franka env.host=172.16.0.2",
    "MUJOCO_GL=osmesa forearm doctor            # would another GL do?",
)


def run(config: Config, run: Run) -> int:
    if config.data is not None:
        return _check_logs(config.data, run)
    if config.env.engine == "franka":
        return _check_arm(config.env, run)
    from agent.doctor import Verdict, examine, table

    findings = []
    for finding in examine():
        findings.append(finding)
    run.say(table(findings))
    bad = [f.what for f in findings if f.verdict is Verdict.bad]
    run.say(f"\n`forearm demo` cannot run: {', '.join(bad)}." if bad else "\n`forearm demo` can run.")
    return 1 if bad else 0


def _check_logs(path: Path, run: Run) -> int:
    from data.source import open_log

    log = open_log(path)
    report = log.check()
    run.say(f"{path}: {log.format}, {len(log)} episodes")
    for finding in [*report.skipped, *report.flagged][:20]:
        run.say(f"{'skipped' if finding.skips else 'flagged'}  {finding.episode}: {finding}")
    run.say(report.summary())
    return 0 if report.accepted else 1


def _check_arm(env: EnvConfig, run: Run) -> int:
    from agent.arms import begin_real, open_arm
    from agent.doctor import Finding, Verdict, table
    from envs.arm import ArmError
    from envs.franka.look import look, try_motion

    findings: list[Finding] = []
    try:
        arm, driver = open_arm(env, say=run.say)
        try:
            if env.recover:
                begin_real(arm, env)
            checks = look(driver)
            if not env.dry_run and all(check.good for check in checks):
                checks += try_motion(arm, driver)
        finally:
            arm.close()
    except ArmError as error:
        findings.append(Finding(what="arm", verdict=Verdict.bad, found=str(error)))
    else:
        for check in checks:
            verdict = Verdict.ok if check.good else Verdict.bad
            remedy = "" if check.good else check.remedy
            findings.append(Finding(what=check.what, verdict=verdict, found=check.found, remedy=remedy))
    run.say(table(findings))
    bad = [f.what for f in findings if f.verdict is Verdict.bad]
    run.say(
        f"\nDo not plan with this arm yet: {', '.join(bad)}." if bad else "\nThis arm can be planned with."
    )
    if not bad and env.dry_run:
        run.say("Axes and gripper were not tried: env.dry_run=false env.confirm=true moves them a little.")
    return 1 if bad else 0
