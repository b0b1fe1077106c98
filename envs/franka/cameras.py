"""Cameras of a real robot behind one small protocol, with time stamps and a watch for what goes wrong.

`open_camera` knows: v4l:0 (OpenCV), realsense:SERIAL, zed:SERIAL, video:PATH (a recording stands in), and fake:HOST
(the table of a fake controller, drawn).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.images import fit_frames
from data.types import Camera

from ..arm import ArmError

_BLACK_MEAN, _BLACK_SPREAD = 3.0, 2.0
_START_S = 5.0


class CameraFault(ArmError):
    """A camera that cannot be trusted: the message says why."""


class FrameSource(Protocol):
    """One camera.  `read` waits for the next frame: uint8 RGB [H, W, 3], and when it was taken (monotonic)."""

    def read(self) -> tuple[np.ndarray, float]: ...

    def close(self) -> None: ...


class WatchedCamera:
    """Keeps the newest frame of a source, read by a thread of its own; refuses frames that are wrong.

    `info` describes what `latest` gives; `raw_shape` (height, width) what the source must give, where `prepare` crops
    and scales.  Wrong is: late, of another size than declared, black, or the same to the last bit for `frozen_s` (a sensor's
    noise never repeats; None for sources that may stand still).
    """

    def __init__(
        self,
        source: FrameSource,
        info: Camera,
        *,
        frozen_s: float | None = 0.5,
        prepare: Callable[[np.ndarray], np.ndarray] | None = None,
        raw_shape: tuple[int, int] | None = None,
    ) -> None:
        self.info = info
        self._raw_shape = (*(raw_shape or (info.height, info.width)), 3)
        self._source, self._frozen_s, self._prepare = source, frozen_s, prepare
        self._changed = threading.Condition()
        self._newest: tuple[np.ndarray, float] | None = None
        self._fault = ""
        self._same_since = 0.0
        self._frames = 0
        self._faults: dict[str, int] = {}
        self._since = time.monotonic()
        self._open = True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def latest(self, max_age_s: float) -> tuple[np.ndarray, float]:
        """The newest good frame and its time, no older than `max_age_s`; CameraFault otherwise."""
        with self._changed:
            if self._newest is None and not self._fault:
                self._changed.wait(max(_START_S, max_age_s))
            fault, newest = self._fault, self._newest
        name = self.info.name
        if fault:
            raise CameraFault(f"camera {name!r}: {fault}. The arm holds; mend the camera and go on")
        if newest is None:
            raise CameraFault(
                f"camera {name!r} gave no frame within {max(_START_S, max_age_s):.0f} s. The arm holds"
            )
        age = time.monotonic() - newest[1]
        if age > max_age_s:
            self._count("late")
            raise CameraFault(f"camera {name!r} is late: its last frame is {age:.2f} s old. The arm holds")
        return newest

    def report(self) -> dict[str, Any]:
        """Frames a second and faults so far."""
        seconds = time.monotonic() - self._since
        rate_hz = self._frames / max(seconds, 1e-6)
        return {"rate_hz": rate_hz, "frames": self._frames, "faults": dict(self._faults)}

    @property
    def taken_s(self) -> float | None:
        """When the newest good frame was taken."""
        newest = self._newest
        return None if newest is None else newest[1]

    def close(self) -> None:
        """End the thread, which closes the source itself: few camera libraries bear being closed from elsewhere."""
        self._open = False
        self._thread.join(2.0)

    def _watch(self) -> None:
        try:
            self._keep_newest()
        finally:
            self._source.close()

    def _keep_newest(self) -> None:
        before: np.ndarray | None = None
        while self._open:
            try:
                frame, taken_s = self._source.read()
                fault = self._judge(frame, before, taken_s)
                good = frame if fault or self._prepare is None else self._prepare(frame)
            except Exception as error:
                if not self._open:
                    return
                frame, good, taken_s, fault = None, None, 0.0, f"read failed: {error}"
                time.sleep(0.05)
            with self._changed:
                self._fault = fault
                if good is not None and not fault:
                    self._newest = (good, taken_s)
                    self._frames += 1
                if fault:
                    self._count(fault.split(":")[0])
                self._changed.notify_all()
            before = frame

    def _judge(self, frame: np.ndarray, before: np.ndarray | None, taken_s: float) -> str:
        wanted = self._raw_shape
        if frame.shape != wanted or frame.dtype != np.uint8:
            return f"wrong size: {frame.dtype} {frame.shape} came, uint8 {wanted} was declared"
        sample = frame[::7, ::7]
        if sample.mean() < _BLACK_MEAN and sample.std() < _BLACK_SPREAD:
            return "black: no light reaches the sensor, or its cap is on"
        if before is None or not np.array_equal(frame, before):
            self._same_since = taken_s
        elif self._frozen_s is not None and taken_s - self._same_since > self._frozen_s:
            return f"frozen: the same picture for {taken_s - self._same_since:.1f} s"
        return ""

    def _count(self, kind: str) -> None:
        self._faults[kind] = self._faults.get(kind, 0) + 1


class OpenCvSource:
    """Any camera that Video4Linux knows."""

    def __init__(self, device: str, width: int, height: int, rate_hz: float) -> None:
        try:
            import cv2  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ArmError(f"camera v4l:{device} needs OpenCV: pip install 'forearm[camera]'") from error
        self._cv2 = cv2
        self._device: Any = cv2.VideoCapture(int(device) if device.isdigit() else device)
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, rate_hz),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            self._device.set(setting, value)
        if not self._device.isOpened():
            raise ArmError(
                f"camera v4l:{device} does not open; `v4l2-ctl --list-devices` shows those there are"
            )

    def read(self) -> tuple[np.ndarray, float]:
        good, frame = self._device.read()
        if not good:
            raise CameraFault("no frame came")
        return self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB), time.monotonic()

    def close(self) -> None:
        self._device.release()


class RealSenseSource:
    """An Intel RealSense's colour stream."""

    def __init__(self, serial: str, width: int, height: int, rate_hz: float) -> None:
        try:
            import pyrealsense2 as rs  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ArmError(f"camera realsense:{serial} needs: pip install pyrealsense2") from error
        self._pipeline: Any = rs.pipeline()
        config = rs.config()
        if serial:
            config.enable_device(serial)
        config.enable_stream(rs.stream.color, width, height, rs.format.rgb8, round(rate_hz))
        self._pipeline.start(config)

    def read(self) -> tuple[np.ndarray, float]:
        frame = self._pipeline.wait_for_frames(1000).get_color_frame()
        return np.array(frame.get_data()), time.monotonic()

    def close(self) -> None:
        self._pipeline.stop()


