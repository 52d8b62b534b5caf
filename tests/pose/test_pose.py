import contextlib
from dataclasses import replace

import numpy as np
import pytest
from golden import GOLDEN, load_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unianimate.pose import PoseSequence, align_pose, draw_pose


def golden_pose(prefix: str, tensors: dict, size: tuple[int, int] = (512, 768)) -> PoseSequence:
    part = {name: tensors[f"{prefix}.{name}"].numpy() for name in ("candidate", "hands", "faces")}
    return PoseSequence(
        bodies=part["candidate"][None],
        visible=tensors[f"{prefix}.subset"].numpy() >= 0,
        hands=part["hands"][None],
        faces=part["faces"],
        width=size[0],
        height=size[1],
    )


def golden_clip(case: str, kind: str, tensors: dict) -> PoseSequence:
    frames = [k for k in tensors if k.startswith(f"{case}.{kind}") and k.endswith("candidate")]
    return join([golden_pose(f"{case}.{kind}{i}", tensors) for i in range(len(frames))])


def join(poses: list[PoseSequence]) -> PoseSequence:
    names = ("bodies", "visible", "hands", "faces")
    return replace(poses[0], **{n: np.concatenate([getattr(p, n) for p in poses]) for n in names})


def random_pose(frames: int, seed: int = 0, size: tuple[int, int] = (512, 768)) -> PoseSequence:
    random = np.random.default_rng(seed)
    return PoseSequence(
        bodies=random.uniform(0.1, 0.9, (frames, 20, 2)),
        visible=random.random((frames, 20)) < 0.9,
        hands=random.uniform(0.1, 0.9, (frames, 2, 21, 2)),
        faces=random.uniform(0.1, 0.9, (frames, 68, 2)),
        width=size[0],
        height=size[1],
        fps=25,
        scores=random.random((frames, 20)),
    )


def golden_picture(name: str) -> np.ndarray:
    return np.asarray(Image.open(GOLDEN / f"{name}.png").convert("RGB"))


@pytest.mark.parametrize(
    ("name", "options"),
    [("body", {"hands": False}), ("noface", {}), ("face", {"face": True})],
)
def test_drawing_equals_the_official_pixels(name, options):
    pose = golden_pose("pose", load_golden("pose_draw")[0])
    np.testing.assert_array_equal(
        draw_pose(pose, **options)[0], golden_picture(f"draw_768x512_{name}")
    )


def test_alignment_equals_the_official_numbers_where_all_points_are_seen():
    tensors = load_golden("pose_align")[0]
    aligned = align_pose(golden_clip("full", "in", tensors), golden_pose("full.ref", tensors))
    wanted = golden_clip("full", "out", tensors)
    for name in ("bodies", "hands", "faces"):
        np.testing.assert_allclose(getattr(aligned, name), getattr(wanted, name), atol=1e-9, rtol=0)
    np.testing.assert_array_equal(draw_pose(aligned)[0], golden_picture("align_full_0000"))
    np.testing.assert_array_equal(draw_pose(aligned)[3], golden_picture("align_full_0003"))


