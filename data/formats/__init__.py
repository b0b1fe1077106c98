"""Readers, one per format, in the order in which they are asked whether they recognise a path."""

from data.formats.droid import DroidReader

READERS = {reader.name: reader for reader in (DroidReader,)}