class ZedSource:
    """A ZED's left eye; its Python package comes with Stereolabs' SDK."""

    def __init__(self, serial: str, width: int, height: int, rate_hz: float) -> None:
        try:
            import pyzed.sl as sl  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ArmError(f"camera zed:{serial} needs pyzed, which Stereolabs' SDK installs") from error
        self._sl: Any = sl
        self._camera, self._image = sl.Camera(), sl.Mat()
        settings = sl.InitParameters()
        sizes = {(2208, 1242): "HD2K", (1920, 1080): "HD1080", (1280, 720): "HD720", (672, 376): "VGA"}
        if (width, height) not in sizes:
            raise ArmError(f"a ZED has the sizes {sorted(sizes)}, not {(width, height)}")
        settings.camera_resolution = getattr(sl.RESOLUTION, sizes[width, height])
        settings.camera_fps, settings.depth_mode = round(rate_hz), sl.DEPTH_MODE.NONE
        if serial:
            settings.set_from_serial_number(int(serial))
        status = self._camera.open(settings)
        if status != sl.ERROR_CODE.SUCCESS:
            raise ArmError(f"camera zed:{serial} does not open: {status}")

    def read(self) -> tuple[np.ndarray, float]:
        status = self._camera.grab()
        if status != self._sl.ERROR_CODE.SUCCESS:
            raise CameraFault(str(status))
        self._camera.retrieve_image(self._image, self._sl.VIEW.LEFT)
        return np.ascontiguousarray(self._image.get_data()[:, :, 2::-1]), time.monotonic()

    def close(self) -> None:
        self._camera.close()


class VideoSource:
    """A recording in a camera's place, at its own rate, again and again."""

    def __init__(self, path: Path, rate_hz: float | None = None) -> None:
        import av

        if not path.is_file():
            raise ArmError(f"no video {path}")
        self._av, self._path = av, path
        self._due: float | None = None  # its time begins with its first frame
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            self._period = 1.0 / (rate_hz or float(stream.average_rate or 15))
            self.width, self.height = stream.width, stream.height
        self._frames = self._decode()

    def read(self) -> tuple[np.ndarray, float]:
        frame = next(self._frames)
        due = time.monotonic() if self._due is None else self._due
        time.sleep(max(0.0, due - time.monotonic()))
        self._due = max(due + self._period, time.monotonic() - self._period)
        return frame, time.monotonic()

    def _decode(self) -> Any:
        while True:
            with self._av.open(str(self._path)) as file:
                for frame in file.decode(video=0):
                    yield frame.to_ndarray(format="rgb24")

    def close(self) -> None:
        self._frames.close()


def _fake_source(host: str, name: str, size: int) -> FrameSource:
    from ..fake_fci.doors import Visitor
    from ..fake_fci.twin import TwinSource

    return TwinSource(Visitor(host or "127.0.0.1"), name, size)


def open_camera(
    address: str,
    *,
    name: str,
    width: int = 1280,
    height: int = 720,
    rate_hz: float = 30.0,
    moving: bool = False,
    size: int | None = None,
    crop: str = "square",
) -> WatchedCamera:
    """Open v4l:DEVICE, realsense:SERIAL, zed:SERIAL, video:PATH or fake:HOST and watch it.

    `size`: crop and scale every frame to the model's square of so many pixels.
    """
    kind, _, where = address.partition(":")
    makers: dict[str, Callable[[], FrameSource]] = {
        "v4l": lambda: OpenCvSource(where or "0", width, height, rate_hz),
        "realsense": lambda: RealSenseSource(where, width, height, rate_hz),
        "zed": lambda: ZedSource(where, width, height, rate_hz),
        "video": lambda: VideoSource(Path(where)),
        "fake": lambda: _fake_source(where, name, size or height),
    }
    if kind not in makers:
        raise ArmError(f"camera {address!r}: there are {', '.join(f'{k}:...' for k in makers)}")
    source = makers[kind]()
    if isinstance(source, VideoSource):
        width, height = source.width, source.height
    elif kind == "fake":
        width = height = size or height
    info = Camera(name=name, width=size or width, height=size or height, moving=moving)

    def prepare(frame: np.ndarray) -> np.ndarray:
        return frame if size is None else np.asarray(fit_frames(frame[None], size=size, crop=crop))[0]

    frozen_s = None if kind == "video" else 0.5
    return WatchedCamera(source, info, prepare=prepare, frozen_s=frozen_s, raw_shape=(height, width))