def test_visible_points_equal_the_official_ones_where_others_are_missing_later():
    tensors = load_golden("pose_align")[0]
    driving = golden_clip("missing_later", "in", tensors)
    aligned = align_pose(driving, golden_pose("missing_later.ref", tensors))
    wanted = golden_clip("missing_later", "out", tensors)
    seen = aligned.visible & wanted.visible
    # the official toe moves with a missing ankle, as if that were a point at (-1, -1)
    ankle_missing = (driving.bodies[:, 13] == -1).all(axis=-1)
    assert ankle_missing.tolist() == [False, False, True]
    seen[ankle_missing, 18] = False
    assert seen.sum() > 40
    np.testing.assert_allclose(aligned.bodies[seen], wanted.bodies[seen], atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", ["missing_first", "missing_later", "upper_body", "degenerate"])
def test_missing_points_stay_missing_and_nothing_explodes(case):
    tensors = load_golden("pose_align")[0]
    driving = golden_clip(case, "in", tensors)
    aligned = align_pose(driving, golden_pose(f"{case}.ref", tensors))
    for name in ("bodies", "hands", "faces"):
        before, after = getattr(driving, name), getattr(aligned, name)
        missing = (before == -1).all(axis=-1)
        assert (after[missing] == -1).all()
        assert np.abs(after).max() < 5
    assert draw_pose(aligned).any()


def test_aligning_to_itself_changes_nothing():
    pose = random_pose(3)
    aligned = align_pose(pose, pose)
    np.testing.assert_allclose(aligned.bodies, pose.bodies, atol=1e-12)
    assert aligned.fps == pose.fps


@pytest.mark.parametrize(
    ("unseen_at_first", "never_seen"),
    [
        (range(20), []),
        ([1, 2, 3, 5, 8], []),  # one arm walks in before the neck
        (range(20), [1, 2, 5]),
    ],
)
def test_a_video_may_begin_before_the_person_is_seen(unseen_at_first, never_seen):
    driving, reference = random_pose(4, seed=1), random_pose(1, seed=2)
    driving.bodies[0, unseen_at_first] = -1
    driving.bodies[:, never_seen] = -1
    aligned, wanted = align_pose(driving, reference), align_pose(driving[1:], reference)
    np.testing.assert_array_equal(aligned.bodies[1:], wanted.bodies)
    np.testing.assert_array_equal(aligned.hands[1:], wanted.hands)


def test_limbs_take_the_length_of_the_reference():
    driving, reference = random_pose(4, seed=1), random_pose(1, seed=2)
    aligned = align_pose(driving, reference)
    for parent, child in ((2, 3), (3, 4), (5, 6), (8, 9), (9, 10), (12, 13), (1, 0)):
        length = np.linalg.norm(aligned.bodies[0, parent] - aligned.bodies[0, child])
        wanted = np.linalg.norm(reference.bodies[0, parent] - reference.bodies[0, child])
        assert length == pytest.approx(wanted, abs=1e-12)


@given(seed=st.integers(0, 10**6), dropped=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_any_missing_points_give_finite_poses(seed, dropped):
    random = np.random.default_rng(seed)
    driving, reference = random_pose(3, seed), random_pose(1, seed + 1, (300, 700))
    for pose in (driving, reference):
        for _ in range(dropped):
            pose.bodies[random.integers(len(pose)), random.integers(20)] = -1
    aligned = align_pose(driving, reference)
    assert np.isfinite(aligned.bodies).all()
    assert draw_pose(aligned, 96, 64).shape == (3, 96, 64, 3)


def test_points_far_outside_do_not_break_the_drawing():
    pose = random_pose(1)
    pose.bodies[0, 4], pose.hands[0, 0, 0], pose.faces[0, 0] = 1e12, 1e12, -1e12
    assert draw_pose(pose, face=True).shape == (1, 768, 512, 3)


@pytest.mark.parametrize("scores", [True, False])
def test_a_file_gives_back_what_was_saved(tmp_path, scores):
    pose = random_pose(5) if scores else replace(random_pose(5), scores=None)
    pose.save(tmp_path / "pose.npz")
    loaded = PoseSequence.load(tmp_path / "pose.npz")
    for name in ("bodies", "visible", "hands", "faces", "scores"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(pose, name))
    assert (loaded.width, loaded.height, loaded.fps) == (512, 768, 25)
    assert [path.name for path in tmp_path.iterdir()] == ["pose.npz"]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    for name in ("none/pose.npz", "file/pose.npz", "folder.npz"):
        with pytest.raises(OSError) as caught:
            random_pose(1).save(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.npz"}


def test_slicing_keeps_time():
    pose = random_pose(6)
    assert len(pose[2:4]) == 2
    assert pose[::2].fps == 12.5
    with pytest.raises(TypeError, match="index with a slice"):
        pose[3]


def broken(**changes):
    pose = random_pose(2)
    names = ("bodies", "visible", "hands", "faces", "width", "height", "fps")
    return {**{name: getattr(pose, name) for name in names}, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bodies": np.zeros((0, 20, 2))}, "there are no frames"),
        ({"bodies": np.zeros((2, 18, 2))}, r"bodies must have shape \(2, 20, 2\), got"),
        ({"bodies": np.full((2, 20, 2), np.nan)}, "bodies has NaN"),
        ({"hands": np.zeros((3, 2, 21, 2))}, r"hands must have shape \(2, 2, 21, 2\)"),
        ({"width": 0}, "width and height must be pixels, got 0 x 768"),
        ({"fps": -1.0}, "fps must be 0 or more"),
    ],
)
def test_bad_poses_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PoseSequence(**broken(**changes))


def test_files_that_are_no_poses_are_refused_with_their_path(tmp_path):
    path = tmp_path / "pose.npz"
    for content in (b"", b"PK\x03\x04 cut", b"not a zip"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"pose\.npz: not a pose file"):
            PoseSequence.load(path)
    PoseSequence(**broken()).save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
        with contextlib.suppress(ValueError):
            PoseSequence.load(path)
    np.savez(path, bodies=np.zeros((1, 20, 2)))
    with pytest.raises(ValueError, match="it lacks visible, hands, faces, width, height"):
        PoseSequence.load(path)
    np.savez(path, **broken(bodies=np.array([{"a": 1}], dtype=object)))
    with pytest.raises(ValueError, match="not a pose file"):
        PoseSequence.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="it holds one array"):
        PoseSequence.load(path)
    with pytest.raises(FileNotFoundError):
        PoseSequence.load(tmp_path / "none.npz")
