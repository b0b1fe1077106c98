"""What recordings are read back with."""

from __future__ import annotations

import pytest
from rerun.chunk import RrdReader


@pytest.fixture
def curve():
    """A curve's values in a recording, by step."""

    def read(path, entity, timeline="steps_ahead"):
        found = {}
        for chunk in RrdReader(path).stream():
            batch = chunk.to_record_batch()
            names = [n for n in batch.schema.names if n.endswith("Scalars:scalars")]
            if names and str(chunk.entity_path) == entity:
                values = batch[names[0]].to_pylist()
                found |= {s: v[0] for s, v in zip(batch[timeline].to_pylist(), values, strict=True)}
        return [found[step] for step in sorted(found)]

    return read
