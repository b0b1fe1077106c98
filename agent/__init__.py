"""The agent: six modules wired into a loop, and everything a person types or looks at."""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path


def _check_rooms() -> None:
    """Names such as `data` are generic: say so when another project's folder stands in front of ours."""
    house = _Path(__file__).resolve().parent.parent
    for room in ("configs", "data", "envs", "planners", "world_model"):
        spec = _find_spec(room)
        places = list(spec.submodule_search_locations or [spec.origin]) if spec else []
        if str(house / room) not in {str(_Path(place).resolve()) for place in places if place}:
            found = f"'{places[0]}' is imported instead" if places else "there is none"
            raise ImportError(
                f"forearm needs its own package '{room}' from {house}, but {found}. Start it with the command "
                "`forearm` (or `python -P -m agent.cli.main`), from an environment that holds only Forearm."
            )


_check_rooms()
