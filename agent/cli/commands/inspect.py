"""`forearm inspect`: look at a folder of logs, or at one episode of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.choices import Format
from agent.cli.runs import Run
from data.options import LogOptions


@dataclass(kw_only=True)
class Config(LogOptions):
    """Look at robot logs: what they hold, what is wrong with them, and one episode in Rerun."""

    data: Path
    """A log in any format that Forearm reads."""
    format: Format | None = None
    """Its format, where it cannot be found out by looking."""
    episode: int | None = None
    """Number of an episode to write a Rerun recording of."""
    thorough: bool = False
    """Decode every frame of every video."""


EXAMPLES = (
    "forearm inspect data=my_logs",
    "forearm inspect data=my_logs episode=3",
    "forearm inspect data=their_logs key_map.pose=observation.eef 'cameras=[wrist]' position_scale=0.001",
)


def run(config: Config, run: Run) -> int:
    from agent.cli.log_choice import open_chosen, say_report
    from agent.inspect import as_json, summarise_log, table

    log = open_chosen(config, config.data, config.format)
    report = log.check(thorough=config.thorough)
    summary = summarise_log(log, report)
    for line in table(summary) if report.accepted else [f"format     {log.format}"]:
        run.say(line)
    run.results.update(as_json(summary))
    if config.episode is not None:
        from agent.seeing.episode_recording import record_episode
        from agent.seeing.viewer import how_to_open

        if not 0 <= config.episode < len(log):
            raise ValueError(f"episode={config.episode}: {config.data} has episodes 0 to {len(log) - 1}")
        key = log.keys[config.episode]
        found = [f for f in report.flagged if f.episode == key]
        path = record_episode(log.open(key), run.dir / f"episode_{config.episode}.rrd", findings=found)
        run.results["recording"] = str(path)
        run.say(f"\nepisode {config.episode} is {key}; open it with: {how_to_open(path)}")
    say_report(report, run)
    return 0 if report.accepted else 1
