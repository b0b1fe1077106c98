"""Tab completion: `eval "$(forearm --completion bash)"` in the shell's start file."""

from __future__ import annotations

from agent.cli.schemas import COMMANDS, RUN_KEYS, Command, UsageError, choices_of

SCRIPTS = {
    # Bash breaks words at '=', so the words are put together again and the part before '=' taken off.
    "bash": """\
_forearm() {
    local line="${COMP_LINE:0:COMP_POINT}" word reply
    word="${line##* }"
    mapfile -t reply < <(forearm --complete ${line% *} "$word" 2>/dev/null)
    COMPREPLY=($(compgen -W "${reply[*]}" -- "$word"))
    [[ "$word" == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}")
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _forearm forearm""",
    "zsh": """\
_forearm() {
    local -a reply
    reply=(${(f)"$(forearm --complete ${words[1,CURRENT-1]} "$PREFIX" 2>/dev/null)"})
    compadd -S '' -a reply || _files
}
compdef _forearm forearm""",
}


def script(shell: str) -> str:
    if shell not in SCRIPTS:
        raise UsageError(f"--completion {shell}: no script for that shell; there are: {', '.join(SCRIPTS)}")
    return SCRIPTS[shell]


def candidates(words: list[str]) -> list[str]:
    """What could stand at the end: `words` is the line so far and, last, the word under the cursor."""
    *before, word = words or [""]
    if word.startswith("-"):
        from agent.cli.main import FLAGS

        return [flag for flag in FLAGS if flag.startswith(word)]
    typed = [w for w in before[1:] if not w.startswith("-")]
    name = next((w for w in typed if w in COMMANDS), None)
    if name is None:
        return [c for c in COMMANDS if c.startswith(word)]
    command = Command(name)
    key, equals, _ = word.partition("=")
    if not equals:
        keys = [*command.groups, *(k.removesuffix("_") for k in command.leaves)]
        keys += RUN_KEYS if command.keeps_run else []
        return sorted({f"{k}=" for k in keys if k.startswith(word)})
    return [f"{key}={v}" for v in _values(command, key) if f"{key}={v}".startswith(word)]


def _values(command: Command, key: str) -> list[str]:
    if key in command.groups:
        return command.choices(key)
    leaf = command.leaves.get(key) or command.leaves.get(key + "_")
    if leaf is None:
        return ["true"] if key == "overwrite" else ["last", "true"] if key == "resume" else []
    if choices := choices_of(leaf.hint):
        return [m.name for m in choices]
    return ["true", "false"] if leaf.hint is bool else []
