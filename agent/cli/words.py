"""The words a user typed: each is checked, and put into Hydra's grammar; a wrong one names the nearest right one."""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from agent.cli.schemas import (
    RUN_KEYS,
    Command,
    Leaf,
    UsageError,
    choices_of,
    config_folder,
    flat_yaml,
    nearest,
    origin,
)

# Whole numbers are counts and sizes, 0 or more unless their default says otherwise; of these there must be some.
LEAST = {"episodes": 1, "horizon": 1, "clip_frames": 2, "batch_size": 1, "candidates": 1, "elites": 1}
# Where the words stand that must be choices of an Enum.
_WHOLE, _IN_SWEEPS = re.compile(r"\A.*\Z", re.DOTALL), re.compile(r"\A\Z|[^,]+")
_PARTS = re.compile(r"[\[\],]|'[^']*'|\"[^\"]*\"|[^\[\],]+")
_IN_LISTS = re.compile(r"'[^']*'|\"[^\"]*\"|\$\{[^}]*\}|[^\[\],\s][^\[\],]*")


def split_run_keys(command: Command, overrides: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take `out=`, `name=`, `overwrite=`, `resume=` off, except for fields of the command's own."""
    taken: dict[str, str] = {}
    rest = []
    for word in overrides:
        key, equals, value = word.partition("=")
        if equals and key in RUN_KEYS:
            taken[key] = value.strip("'\"")
            if key not in command.own_run_keys:
                continue
        rest.append(word)
    return taken, rest


def prepare(
    command: Command, overrides: list[str], *, multirun: bool, extra: Path | None = None
) -> list[str]:
    """Check each override and put it into Hydra's grammar: names, quotes, lists, enum names."""
    _check_blanks(overrides)
    if not multirun and (sweeping := [w for w in overrides if re.match(r"hydra[./](launcher|sweeper)", w)]):
        raise UsageError(
            f"{sweeping[0]} says how many runs are made; it goes with -m and values such as seed=0,1"
        )
    overrides = [each for word in overrides for each in _spread(command, word)]
    typed = {key: value for key, _, value in (word.partition("=") for word in overrides)}
    chosen = {group: typed.get(group, choice) for group, choice in command.groups.items()}
    return [_prepare_one(command, word, multirun, extra, chosen) for word in overrides]


def _check_blanks(overrides: list[str]) -> None:
    """`episodes = 3` reaches us as three words, `episodes= 3` and `episodes =3` as two."""
    for before, after in itertools.pairwise(overrides):
        apart = "=" not in before and after.startswith("=")
        cut = before.endswith("=") and before.count("=") == 1 and "=" not in after
        if apart or cut:
            following = overrides[overrides.index(after) + 1 :] if after == "=" else []
            value = after.removeprefix("=") or (following[0] if following else "VALUE")
            raise UsageError(f"write {before.rstrip('=')}={value} without blanks around '='")


def _spread(command: Command, word: str) -> list[str]:
    """`steps={policy:5,critic:9}` -> steps.policy=5 steps.critic=9: Hydra adds to a mapping key by key only."""
    key, _, value = word.partition("=")
    leaf = command.leaves.get(key.lstrip("+").strip())
    if leaf is None or origin(leaf.hint) is not dict or not re.fullmatch(r"\{[^{}\[\]'\"]+\}", value.strip()):
        return [word]
    pairs = [pair.split(":", 1) for pair in value.strip()[1:-1].split(",")]
    if any(len(pair) != 2 for pair in pairs):
        return [word]
    return [f"{key}.{name.strip()}={what.strip()}" for name, what in pairs]


def _prepare_one(
    command: Command, word: str, multirun: bool, extra: Path | None, chosen: dict[str, str]
) -> str:
    if word.startswith(("~", "hydra.", "hydra/")):
        return word
    plus = "+" * (len(word) - len(word.lstrip("+")))
    key, equals, value = word.lstrip("+").partition("=")
    key = key.strip()
    if key + "_" in command.leaves:
        key += "_"
    options = {k.removesuffix("_") for k in command.leaves} | set(command.groups) | set(RUN_KEYS)
    if not equals:
        raise UsageError(f"'{word}' is not of the form key=value; {nearest(word, options)}")
    if not key:
        raise UsageError(f"'{word}' names no key; write key=value without blanks around '='")
    group = key.split("@")[0]
    if group in command.groups:
        found = command.choices(group, extra)
        for choice in value.split(",") if multirun else [value]:
            if choice.strip("'\"") not in found and choice != "null":
                raise UsageError(
                    f"{group}={choice}: no such choice in group '{group}'; {nearest(choice, found)}"
                )
        return f"{key}={value}"
    leaf = command.leaves.get(key)
    if leaf is None:
        if any(key.startswith((f"{k}.", f"{k}[")) for k in _open_nodes(command)):
            if not plus and not _in_mapping_of_its_own(command, key):
                for each in value.split(",") if multirun and "[" not in value else [value]:
                    _check_in_choice(command, key, each, chosen, extra)
            return f"{plus or '++'}{key}={value}"  # Hydra adds to a mapping only when told so
        if plus and (config_folder() / group).is_dir():
            return f"{plus}{key}={value}"
        raise UsageError(f"{command.name} has no key '{key}'; {nearest(key, options)}")
    return f"{key}={_in_grammar(leaf, value, multirun)}"


def _in_mapping_of_its_own(command: Command, key: str) -> bool:
    """Below a mapping that no group fills: any name may stand there."""
    above = [k for k, leaf in command.leaves.items() if origin(leaf.hint) is dict and k not in command.groups]
    return any(key.startswith(f"{k}.") for k in above)


def _check_in_choice(
    command: Command, key: str, value: str, chosen: dict[str, str], extra: Path | None
) -> None:
    """A key below a group that is a mapping should be one that the chosen YAML has, and a number where it has one."""
    for group, choice in chosen.items():
        prefix = group.replace("/", ".") + "."
        path = command.choice_file(group, choice, extra)
        if key.startswith(prefix) and path is not None:
            known = set(flat_yaml(path, prefix))
            if known and key not in known and not any(k.startswith(key + ".") for k in known):
                raise UsageError(
                    f"{group}={choice} has no key '{key}'; {nearest(key, known)}; +{key}=... adds it all the same"
                )
            _check_like(key, value, flat_yaml(path, prefix).get(key, (None, ""))[0])


def _check_like(key: str, value: str, default: Any) -> None:
    """Whole numbers in those files are counts."""
    given = yaml.safe_load(value) if re.fullmatch(r"[\w.+-]+", value) else value
    if given is None or (isinstance(given, str) and re.match(r"\$\{|(range|interval|choice|glob)\(", given)):
        return
    if isinstance(default, bool):
        if not isinstance(given, bool):
            raise UsageError(f"{key}={value}: wants true or false")
    elif isinstance(default, int):
        if type(given) is not int:
            raise UsageError(f"{key}={value}: wants a whole number")
        least = min(LEAST.get(key.rsplit(".", 1)[-1], 0), default)
        if given < least:
            raise UsageError(f"{key}={value}: wants {least} or more")
    elif isinstance(default, float) and type(given) not in (int, float) and not _is_number(value):
        raise UsageError(f"{key}={value}: wants a number")


def _is_number(text: str) -> bool:
    """1e-3 as well, which YAML takes for a word."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _open_nodes(command: Command) -> set[str]:
    """Keys under which any key may stand: mappings, and groups without a dataclass."""
    mappings = {k for k, leaf in command.leaves.items() if leaf.hint is Any or origin(leaf.hint) is dict}
    return mappings | {g.replace("/", ".") for g in command.groups}


def _in_grammar(leaf: Leaf, value: str, multirun: bool) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    bare = "[" not in value and not value.startswith("${") and value not in ("null", "")
    if origin(leaf.hint) in (list, tuple) and bare:
        value = ",".join(f"[{part}]" for part in value.split(",")) if multirun else f"[{value}]"
    if choices := choices_of(leaf.hint):
        each = _IN_LISTS if origin(leaf.hint) in (list, tuple) else _IN_SWEEPS if multirun else _WHOLE
        value = each.sub(lambda word: _enum_name(leaf, choices, word.group()), value)
    parser = OverridesParser.create()
    if leaf.hint in (str, Path):
        words = value.split(",") if multirun else [value]
        value = ",".join(_quoted(word) for word in words)
    elements = "".join(
        each.group() if each.group() in ("[", "]", ",") else _quoted(each.group().strip()) for each in _PARTS.finditer(value)
    )  # fmt: skip
    parsed = None
    for candidate in (value, elements) if typing.get_args(leaf.hint)[:1] == (str,) else (value,):
        try:
            parsed = parser.parse_override(f"{leaf.key}={candidate}")
        except HydraException:
            continue
        value = candidate
        break
    if parsed is None or (parsed.is_sweep_override() and not multirun):
        value = _quoted(value)
        parsed = parser.parse_override(f"{leaf.key}={value}")
    if not parsed.is_sweep_override():
        _check_value(leaf, parsed.value())
    elif parsed.is_choice_sweep() and leaf.hint in (int, float, bool):
        for each in parsed.sweep_iterator():
            _check_value(leaf, each)
    return value


def _quoted(value: str) -> str:
    """Text as it stands: blanks, brackets, commas and '=' are not in Hydra's grammar, and 007 is no number."""
    if (
        value in ("null", "???")
        or value.startswith("${")
        or (len(value) > 1 and value[0] == value[-1] in "'\"")
    ):
        return value
    # In Hydra's quotes a backslash is special only in front of a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m.group(1) * 2 + ("\\'" if m.group(2) else ""), value)
    return f"'{escaped}'"


def _enum_name(leaf: Leaf, choices: type[Enum], word: str) -> str:
    """Members are known to OmegaConf by name; a user may type name or value in any case."""
    word = word.strip("'\" ")
    for member in choices:
        if word.lower() in (member.name.lower(), str(member.value).lower()):
            return member.name
    if word == "null" or word.startswith("${"):
        return word
    raise UsageError(f"{leaf.key}={word}: no such choice; {nearest(word, [m.name for m in choices])}")


def _check_value(leaf: Leaf, value: Any) -> None:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(value, str) and value.startswith("${"):
        return
    try:
        OmegaConf.update(OmegaConf.structured(leaf.owner), leaf.field, value)
    except OmegaConfBaseException:
        wanted = getattr(leaf.hint, "__name__", None) if not typing.get_args(leaf.hint) else None
        article = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        article |= {
            "list": "a list, as in [a,b]",
            "tuple": "a list, as in [a,b]",
            "dict": "pairs, as in {a:1,b:2}",
        }
        kind = article.get(wanted or origin(leaf.hint).__name__, wanted or str(leaf.hint))
        raise UsageError(f"{_typed(leaf, value)}: wants {kind}") from None
    if type(value) is int and leaf.hint is int:
        least = LEAST.get(leaf.field, 0)
        if value < least <= (least if leaf.default in (None, dataclasses.MISSING) else leaf.default):
            raise UsageError(f"{_typed(leaf, value)}: wants {least} or more")


def _typed(leaf: Leaf, value: Any) -> str:
    return f"{leaf.key.removesuffix('_')}={value}"
