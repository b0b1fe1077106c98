"""Readers, one per format, in the order in which they are asked whether they recognise a path."""

from data.formats.aloha import AlohaReader
from data.formats.demos import LiberoReader, RobomimicReader
from data.formats.droid import DroidReader
from data.formats.lerobot import LeRobotReader
from data.formats.plain import PlainReader
from data.formats.rlds import RldsReader
from data.formats.ros import RosReader

READERS = {
    reader.name: reader
    for reader in (
        DroidReader,
        LeRobotReader,
        RldsReader,
        RosReader,
        PlainReader,
        RobomimicReader,
        LiberoReader,
        AlohaReader,
    )
}
