import subprocess
import sys
import time

import numpy as np
import pytest

from unianimate.data import Puppet, puppet_gallery
from unianimate.data.puppets.figure import figure_parts
from unianimate.data.puppets.motion import KINDS
from unianimate.data.puppets.skeleton import build_skeleton
from unianimate.pose import PoseSequence, align_pose, draw_pose
from unianimate.pose.sequence import (
    LEFT_ANKLE,
    LEFT_EAR,
    LEFT_ELBOW,
    LEFT_HIP,
    LEFT_KNEE,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NECK,
    NOSE,
    RIGHT_EAR,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)

H, W = 128, 96


def puppet_of(kind: str, start: int = 0) -> Puppet:
    return next(p for p in map(Puppet, range(start, start + 100)) if p.motion().kind == kind)


def same(first: PoseSequence, second: PoseSequence) -> bool:
    names = ("bodies", "visible", "hands", "faces", "scores")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


@pytest.mark.parametrize("held_out", [False, True])
def test_an_index_is_the_same_puppet_every_time(held_out):
    (video, poses), (again, poses_again) = (
        Puppet(11, held_out=held_out).render(3, H, W) for _ in range(2)
    )
    assert video.shape == (3, H, W, 3) and video.dtype == np.uint8
    assert np.array_equal(video, again) and same(poses, poses_again)


def test_an_index_is_the_same_puppet_in_another_process():
    code = (
        "from unianimate.data import Puppet; import zlib;"
        "print(zlib.crc32(Puppet(5).render([7], 64, 48)[0].tobytes()))"
    )
    seen = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert seen[0].stdout == seen[1].stdout


def test_training_and_held_out_puppets_share_nothing():
    train = [Puppet(i) for i in range(40)]
    held_out = [Puppet(i, held_out=True) for i in range(40)]
    everyone = train + held_out
    assert len({repr(p.identity) for p in everyone}) == 80
    assert len({repr(p.background) for p in everyone}) == 80
    assert len({p.motion().keys.swing.tobytes() for p in everyone}) == 80
    motion = held_out[0].motion(3)
    assert np.array_equal(motion.keys.swing, held_out[3].motion().keys.swing)


def test_indices_have_no_upper_limit():
    video, _ = Puppet(2**70).render(1, 32, 24)
    assert video.std() > 5
    assert {Puppet(i).motion().kind for i in range(60)} == set(KINDS)


@pytest.mark.parametrize("index", [0, 5, 8, 14])
def test_single_frames_equal_those_of_the_whole_video(index):
    puppet = Puppet(index)
    video, poses = puppet.render(24, H, W)
    for frame in (23, 0, 9):
        picture, pose = puppet.render([frame], H, W)
        assert np.array_equal(picture[0], video[frame])
        assert same(pose, poses[frame : frame + 1])
    backwards, poses_back = puppet.render(range(20, 3, -4), H, W)
    assert np.array_equal(backwards, video[20:3:-4])
    assert poses_back.fps == poses[20:3:-4].fps == 2
    assert same(poses_back, puppet.poses(range(20, 3, -4), H, W))


def test_another_motion_moves_the_same_person():
    first, other = (Puppet(4).poses(2, H, W, motion=m) for m in (None, 9))
    assert not np.allclose(first.bodies, other.bodies)
    assert same(first, Puppet(4).poses(2, H, W, motion=4))


@pytest.mark.parametrize("index", range(0, 24, 3))
def test_bones_keep_their_length_in_space_and_never_exceed_it_in_the_picture(index):
    puppet = Puppet(index)
    seconds = np.arange(40) / 8
    skeleton = build_skeleton(puppet.identity.body, puppet.motion().at(seconds))
    body = puppet.identity.body
    bones = {
        (LEFT_SHOULDER, LEFT_ELBOW): (skeleton.shoulders, skeleton.elbows, body.upper_arm),
        (LEFT_ELBOW, LEFT_WRIST): (skeleton.elbows, skeleton.wrists, body.forearm),
        (LEFT_HIP, LEFT_KNEE): (skeleton.hips, skeleton.knees, body.thigh),
        (LEFT_KNEE, LEFT_ANKLE): (skeleton.knees, skeleton.ankles, body.shin),
        (NECK, LEFT_SHOULDER): (skeleton.neck[:, None], skeleton.shoulders, body.shoulder),
    }
    poses = puppet.poses(40, H, W)
    pixels = poses.bodies * [W, H]
    unit = puppet.camera.at(seconds, H, W).scale
    longest = {}
    for (first, second), (start, end, length) in bones.items():
        in_space = np.linalg.norm(end - start, axis=-1)
        np.testing.assert_allclose(in_space, length, rtol=1e-9)
        seen = np.linalg.norm(pixels[:, first] - pixels[:, second], axis=-1) / unit
        assert (seen <= length * (1 + 1e-9)).all()
        longest[first, second] = (seen / length).max()
    # a bone that always looked short would not be the bone that is drawn
    assert min(longest.values()) > 0.6


