"""What a user types, and what the command line makes of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hydra.errors import ConfigCompositionException

from agent.cli.schemas import Command, in_words


def composed(shell, *words: str) -> dict:
    done = shell("train", "--cfg", *words)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_layers_of_values(shell) -> None:
    """Dataclass, then the group's YAML, then the command's YAML, then what is typed."""
    config = composed(shell, "from=logs", "planner.candidates=7")
    assert config["episodes"] == 4
    assert config["seed"] == 0
    assert config["env"] == {"engine": "mujoco", "period_s": 0.25}
    assert config["planner"] == {"candidates": 7}
    other = composed(shell, "from=logs", "env=small", "planner=mppi", "seed=null", "episodes=9")
    assert other["env"] == {"engine": "pybullet", "period_s": 0.1}
    assert other["planner"] == {"temperature": 0.5}
    assert (other["seed"], other["episodes"]) == (None, 9)


@pytest.mark.parametrize(
    "path",
    [
        "a b",
        "it's",
        "x=3.ckpt",
        "(1)",
        "a,b",
        "{x}",
        "[y]",
        "007",
        "true",
        "é",
        "c:\\dir\\",
        "a$b",
        'say "hi"',
        "-",
    ],
)
def test_paths_are_taken_as_they_stand(shell, path: str) -> None:
    assert composed(shell, f"from={path}")["from"] == path


@pytest.mark.parametrize("path", ["my lögs / é", "it's", "x=3.ckpt", "(1)", "c:\\dir\\", "a$b", "{x}"])
def test_lists_of_paths_take_them_as_they_stand(shell, path: str) -> None:
    assert composed(shell, "from=x", f"tasks={path}")["tasks"] == [path]
    assert composed(shell, "from=x", f"tasks=[a, {path}]")["tasks"] == ["a", path]


@pytest.mark.parametrize(
    ("typed", "tasks"), [("a", ["a"]), ("a,b", ["a", "b"]), ("[a,b]", ["a", "b"]), ("[]", [])]
)
def test_lists_with_or_without_brackets(shell, typed: str, tasks: list[str]) -> None:
    assert composed(shell, "from=x", f"tasks={typed}")["tasks"] == tasks


def test_enum_in_any_case(shell) -> None:
    assert composed(shell, "from=x", "env.engine=PyBullet")["env"]["engine"] == "pybullet"


def test_home_is_expanded(shell) -> None:
    assert composed(shell, "from=~/logs")["from"] == str(Path.home() / "logs")


def test_own_choices_from_a_folder(shell) -> None:
    folder = shell.cwd / "mine" / "env"
    folder.mkdir(parents=True)
    (folder / "slow.yaml").write_text("period_s: 2.0\n")
    config = composed(shell, "--config-dir", str(folder.parent), "from=x", "env=slow")
    assert config["env"]["period_s"] == 2.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tran"], ["no command 'tran'", "train"]),
        (["train", "from=x", "episode=3"], ["no key 'episode'", "episodes"]),
        (["train", "from=x", "engine=mujoco"], ["no key 'engine'", "env.engine"]),
        (["train", "from=x", "episodes=many"], ["episodes=many", "whole number"]),
        (["train", "from=x", "episodes=1,2"], ["episodes=1,2", "whole number"]),
        (["train", "from=x", "env.period_s=fast"], ["env.period_s=fast", "a number"]),
        (["train", "from=x", "env.engine=bullet"], ["env.engine=bullet", "pybullet"]),
        (["train", "from=x", "env=smal"], ["group 'env'", "small"]),
        (["train", "from=x", "planner.candidate=3"], ["candidate"]),
        (["train"], ["needs from=..."]),
        (["train", "logs"], ["'logs' is not of the form key=value"]),
        (["train", "--episodes", "3"], ["episodes=..."]),
        (["train", "--episodes=3"], ["episodes=3"]),
        (["train", "from=x", "+episodez=3"], ["episodez"]),
        (["episodes=3"], ["name a command before episodes=3"]),
        (["train", "from=x", "--config-dir", "nowhere"], ["no such folder"]),
        (["TRAN"], ["no command 'TRAN'", "train"]),
        (["train", "from=x", "episodes", "=", "3"], ["write episodes=3 without blanks"]),
        (["train", "from=x", "episodes=", "3"], ["write episodes=3 without blanks"]),
        (["train", "from=x", "episodes", "=3"], ["write episodes=3 without blanks"]),
        (["train", "from=x", "=3"], ["'=3' names no key"]),
        (["train", "from=x", "episodes=-3"], ["episodes=-3: wants 1 or more"]),
        (["train", "from=x", "seed=-1"], ["seed=-1: wants 0 or more"]),
        (["train", "from=x", "tasks=[a"], ["tasks=[a: wants a list"]),
        (["train", "from=x", "env="], ["group 'env'", "small"]),
        (["train", "from=x", "--hlep"], ["no option --hlep", "nearest: --help"]),
        (["train", "from=x", "hydra/launcher=joblib"], ["goes with -m"]),
        (["train", "-m", "from=x", "seed=0,x"], ["seed=x: wants a whole number"]),
        (["train", "-m", "from=x", "seed=0,-1"], ["seed=-1: wants 0 or more"]),
        (["train", "-m", "from=x", "hydra/launcher=jobli"], ["no such choice", "joblib"]),
        (
            ["train", "-m", "from=x", "hydra/launcher=joblib", "hydra.launcher.n_job=2"],
            ["'hydra.launcher.n_job'", "n_jobs"],
        ),
    ],
)
def test_wrong_words_name_the_right_ones(shell, words: list[str], said: list[str]) -> None:
    done = shell(*words)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("forearm: ")
    for part in said:
        assert part in done.stderr
    assert not list(shell.cwd.glob("outputs/*/*/*")), "a mistyped line leaves nothing behind"


def test_help_has_everything(shell) -> None:
    page = shell("train", "--help").stdout
    for part in (
        "Count episodes.", "forearm train from=logs env=small",
        "env      *large  small", "planner  *cem  mppi",
        "from=...", "Folder to read.", "episodes=4", "env.period_s=0.25", "[seconds]",
        "One of: mujoco, pybullet.", "planner.candidates=300", "action sequences looked at", "overwrite", "resume",
    ):  # fmt: skip
        assert part in page, part
    assert shell("help", "train").stdout == page
    assert shell("train", "help").stdout == page


def test_completion(shell) -> None:
    def complete(*words: str) -> list[str]:
        return shell("--complete", "forearm", *words).stdout.split()

    assert complete("tr") == ["train"]
    assert complete("train", "epi") == ["episodes="]
    assert complete("train", "env=") == ["env=large", "env=small"]
    assert complete("train", "env.engine=p") == ["env.engine=pybullet"]
    assert complete("train", "from=x", "fr") == ["from="]
    assert "complete -o default" in shell("--completion", "bash").stdout
    assert shell("--completion", "tcsh").returncode == 2


BASH = """
eval "$(forearm --completion bash)"
compopt() { echo "compopt $*"; }
COMP_LINE="$1"; COMP_POINT=${#1}; _forearm; echo "${COMPREPLY[*]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("forearm tra", "train"),
        ("forearm train epi", "compopt -o nospace episodes="),
        ("forearm train from=x env=", "large small"),
        ("forearm train env.engine=py", "pybullet"),
        ("forearm doctor da", "compopt -o nospace data="),
        ("forearm train --he", "--help"),
    ],
)
def test_bash_completes(shell, line: str, offered: str) -> None:
    path = f"{Path(shell.forearm).parent}:{os.environ['PATH']}"
    environment = {**shell.environment, "PATH": path}
    done = subprocess.run(["bash", "-c", BASH, "bash", line], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == offered.split(), done.stderr


def cpu_seconds(*words: str, cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=cwd, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("words", [[], ["--help"], ["plan", "--help"], ["train", "--help"], ["tran"]])
def test_answers_at_once(user, words: list[str]) -> None:
    """Half a second at most; two where processors are shared and slow, as those that run tests may be."""
    ours = min(cpu_seconds(user.forearm, *words, cwd=user.cwd) for _ in range(4))
    assert ours < 2.0
    imported = user.python(
        "import sys, agent.cli.main; agent.cli.main.main(sys.argv[1:]); print(*sys.modules)", *words
    )
    assert not {"torch", "mujoco", "hydra", "rerun", "av", "h5py"} & set(imported.stdout.split())


def test_every_shipped_command_explains_itself(user) -> None:
    overview = user().stdout
    from agent.cli.schemas import COMMANDS, Command

    for name in COMMANDS:
        assert f"\n  {name} " in overview
        command = Command(name)
        assert len(command.examples) >= 3
        assert sum(f"forearm {name}" in e for e in command.examples) >= 2
        page = user(name, "--help").stdout
        assert page.startswith(f"forearm {name}: ")
        bare = [line for line in page.splitlines() if line.startswith("  ") and line.rstrip().endswith("=")]
        assert json.dumps(bare) == "[]", "fields without a sentence"


def test_a_mapping_typed_whole_is_that_mapping() -> None:
    from agent.cli import schemas, words

    command = schemas.Command("train")
    typed = ["data=logs", "head_steps={policy:5, critic: 9}"]
    config = schemas.compose(command, words.prepare(command, typed, multirun=False))
    assert config.head_steps == {"policy": 5, "critic": 9}


@pytest.mark.parametrize(("plugin", "extra"), [("submitit_slurm", "slurm"), ("ray", "ray")])
def test_a_launcher_that_is_not_installed_names_its_extra(plugin: str, extra: str) -> None:
    error = ConfigCompositionException(
        f"In 'hydra/launcher/cluster': Could not load 'hydra/launcher/{plugin}'."
    )
    assert f"pip install -e '.[{extra}]'" in in_words(Command("train"), error)
