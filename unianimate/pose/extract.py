"""`DWPose`: key points of the person in a video, by two local ONNX networks."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .detector import decode_people, letterbox, overlap
from .keypoints import crop, crop_of, decode_points, to_pose
from .sequence import PoseSequence

Frame = NDArray[np.uint8]
Box = NDArray[np.float64]

DETECTOR_FILE = "yolox_l.onnx"
KEYPOINTS_FILE = "dw-ll_ucoco_384.onnx"
_SOURCE = "https://huggingface.co/yzd-v/DWPose"
# a person who overlaps the last box less than this has been lost
_MIN_TRACK_OVERLAP = 0.1


def default_folder() -> Path:
    """Return where the two networks are looked for: ``$XDG_DATA_HOME/unianimate/pose``."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "unianimate" / "pose"


class DWPose:
    """Find the key points of one person in every frame.

    At first the most certain person is chosen, afterwards the one who overlaps the last box most,
    so that the identity does not jump when two people are seen. A frame in which nobody is detected
    is searched as a whole, and the last box is kept. (DWPose, arXiv 2307.15880.)

    Args:
        detector: path of ``yolox_l.onnx``; None looks in `default_folder`.
        keypoints: path of ``dw-ll_ucoco_384.onnx``; likewise.
        provider: "cpu" or "cuda".
        batch_size: frames the key-point network sees at once, where its file allows it.

    Raises:
        FileNotFoundError: a network is not there, with where to get it and where to put it.
        ImportError: onnxruntime is not installed.
        ValueError: a file that onnxruntime cannot load, or a provider it does not have.
    """

    def __init__(
        self,
        detector: str | Path | None = None,
        keypoints: str | Path | None = None,
        *,
        provider: Literal["cpu", "cuda"] = "cpu",
        batch_size: int = 8,
    ) -> None:
        paths = [
            Path(given) if given is not None else default_folder() / name
            for given, name in ((detector, DETECTOR_FILE), (keypoints, KEYPOINTS_FILE))
        ]
        absent = [str(path) for path in paths if not path.is_file()]
        if absent:
            raise FileNotFoundError(
                f"pose extraction needs {DETECTOR_FILE} and {KEYPOINTS_FILE}, and there is no "
                f"{' and no '.join(absent)}: get both from {_SOURCE} and put them into "
                f"{default_folder()}, or name their paths"
            )
        self._detector, self._keypoints = (_session(path, provider) for path in paths)
        free = not isinstance(self._keypoints.get_inputs()[0].shape[0], int)
        self._batch_size = batch_size if free else 1

    def __call__(self, frames: Iterable[Frame], *, fps: float = 0.0) -> PoseSequence:
        """Return the poses of RGB uint8 frames (H, W, 3), which are read one batch at a time.

        Raises:
            ValueError: no frames, or frames of different sizes.
        """
        poses = []
        size = None
        for (height, width), frame_pose in self.stream(frames):
            if size not in (None, (height, width)):
                raise ValueError(f"pose extraction: the frames change size at frame {len(poses)}")
            size = (height, width)
            poses.append(frame_pose)
        if size is None:
            raise ValueError("pose extraction: there are no frames")
        bodies, visible, hands, faces, scores = (np.stack(part) for part in zip(*poses))
        return PoseSequence(bodies, visible, hands, faces, size[1], size[0], fps, scores)

    def stream(self, frames: Iterable[Frame]) -> Iterator[tuple[tuple[int, int], tuple[Any, ...]]]:
        """Yield (height, width) and the arrays of `to_pose` frame by frame, at constant memory."""
        rows = iter(frames)
        last: Box | None = None
        while batch := list(islice(rows, self._batch_size)):
            crops, regions = [], []
            for frame in batch:
                image = np.ascontiguousarray(frame[:, :, ::-1])
                found = self._person(image, last)
                last = last if found is None else found
                whole = np.array([0.0, 0.0, image.shape[1], image.shape[0]])
                region = crop_of(whole if found is None else found)
                regions.append(region)
                crops.append(crop(image, *region).astype(np.float32))
            x, y = self._keypoints.run(
                None, {self._keypoints.get_inputs()[0].name: np.stack(crops)}
            )
            for frame, region, over_x, over_y in zip(batch, regions, x, y):
                points, scores = decode_points(over_x, over_y, *region)
                height, width = frame.shape[:2]
                yield (height, width), to_pose(points, scores, width, height)

    def _person(self, image: Frame, last: Box | None) -> Box | None:
        """Return the box of the person followed so far, or of the most certain one."""
        square, factor = letterbox(image)
        name = self._detector.get_inputs()[0].name
        output = self._detector.run(None, {name: square[None]})[0][0]
        boxes, _ = decode_people(output, factor)
        if not len(boxes):
            return None
        if last is not None:
            shared = [overlap(last, box) for box in boxes]
            best = int(np.argmax(shared))
            if shared[best] >= _MIN_TRACK_OVERLAP:
                return np.asarray(boxes[best])
        return np.asarray(boxes[0])


def _session(path: Path, provider: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "pose extraction needs onnxruntime: `pip install 'unianimate[pose]'`"
        ) from error
    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    wanted = providers.get(provider)
    if wanted not in onnxruntime.get_available_providers():
        raise ValueError(
            f"pose extraction: onnxruntime has no provider {provider!r} here; use 'cpu', or "
            f"install onnxruntime-gpu for 'cuda'"
        )
    try:
        return onnxruntime.InferenceSession(str(path), providers=[wanted])
    except Exception as error:  # onnxruntime's own exceptions share no public base
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: onnxruntime cannot load it ({first}); get it again") from error
