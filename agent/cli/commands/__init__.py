"""One file per command.  What a command file holds:

    @dataclass(kw_only=True)
    class Config:
        '''What the command is for, in one sentence.'''

        episodes: int = 10
        '''How many episodes to record.'''          # shown by --help, with the unit read from the name
        data: Path                                   # no default: the user must give it
        from_: Path                                  # a trailing underscore is for Python; the user types from=

    EXAMPLES = ("forearm collect episodes=100", ...)  # three lines to paste

    def run(config: Config, run: Run) -> int: ...     # the exit status

and, where they apply:

    RESUMES = True            resume= goes on in an earlier run's folder (a Config with a field `resume` says the same)
    KEEPS_RUN = False         nothing is produced, so no folder is made under outputs/

Choices are Enums with lower-case member names; `Literal` does not compose.  Groups: configs/<command>.yaml lists
them under `defaults:`; the schema of the command is put in front by itself.  Lists: `list[str]`.  Import torch,
mujoco and the rooms inside `run`: `forearm --help` imports this file.
"""
