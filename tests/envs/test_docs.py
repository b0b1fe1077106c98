"""The worked examples in the documentation work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.mark.parametrize("page", ["own_arm", "own_task"])
def test_the_worked_example_of_a_page_runs(house: Path, page: str, capsys):
    text = (house / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    space: dict[str, object] = {"__name__": page}
    for block in blocks:
        if not block.startswith("# needs a model"):
            exec(compile(block, f"docs/{page}.md", "exec"), space)
    space["arm"].close()  # type: ignore[attr-defined]
    if page == "own_arm":
        assert "ok    clips a step of 10 m" in capsys.readouterr().out