def painted_part(puppet: Puppet, frame: int, colour_field: str) -> tuple[np.ndarray, PoseSequence]:
    """Return where one colour of the person shows, against the same person in another colour."""
    pictures = []
    for colour in ((255, 0, 255), (0, 255, 0)):
        changed = Puppet(puppet.index)
        object.__setattr__(changed.identity, colour_field, colour)
        picture, pose = changed.render([frame], 512, 384)
        pictures.append(picture[0].astype(int))
    return np.abs(pictures[0] - pictures[1]).sum(axis=-1) > 150, pose


def at(pose: PoseSequence, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = (points * [pose.width, pose.height]).astype(int)
    return np.clip(pixels[..., 1], 0, pose.height - 1), np.clip(pixels[..., 0], 0, pose.width - 1)


@pytest.mark.parametrize("index", [1, 3, 12, 20, 25])
def test_hands_and_feet_lie_where_the_pose_says(index):
    puppet = Puppet(index)
    for frame in (0, 5):
        skin, pose = painted_part(puppet, frame, "skin")
        # a hand behind the body shows nothing
        shown = [h for h in pose.hands[0] if skin[at(pose, h[[5, 9, 13]])].any()]
        assert shown
        for hand in shown:
            assert skin[at(pose, hand)].mean() > 0.6
    shoes, pose = painted_part(puppet, 0, "shoe")
    assert shoes[at(pose, pose.bodies[0, [18, 19]])].all()


def test_every_joint_lies_on_the_person():
    for index in range(12):
        puppet, videos = Puppet(index), []
        for grey in (0, 255):
            puppet._painted = lambda height, width, grey=grey: np.full(
                (height, width, 3), grey, dtype=np.uint8
            )
            video, pose = puppet.render([0, 5, 11], 512, 384)
            videos.append(video.astype(int))
        # what the background does not shine through
        person = (np.abs(videos[0] - videos[1]) < 40).all(axis=-1)
        for frame, shape in enumerate(person):
            moment = pose[frame : frame + 1]
            # within a pixel: the tip of the nose is the edge of a profile
            near = np.lib.stride_tricks.sliding_window_view(np.pad(shape, 1), (3, 3))
            assert near.any((-1, -2))[at(moment, moment.bodies[0, moment.visible[0]])].all()
            assert shape[at(moment, moment.hands[0])].mean() > 0.9


def test_the_reference_looks_at_the_camera():
    for index in range(20):
        _, pose = Puppet(index).reference(H, W)
        assert len(pose) == 1 and pose.fps == 0 and pose.visible.all()
        assert (pose.faces > -1).all()
        body = pose.bodies[0]
        assert body[RIGHT_SHOULDER, 0] < body[NECK, 0] < body[LEFT_SHOULDER, 0]
        assert body[RIGHT_WRIST, 0] < body[LEFT_WRIST, 0]
        assert ((body > 0.03) & (body < 0.99)).all()


def test_puppets_stay_in_the_picture():
    outside = []
    for index in range(60):
        poses = Puppet(index).poses(32, H, W)
        points = np.concatenate([poses.bodies, poses.hands.reshape(-1, 42, 2)], axis=1)
        assert (points > -0.25).all() and (points < 1.25).all()
        outside.append(((points < 0) | (points > 1)).any(axis=-1).mean())
    assert np.mean(outside) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_motion_is_smooth_and_is_motion(kind):
    puppet = puppet_of(kind)
    accelerations = []
    for fps in (60, 240):
        poses = puppet.poses(6 * fps, H, W, fps=fps)
        points = np.concatenate([poses.bodies, poses.hands.reshape(-1, 42, 2)], axis=1)
        speed = np.diff(points, axis=0) * fps
        accelerations.append(np.abs(np.diff(speed, axis=0) * fps).max())
        # heights of the picture a second
        assert 0.1 < np.abs(speed).max() < 3
    # a jerk would grow with the frame rate
    assert accelerations[0] < 40
    assert accelerations[1] < 1.5 * accelerations[0]


def test_a_turning_puppet_shows_its_back():
    puppet = puppet_of("turn")
    poses = puppet.poses(80, H, W)
    order = np.sign(poses.bodies[:, LEFT_SHOULDER, 0] - poses.bodies[:, RIGHT_SHOULDER, 0])
    assert {-1, 1} <= set(order)
    away = order < 0
    assert poses.visible[~away, NOSE].mean() > 0.8
    assert (~poses.visible[away, NOSE]).mean() > 0.8
    assert (poses.faces[away, 30] == -1).all(axis=-1).mean() > 0.8
    assert (poses.faces[~away, 30] != -1).all(axis=-1).mean() > 0.9
    assert (poses.visible[:, LEFT_EAR] | poses.visible[:, RIGHT_EAR]).all()


def test_the_far_arm_is_behind_the_body_and_the_near_one_before_it():
    puppet = puppet_of("turn")
    seconds = np.arange(120) / 8
    skeleton = build_skeleton(puppet.identity.body, puppet.motion().at(seconds))
    parts = figure_parts(puppet.identity, skeleton, puppet.camera.at(seconds, H, W))
    left, right = parts[0].depth, parts[3].depth
    sideways = np.sin(skeleton.chest_yaw)
    for near, far, turned in ((right, left, sideways > 0.8), (left, right, sideways < -0.8)):
        assert turned.sum() > 5
        assert (near[turned] > 2).all() and (far[turned] < -5).all()


def test_poses_are_drawn_saved_and_aligned(tmp_path):
    puppet, other = Puppet(6), Puppet(6, held_out=True)
    _, poses = puppet.render(4, H, W)
    drawn = draw_pose(poses)
    assert drawn.shape == (4, 768, 512, 3) and (drawn.max(axis=(1, 2, 3)) > 200).all()
    poses.save(tmp_path / "puppet.npz")
    assert same(PoseSequence.load(tmp_path / "puppet.npz"), poses)
    _, reference = other.reference(H, W)
    aligned = align_pose(puppet.reference(H, W)[1], reference)
    np.testing.assert_allclose(aligned.bodies[0, NECK], reference.bodies[0, NECK], atol=1e-9)


def test_the_camera_moves_the_background_a_little():
    puppet = Puppet(2)
    corner = puppet.render([0, 8, 16], H, W)[0][:, :24, :24].astype(int)
    assert (np.abs(np.diff(corner, axis=0)) > 0).any(axis=(1, 2, 3)).all()
    drift = np.ptp(puppet.camera.at(np.arange(400) / 8, H, W).shift, axis=0)
    assert (drift > 0.1).all() and (drift < 0.03 * H).all()


def test_every_size_shows_the_same_scene():
    small, poses = Puppet(9).render([4], H, W)
    large, large_poses = Puppet(9).render([4], 4 * H, 4 * W)
    np.testing.assert_allclose(poses.bodies, large_poses.bodies, atol=1e-12)
    shrunk = large[0].reshape(H, 4, W, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small[0]).mean() < 12
    wide, _ = Puppet(9).render([0], 64, 128)
    assert wide.shape == (1, 64, 128, 3)


def test_gallery():
    picture = puppet_gallery([Puppet(0), Puppet(1)], 2, height=64, width=48)
    assert picture.shape == (2 * 64, 3 * 2 * 48, 3) and picture.dtype == np.uint8
    overlaid = puppet_gallery([Puppet(0)], 2, height=64, width=48, overlay=True)
    assert overlaid.shape == (64, 3 * 48, 3)
    with pytest.raises(ValueError, match="puppet_gallery"):
        puppet_gallery([])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Puppet(-1), "index must be 0 or more, got -1"),
        (lambda: Puppet(0).motion(-2), "index must be 0 or more, got -2"),
        (lambda: Puppet(0).render(0, H, W), "frames must be a count"),
        (lambda: Puppet(0).render([], H, W), "frames must be a count"),
        (lambda: Puppet(0).render([-1], H, W), "frames must be a count"),
        (lambda: Puppet(0).render(1, 0, W), "must be pixels, got 0 x 96"),
        (lambda: Puppet(0).poses(1, H, W, fps=0), "fps must be positive, got 0"),
        (lambda: Puppet(0).reference(H, 0), "must be pixels"),
    ],
)
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.slow
def test_a_core_renders_a_hundred_frames_a_second():
    Puppet(0).render(2, H, W)
    start = time.process_time()
    for index in range(10):
        Puppet(index).render(24, H, W)
    assert 240 / (time.process_time() - start) >= 100
