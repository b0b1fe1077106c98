"""The containers that ROS 2 records into: MCAP files and SQLite bags, as messages in the order of their log time."""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from data.checks import Damaged, Finding

Raw = tuple[str, int, int, bytes]  # topic, log time in ns, the container's number for it, CDR bytes
_REMEDY = "Copy the bag again from the original, or run the recorder's own recovery on it."
_MAGIC = b"\x89MCAP0\r\n"
_FOOTER = struct.Struct("<BQQQI")  # code, length, where the summary starts, where its offsets start, checksum


def _mcap() -> Any:
    try:
        import mcap.exceptions
        import mcap.reader
        import mcap.stream_reader
    except ImportError as error:
        raise ImportError("MCAP bags need the extra `ros`: pip install 'forearm[ros]'") from error
    return mcap


def _summary_is_whole(stream: BinaryIO) -> bool:
    """Whether the lists at the end of a file have the checksum that its footer says; True where it says none."""
    end = stream.seek(0, os.SEEK_END) - len(_MAGIC) - _FOOTER.size
    stream.seek(max(0, end))
    footer = stream.read(_FOOTER.size)
    whole = True
    if end > 0 and stream.read() == _MAGIC:
        code, _, start, _, checksum = _FOOTER.unpack(footer)
        if code == 2 and checksum and start and start <= end:
            stream.seek(start)
            whole = zlib.crc32(stream.read(end - start) + footer[:-4]) == checksum
    stream.seek(0)
    return whole


@dataclass(slots=True)
class McapBag:
    """One .mcap file; the number of a message is its log time."""

    file: Path
    finding: Finding | None = None  # what is wrong with the container, though it can be read

    def topics(self) -> dict[str, str]:
        """Topic -> type, of messages in CDR."""
        _mcap()
        found: dict[str, str] = {}
        with open(self.file, "rb") as stream:
            for schema, channel, _ in self._read(stream, None, None, None):
                if schema is not None and channel.message_encoding == "cdr":
                    found[channel.topic] = schema.name
        return dict(sorted(found.items()))

    def messages(self, topics: Collection[str]) -> Iterator[Raw]:
        with open(self.file, "rb") as stream:
            for _, channel, message in self._read(stream, topics, None, None):
                yield channel.topic, message.log_time, message.log_time, bytes(message.data)

    def fetch(self, topic: str, numbers: Collection[int]) -> dict[int, bytes]:
        """Some messages of a topic, by number."""
        wanted = set(numbers)
        with open(self.file, "rb") as stream:
            found = self._read(stream, [topic], min(wanted), max(wanted) + 1)
            return {m.log_time: bytes(m.data) for _, _, m in found if m.log_time in wanted}

    def _read(
        self, stream: Any, topics: Collection[str] | None, first: int | None, end: int | None
    ) -> Iterator[Any]:
        mcap = _mcap()
        seen = 0
        try:
            if not _summary_is_whole(stream):  # which the library believes: it would leave out topics
                raise mcap.exceptions.McapError("the checksum of its summary is wrong")
            reader = mcap.reader.SeekingReader(stream, validate_crcs=True)
            for item in reader.iter_messages(topics=topics, start_time=first, end_time=end):
                seen += 1
                yield item
            return
        except Exception as error:  # the library raises whatever it trips over
            if seen:
                raise self._damaged(error) from error
            problem = error
        # No footer: the recorder was killed.  Whole chunks can still be read from the front.
        stream.seek(0)
        kept: list[Any] = []
        try:
            reader = mcap.reader.NonSeekingReader(stream, validate_crcs=True)
            for item in reader.iter_messages(
                topics=topics, start_time=first, end_time=end, log_time_order=False
            ):
                kept.append(item)
        except Exception as error:
            if not kept:
                raise self._damaged(error) from error
        if not kept:
            raise self._damaged(problem) from problem
        self.finding = Finding(
            reason="unfinished bag",
            file=str(self.file),
            value=f"{type(problem).__name__}: {problem}",
            remedy="Its recorder was killed, or its end is damaged: only its whole chunks are read.",
            skips=False,
        )
        yield from sorted(kept, key=lambda item: item[2].log_time)

    def _damaged(self, error: Exception) -> Damaged:
        if isinstance(error, ImportError):
            raise error
        return Damaged(
            "truncated mcap", file=self.file, value=f"{type(error).__name__}: {error}", remedy=_REMEDY
        )


@dataclass(slots=True)
class SqliteBag:
    """One .db3 file; the number of a message is its row."""

    file: Path
    finding: Finding | None = None

    def _query(self, text: str, *values: Any) -> Iterator[Any]:
        connection = sqlite3.connect(f"file:{self.file}?mode=ro&immutable=1", uri=True)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            yield from connection.execute(text, values)
        except (sqlite3.Error, OverflowError) as error:
            raise Damaged("damaged db3", file=self.file, value=error, remedy=_REMEDY) from error
        finally:
            connection.close()

    def topics(self) -> dict[str, str]:
        rows = self._query("SELECT name, type FROM topics WHERE serialization_format = 'cdr' ORDER BY name")
        return {str(name): str(kind) for name, kind in rows}

    def messages(self, topics: Collection[str]) -> Iterator[Raw]:
        marks = ",".join("?" * len(topics))
        rows = self._query(
            "SELECT topics.name, timestamp, messages.id, data FROM messages JOIN topics ON topic_id = topics.id "
            f"WHERE topics.name IN ({marks}) ORDER BY timestamp, messages.id",
            *topics,
        )
        for topic, time_ns, number, data in rows:
            if isinstance(data, bytes) and isinstance(time_ns, int):
                yield str(topic), time_ns, number, data

    def fetch(self, topic: str, numbers: Collection[int]) -> dict[int, bytes]:
        marks = ",".join("?" * len(numbers))
        return dict(self._query(f"SELECT id, data FROM messages WHERE id IN ({marks})", *numbers))


Bag = McapBag | SqliteBag


def open_bag(file: Path) -> Bag:
    return SqliteBag(file) if file.suffix == ".db3" else McapBag(file)


def find_bags(path: Path) -> dict[str, list[Path]]:
    """Episodes below a path: a bag folder (metadata.yaml and its files) is one, a file alone is one."""
    if path.is_file():
        return {path.name: [path]} if path.suffix in (".mcap", ".db3") else {}
    found: dict[str, list[Path]] = {}
    files = {
        f for depth in ("", "*/", "*/*/") for kind in ("mcap", "db3") for f in path.glob(f"{depth}*.{kind}")
    }
    for file in sorted(files):
        if (file.parent / "metadata.yaml").exists():
            name = "." if file.parent == path else str(file.parent.relative_to(path))
        else:
            name = str(file.relative_to(path))
        found.setdefault(name, []).append(file)
    return found
