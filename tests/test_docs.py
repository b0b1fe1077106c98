"""What README and docs say can be done: every command is understood here, and run for real in `make test-all`.

In a document, comments above a block of commands may say how to run it in small or why it cannot be run:
    <!-- first: forearm collect episodes=6 to=my_logs -->      what a reader has already
    <!-- small: collect episodes=2; train recipe.steps=4 -->   added to those commands of the next block
    <!-- not run: needs an arm -->                             understood only
Blocks of one document run in order, in one folder; <what stands so> in a path is the newest folder there.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli import schemas, words
from agent.cli.main import parse

HOUSE = Path(__file__).resolve().parent.parent
DOCUMENTS = [HOUSE / "README.md", *sorted((HOUSE / "docs").rglob("*.md"))]
BLOCK = re.compile(r"((?:^<!-- (?:first|small|not run): [^\n]* -->\n)*)^```(\w*)\n(.*?)^```", re.S | re.M)
TOLD = re.compile(r"<!-- (first|small|not run): (.*) -->")
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*forearm [^`\n]+)`")


@dataclass
class Said:
    document: Path
    text: str
    small: tuple[str, ...] = ()
    runs: bool = True
    block: bool = True

    def __str__(self) -> str:
        return f"{self.document.name}: {self.text}"


def commands(document: Path) -> Iterator[Said]:
    """Commands of the shell: lines of blocks, joined at backslashes, without comments and prompts."""
    text = document.read_text(encoding="utf-8")
    for comments, language, body in BLOCK.findall(text):
        if language not in ("", "sh", "bash", "console"):
            continue
        told = dict(TOLD.findall(comments))
        yield from (Said(document, line.strip()) for line in told.get("first", "").split(";") if line.strip())
        added = [shlex.split(part) for part in told.get("small", "").split(";") if part.strip()]
        for line in body.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#.*", "", line).removeprefix("$ ").strip()
            if re.match(r"(?:[A-Z_]+=\S+ )*(forearm|make) ", line + " "):
                small = [words for name, *words in added if f"forearm {name}" in line]
                yield Said(document, line, tuple(small[0]) if small else (), "not run" not in told)
    for line in INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.S)):
        yield Said(document, line, block=False)


SAID = [said for document in DOCUMENTS for said in commands(document)]


def understood(text: str, *, whole: bool) -> None:
    """Compose the configuration that a command line asks for."""
    typed = [w for w in shlex.split(text) if not re.fullmatch(r"[A-Z_]+=.*", w)]
    if "..." in text or "|" in typed or "<" in text:
        typed, whole = typed[:2], False
    line = parse(typed[1:])
    if line.command is None or line.command.startswith("<"):
        return
    command = schemas.Command(line.command)
    if {"--help", "--completion"} & set(line.flags):
        return
    multirun = "--multirun" in line.flags
    taken, overrides = words.split_run_keys(command, line.overrides)
    assert command.resumes or "resume" not in taken, f"{command.name} knows no resume="
    prepared = words.prepare(command, overrides, multirun=multirun)
    if whole and not multirun and "resume" not in taken:
        schemas.compose(command, prepared)


@pytest.mark.parametrize("said", SAID, ids=str)
def test_every_command_in_the_documents_is_understood(said: Said) -> None:
    if "make " in said.text.split("forearm")[0]:
        typed = [w for w in shlex.split(said.text) if not re.fullmatch(r"[A-Z_]+=.*", w)]
        targets = re.findall(r"^([a-z-]+):", (HOUSE / "Makefile").read_text(), re.M)
        assert [w for w in typed[1:] if w not in targets] == []
    else:
        understood(said.text, whole=said.block)
        for extra in said.small:
            understood(f"{said.text} {extra}", whole=False)


@pytest.mark.parametrize("name", schemas.COMMANDS)
def test_every_example_in_help_is_understood(name: str) -> None:
    for example in schemas.Command(name).examples:
        understood(re.sub(r"\s+#.*", "", example), whole=True)


def test_the_documents_speak_of_every_command() -> None:
    spoken = " ".join(s.text for s in SAID)
    assert [name for name in schemas.COMMANDS if f"forearm {name}" not in spoken] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_python_in_the_documents_imports_what_exists(document: Path) -> None:
    for _, language, body in BLOCK.findall(document.read_text(encoding="utf-8")):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(body)):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split(".")[0] in schemas_rooms()
            ):
                assert importlib.util.find_spec(node.module), f"{document.name}: {node.module}"
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{document.name}: {node.module}.{alias.name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_modules_extras_and_targets_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    # The benchmarks are run as `python -m` from the checkout; they are no part of what is installed.
    named = re.findall(r"(?:python|torchrun [^\n]*?) -m (\w+(?:\.\w+)+)", text)
    assert [n for n in named if not (HOUSE / (n.replace(".", "/") + ".py")).exists()] == []
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(re.findall(r"forearm\[(\w+)\]", text))
    assert extras <= set(project["optional-dependencies"])
    targets = re.findall(r"^([a-z-]+):", (HOUSE / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)


def schemas_rooms() -> tuple[str, ...]:
    return ("agent", "configs", "data", "envs", "planners", "world_model")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)\s#]+)", text) + re.findall(r'src="([^"]+)"', text)
    local = [t for t in targets if "://" not in t and not t.startswith("mailto:")]
    assert [t for t in local if not (document.parent / t).exists()] == []


def test_readme_is_read_in_one_sitting() -> None:
    assert len((HOUSE / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


def newest(folder: Path, pattern: str) -> str:
    """The path that outputs/train/<day>/<run>/model means: the last one there."""
    return str(max(folder.glob(re.sub(r"<[^>]*>", "*", pattern)), key=lambda path: path.stat().st_mtime))


RUN = [d for d in DOCUMENTS if any(s.document == d and s.block and s.runs for s in SAID)]


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("document", RUN, ids=lambda d: d.name)
def test_the_commands_of_a_document_run(document: Path, tmp_path: Path) -> None:
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "NO_COLOR": "1"}
    for said in SAID:
        if said.document != document or not said.block or not said.runs or "..." in said.text:
            continue
        makes = said.text.startswith("make ")
        if makes and said.text not in ("make demo", "make help"):
            continue  # the set-up and the tests themselves
        text = re.sub(r"[^\s=]*<\S*", lambda path: newest(tmp_path, path[0]), said.text)
        done = subprocess.run(
            text if makes else " ".join([text, *map(shlex.quote, said.small)]),
            shell=True, cwd=HOUSE if makes else tmp_path, env=environment,
            capture_output=True, text=True, timeout=3600,
        )  # fmt: skip
        # A plan with a model of four steps runs to its end, and says that it reached nothing.
        fine = (0, 1) if "budget_steps=4" in said.small and "video" in done.stdout else (0,)
        assert done.returncode in fine, f"{said}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
