"""Pose error: where the body is, against where it should be, without a trained detector."""

import numpy as np
from numpy.typing import ArrayLike

from unianimate.pose import PoseSequence

from ._frames import Array, Bytes, expect_pair, to_bytes
from ._joints import Pixels, expect_poses, pixels_inside, visible_points

# of the frame's height
_PATCH, _SEARCH = 1 / 32, 1 / 8
# what a displacement of the whole search radius costs, in squared grey levels: enough to decide
# between places that look alike, a hundredth of what skin costs on another background
_PRIOR = 10.0**2


def pose_error(generated: ArrayLike, truth: ArrayLike, poses: PoseSequence) -> Array:
    """Return how far the joints of every frame (F,) are from their true places, in pixels.

    No detector is needed: the joints of the true video are known (exactly, for puppets). The
    patch of the true frame around each joint is looked for in the generated frame, no further
    than an eighth of the height away; the joint is where

        mean squared colour difference + 100 (distance / search radius)^2

    is least, so that among places that look alike the nearest counts. The result is the mean
    distance over the visible joints inside the frame.

    This is an estimate. It is zero for the true video; it grows with displacement up to about the
    search radius; a limb that is not there, or far away, counts as its best look-alike, on average
    about half the radius. It cannot see a displacement along a limb of one colour.

    Args:
        generated: (F, H, W, 3), uint8 or float in [0, 1].
        truth: likewise, of the same shape.
        poses: F poses in the true video.

    Returns:
        (F,); NaN where no joint is visible.

    Raises:
        ValueError: shapes that differ, or another number of poses than of frames.
    """
    made, real = expect_pair(generated, truth)
    expect_poses(len(poses), len(real), "pose_error")
    height, width = real.shape[1:3]
    joints = pixels_inside(poses.bodies, visible_points(poses), height, width)
    patch, search = max(2, round(height * _PATCH)), max(2, round(height * _SEARCH))
    return np.array(
        [
            _mean([_displacement(a, b, joint, patch, search) for joint in frame])
            for a, b, frame in zip(map(to_bytes, made), map(to_bytes, real), joints)
        ]
    )


def keypoint_error(
    found: PoseSequence, wanted: PoseSequence, size: tuple[int, int] | None = None
) -> Array:
    """Return the mean distance (F,) of body points visible in both, in pixels.

    For poses that a detector found in the generated video. NaN where no point is in both:
    see `keypoints_missed`.

    Args:
        found: F poses.
        wanted: F poses.
        size: (width, height) of the frames whose pixels count; those of ``wanted`` by default.

    Raises:
        ValueError: different numbers of frames.
    """
    expect_poses(len(found), len(wanted), "keypoint_error")
    both = visible_points(found) & visible_points(wanted)
    pixels = size or (wanted.width, wanted.height)
    distances = np.linalg.norm((found.bodies - wanted.bodies) * pixels, axis=-1)
    return np.array([_mean(list(row[seen])) for row, seen in zip(distances, both)])


def keypoints_missed(found: PoseSequence, wanted: PoseSequence) -> Array:
    """Return the share (F,) of the body points visible in ``wanted`` that were not found.

    NaN where ``wanted`` shows no point, as in frames without a person.

    Raises:
        ValueError: different numbers of frames.
    """
    expect_poses(len(found), len(wanted), "keypoints_missed")
    there, missed = visible_points(wanted), ~visible_points(found)
    return np.array([_mean(list(row[seen])) for row, seen in zip(missed, there)])


def _displacement(made: Bytes, real: Bytes, joint: Pixels, patch: int, search: int) -> float:
    """Return the distance in pixels from a joint to its patch's best place."""
    import cv2

    template = _cut(real, joint, patch)
    region = _cut(made, joint, patch + search)
    differences = cv2.matchTemplate(region, template, cv2.TM_SQDIFF) / template.size
    steps = np.arange(-search, search + 1)
    distances = np.hypot(steps[:, None], steps)
    # the transform that makes it fast leaves rounding errors about a perfect match
    costs = np.rint(differences) + _PRIOR * (distances / search) ** 2
    return float(distances.ravel()[np.where(distances <= search, costs, np.inf).argmin()])


def _cut(frame: Bytes, joint: Pixels, radius: int) -> Bytes:
    """Return the square around a joint; beyond the border, the border's pixels again."""
    rows, columns = (
        np.clip(np.arange(at - radius, at + radius + 1), 0, size - 1)
        for at, size in zip(joint[::-1], frame.shape)
    )
    return np.asarray(frame[rows[:, None], columns])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
