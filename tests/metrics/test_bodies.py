"""Pose error and identity colour error, on puppets whose joints are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from unianimate.data import Puppet
from unianimate.metrics import (
    evaluate_videos,
    identity_color_error,
    keypoint_error,
    keypoints_missed,
    pose_error,
)
from unianimate.pose import PoseSequence

SIZE = (128, 96)


@pytest.fixture(scope="module")
def puppets():
    """True video, its poses, the photo repeated, and the same person in another motion."""
    made = []
    for index in range(4):
        puppet = Puppet(index, held_out=True)
        truth, poses = puppet.render(range(0, 16, 3), *SIZE)
        photo, _ = puppet.reference(*SIZE)
        other, _ = puppet.render(range(0, 16, 3), *SIZE, motion=index + 50)
        made.append((truth, poses, np.repeat(photo[None], len(truth), axis=0), other))
    return made


def mean(metric, videos):
    return np.mean([metric(made, truth, poses).mean() for made, truth, poses in videos])


def test_the_true_video_has_no_pose_error(puppets):
    for truth, poses, _, _ in puppets:
        assert pose_error(truth, truth, poses).tolist() == [0] * len(truth)
        assert identity_color_error(truth, truth, poses).tolist() == [0] * len(truth)


@pytest.mark.parametrize("pixels", [1, 2, 4, 8])
def test_a_shifted_video_is_wrong_by_the_shift(puppets, pixels):
    shifted = [(np.roll(truth, pixels, axis=2), truth, poses) for truth, poses, *_ in puppets]
    assert mean(pose_error, shifted) == pytest.approx(pixels, rel=0.05)


def test_blur_noise_and_tint_cost_little_and_wrong_poses_much(puppets):
    random = np.random.default_rng(0)
    wrong = {"noise": [], "tint": [], "blur": [], "copy": [], "other motion": []}
    for truth, poses, copy, other in puppets:
        noisy = np.clip(truth + random.normal(0, 15, truth.shape), 0, 255).astype(np.uint8)
        tinted = np.clip(truth + np.array([20, 0, -20]), 0, 255).astype(np.uint8)
        blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in truth])
        for name, made in zip(wrong, (noisy, tinted, blurred, copy, other)):
            wrong[name].append((made, truth, poses))
    error = {name: mean(pose_error, videos) for name, videos in wrong.items()}
    assert max(error["noise"], error["tint"]) < 0.3
    assert error["blur"] < 2
    assert min(error["copy"], error["other motion"]) > 2 * error["blur"]
    assert min(error["copy"], error["other motion"]) > 4


def test_the_copy_is_beaten_by_half_the_way_to_the_truth(puppets):
    """A video whose frames lag the truth by one is nearer than the photo."""
    for metric in (pose_error, identity_color_error):
        late = [(truth[:-1], truth[1:], poses[1:]) for truth, poses, *_ in puppets]
        copies = [(copy, truth, poses) for truth, poses, copy, _ in puppets]
        assert 0 < mean(metric, late) < 0.8 * mean(metric, copies)


def test_pose_error_of_a_square_is_its_displacement():
    """One joint on a square before noise: distances computed by hand, and no way beyond."""
    frame = np.random.default_rng(0).integers(90, 110, (64, 64, 3)).astype(np.uint8)

    def square(x, y):
        drawn = frame.copy()
        drawn[y - 2 : y + 3, x - 2 : x + 3] = (250, 30, 30)
        return drawn[None]

    poses = one_joint(32.5 / 64, 32.5 / 64)
    assert pose_error(square(35, 36), square(32, 32), poses)[0] == pytest.approx(5)
    assert pose_error(square(32, 25), square(32, 32), poses)[0] == pytest.approx(7)
    assert pose_error(square(60, 60), square(32, 32), poses)[0] <= 8


def test_identity_colour_error_is_delta_e():
    red, green = ([[[255, 0, 0]]], [[[0, 255, 0]]])
    made = np.zeros((2, 32, 32, 3), np.uint8) + np.array(red, np.uint8)
    real = np.zeros((2, 32, 32, 3), np.uint8) + np.array(green, np.uint8)
    # CIELAB of sRGB's red and green for D65: (53.24, 80.09, 67.20), (87.73, -86.18, 83.18)
    expected = np.linalg.norm([53.24 - 87.73, 80.09 + 86.18, 67.20 - 83.18])
    got = identity_color_error(made, real, one_joint(0.5, 0.5, frames=2))
    np.testing.assert_allclose(got, expected, rtol=2e-3)


def test_frames_without_a_visible_joint_are_nan():
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    for poses in (one_joint(1.2, 0.5), replace(one_joint(0.5, 0.5), visible=np.zeros((1, 20)))):
        assert np.isnan(pose_error(frames, frames, poses)).all()
        assert np.isnan(identity_color_error(frames, frames, poses)).all()


def test_key_points_found_against_those_wanted():
    wanted, found = one_joint(0.5, 0.25), one_joint(0.6, 0.5)
    assert keypoint_error(found, wanted)[0] == pytest.approx(np.hypot(6.4, 16))
    assert keypoint_error(found, wanted, (32, 32))[0] == pytest.approx(np.hypot(3.2, 8))
    assert keypoints_missed(found, wanted)[0] == 0
    nothing = replace(found, visible=np.zeros((1, 20)))
    assert np.isnan(keypoint_error(nothing, wanted)[0])
    assert keypoints_missed(nothing, wanted)[0] == 1


def test_frames_without_a_person_miss_no_key_points():
    """They count in no mean: half of the points are missed in the one frame that has some."""
    wanted = one_joint(0.5, 0.25, frames=2)
    wanted.bodies[:, 1] = 0.4
    wanted.visible[:, 1] = True
    wanted.visible[1] = False
    found = one_joint(0.5, 0.25, frames=2)
    np.testing.assert_array_equal(keypoints_missed(found, wanted), [0.5, np.nan])
    still = np.zeros((2, 32, 32, 3), np.uint8)
    done = evaluate_videos([still], [still], poses=[wanted], found=[found])
    assert (done["keypoints_missed"].mean, done["keypoints_missed"].count) == (0.5, 1)
    empty = replace(wanted, visible=np.zeros((2, 20), dtype=bool))
    done = evaluate_videos([still], [still], poses=[empty], found=[found])
    assert "or show no joint" in done.missing["keypoints_missed"]


@pytest.mark.parametrize("metric", [pose_error, identity_color_error])
def test_a_pose_is_wanted_for_every_frame(metric):
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="a pose for each of 2 frames, got 1"):
        metric(frames, frames, one_joint(0.5, 0.5))
    with pytest.raises(ValueError, match="each of 1 frames, got 2"):
        keypoint_error(one_joint(0.5, 0.5, frames=2), one_joint(0.5, 0.5))


def one_joint(x, y, frames=1):
    bodies = np.full((frames, 20, 2), -1.0)
    bodies[:, 0] = x, y
    return PoseSequence(
        bodies=bodies,
        visible=bodies[..., 0] != -1,
        hands=np.full((frames, 2, 21, 2), -1.0),
        faces=np.full((frames, 68, 2), -1.0),
        width=64,
        height=64,
    )
