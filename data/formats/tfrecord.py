"""TFRecord files and the examples in them, without TensorFlow.

A record is: length (u64), its checksum (u32), content, the content's checksum (u32); the content of an example is a
protocol buffer of named lists.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np

from data.checks import Damaged

_LENGTH = struct.Struct("<QI")
_REMEDY = "Copy the file again from the original."
Value = list[bytes] | np.ndarray


@lru_cache(maxsize=1)
def _crc_table() -> np.ndarray:
    """CRC-32C (Castagnoli), one byte at a time."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


@lru_cache(maxsize=64)
def _zeros_operator(count: int) -> np.ndarray:
    """What `count` zero bytes do to a checksum, as 32 columns of a matrix over bits."""
    if count == 1:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return _crc_table()[bits & 0xFF] ^ (bits >> 8)
    half = _zeros_operator(count // 2)
    doubled = _apply(half, half)
    return doubled if count % 2 == 0 else _apply(_zeros_operator(1), doubled)


def _apply(operator: np.ndarray, values: np.ndarray) -> np.ndarray:
    bits = (values[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    return np.bitwise_xor.reduce(np.where(bits.astype(bool), operator[None], np.uint32(0)), axis=1)


def crc32c(content: bytes) -> int:
    """The checksum of a record; long ones are cut into lanes that numpy walks side by side."""
    table = _crc_table()
    data = np.frombuffer(content, np.uint8)
    lanes = max(1, min(4096, len(data) // 256))
    length = len(data) // lanes
    state = np.zeros(lanes, np.uint32)
    state[0] = 0xFFFFFFFF
    for column in np.ascontiguousarray(data[: lanes * length].reshape(lanes, length).T):
        state = table[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
    total = state[:1]
    if lanes > 1:
        operator = _zeros_operator(length)
        for lane in state[1:]:
            total = _apply(operator, total) ^ lane
    crc = int(total[0])
    for byte in data[lanes * length :].tolist():
        crc = int(table[(crc ^ byte) & 0xFF]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(content: bytes) -> int:
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def offsets(file: Path) -> list[int]:
    """Where each record of a file begins; a last one that is cut off counts too."""
    found = []
    size = os.path.getsize(file)
    with open(file, "rb") as stream:
        at = 0
        while at < size:
            found.append(at)
            head = stream.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                break
            length, check = _LENGTH.unpack(head)
            if _masked(head[:8]) != check:
                break  # where the next record begins cannot be known
            at += _LENGTH.size + length + 4
            stream.seek(at)
    return found


def read_record(file: Path, at: int) -> bytes:
    """The content of the record that begins at `at`, its checksums verified."""
    with open(file, "rb") as stream:
        stream.seek(at)
        head = stream.read(_LENGTH.size)
        length, check = _LENGTH.unpack(head) if len(head) == _LENGTH.size else (0, None)
        if check is None or at + _LENGTH.size + length + 4 > os.path.getsize(file):
            raise Damaged("truncated tfrecord", file=file, value=f"the record at byte {at}", remedy=_REMEDY)
        content, tail = stream.read(length), stream.read(4)
    if _masked(head[:8]) != check or _masked(content) != struct.unpack("<I", tail)[0]:
        raise Damaged("wrong checksum", file=file, value=f"the record at byte {at}", remedy=_REMEDY)
    return content


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> list[tuple[int, memoryview]]:
    """The parts of a message that have a length, with their numbers."""
    parts = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError(f"a part of {length} bytes at byte {at} of {len(data)}")
            parts.append((tag >> 3, data[at : at + length]))
            at += length
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
    return parts


def _varints(data: memoryview) -> np.ndarray:
    values = []
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value - (1 << 64) if value >> 63 else value)
    return np.array(values, np.int64)


def parse_example(content: bytes) -> dict[str, Value]:
    """Named lists of a `tf.train.Example`: bytes, float32 or int64."""
    example: dict[str, Value] = {}
    for number, features in _fields(memoryview(content)):
        if number != 1:
            continue
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            if 1 not in parts or 2 not in parts:
                continue
            name = bytes(parts[1]).decode("utf-8")
            for kind, values in _fields(parts[2]):
                if kind == 1:
                    example[name] = [bytes(v) for _, v in _fields(values)]
                elif kind == 2:
                    packed = b"".join(bytes(v) for _, v in _fields(values))
                    example[name] = np.frombuffer(packed, "<f4")
                elif kind == 3:
                    lists = [_varints(v) for _, v in _fields(values)]
                    example[name] = np.concatenate(lists) if lists else np.empty(0, np.int64)
    return example
