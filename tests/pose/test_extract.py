import numpy as np
import pytest
from golden import golden_uniform, load_golden
from stand_in import write_networks

from unianimate.pose import PoseSequence
from unianimate.pose.detector import decode_people, letterbox, overlap
from unianimate.pose.extract import DWPose
from unianimate.pose.keypoints import crop, crop_of, decode_points, to_pose
from unianimate.pose.smooth import smooth_pose


def detector_output(tensors: dict) -> np.ndarray:
    raw = np.zeros((8400, 85), dtype=np.float32)
    raw[tensors["yolox.idx"].numpy()] = tensors["yolox.rows"].numpy()
    return raw


def simcc(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    x = golden_uniform(keys[0], (133, 576)).numpy().copy()
    y = golden_uniform(keys[1], (133, 768)).numpy().copy()
    x[7] = -np.abs(x[7]) - np.float32(0.01)
    x[::5] *= np.float32(0.28)
    return x, y


@pytest.mark.parametrize("name", ["pose_onnx", "pose_onnx_nobox"])
def test_pre_and_post_processing_equal_the_official_ones(name):
    tensors, notes = load_golden(name)
    image = tensors["image"].numpy()
    height, width = image.shape[:2]

    square, factor = letterbox(image)
    np.testing.assert_array_equal(square[:, ::8, ::8], tensors["det.input_strided"].numpy())
    boxes, _ = decode_people(detector_output(tensors), factor)
    np.testing.assert_allclose(boxes, tensors["det.boxes"].numpy().reshape(-1, 4), rtol=1e-6)

    boxes = tensors["det.boxes"].numpy().reshape(-1, 4)
    if not len(boxes):
        boxes = np.array([[0.0, 0.0, width, height]])
    for person, box in enumerate(boxes):
        region = crop_of(box)
        cut = crop(image, *region)
        wanted = tensors[f"pose.input{person}_strided"].numpy()
        np.testing.assert_allclose(cut[:, ::6, ::6], wanted, atol=1e-12)
        points, scores = decode_points(*simcc(notes["simcc_keys"][person]), *region)
        np.testing.assert_allclose(points, tensors["wholebody.keypoints"][person], atol=1e-9)
        np.testing.assert_allclose(scores, tensors["wholebody.scores"][person], atol=1e-12)
        if person == 0:
            body, visible, hands, face, _ = to_pose(points, scores, width, height)
            np.testing.assert_allclose(body, tensors["dwpose.candidate"], atol=1e-12)
            np.testing.assert_array_equal(visible, tensors["dwpose.subset"].numpy()[0] >= 0)
            np.testing.assert_allclose(hands, tensors["dwpose.hands"], atol=1e-12)
            np.testing.assert_allclose(face[None], tensors["dwpose.faces"], atol=1e-12)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_pose_of_134_points_equals_the_official_one(case):
    tensors = load_golden("pose_post")[0]
    width, height = (int(v) for v in tensors["wh"].tolist())
    points = tensors[f"case{case}.keypoints"].numpy()[0]
    scores = tensors[f"case{case}.scores"].numpy()[0]
    body, visible, hands, face, _ = to_pose(points, scores, width, height)
    np.testing.assert_allclose(body, tensors[f"case{case}.out.candidate"], atol=1e-12)
    np.testing.assert_array_equal(visible, tensors[f"case{case}.out.subset"].numpy()[0] >= 0)
    np.testing.assert_allclose(hands, tensors[f"case{case}.out.hands"], atol=1e-12)
    np.testing.assert_allclose(face, tensors[f"case{case}.out.faces"].numpy()[0], atol=1e-12)


@pytest.fixture
def networks(tmp_path):
    return write_networks(tmp_path)


def video(centres: list[list[tuple[int, int, int]]]) -> list[np.ndarray]:
    """Dark frames of 640 x 640 with bright discs at (x, y, brightness)."""
    import cv2

    frames = []
    for people in centres:
        frame = np.zeros((640, 640, 3), dtype=np.uint8)
        for x, y, brightness in people:
            cv2.circle(frame, (x, y), 60, (brightness,) * 3, -1)
        frames.append(frame)
    return frames


def extractor(folder, **options) -> DWPose:
    return DWPose(folder / "yolox_l.onnx", folder / "dw-ll_ucoco_384.onnx", **options)


def test_extraction_follows_one_person_through_onnxruntime(networks):
    # a second, brighter person appears far away: the first is kept
    frames = video(
        [[(150, 300, 200)]] + [[(150 + 8 * i, 300, 180), (520, 300, 255)] for i in range(4)]
    )
    pose = extractor(networks, batch_size=3)(frames, fps=16)
    assert (len(pose), pose.width, pose.height, pose.fps) == (5, 640, 640, 16)
    assert pose.bodies[:, 0, 0].max() < 0.5
    assert not pose.visible[:, 7].any()
    assert (pose.bodies[:, 7] == -1).all()
    assert pose.visible[:, 0].all()
    assert pose.scores[:, 0] == pytest.approx(0.8)


def test_a_frame_without_anybody_does_not_change_the_person(networks):
    first, brighter = (150, 300, 180), (520, 300, 255)
    pose = extractor(networks)(video([[first], [], [first, brighter]]))
    np.testing.assert_array_equal(pose.bodies[2], pose.bodies[0])


def test_batches_do_not_change_the_result(networks):
    frames = video([[(150 + 9 * i, 300, 200)] for i in range(5)])
    one, many = (extractor(networks, batch_size=size)(frames) for size in (1, 4))
    np.testing.assert_allclose(one.bodies, many.bodies, atol=1e-12)


def test_nobody_detected_searches_the_whole_picture(networks):
    pose = extractor(networks)(video([[]]))
    assert pose.visible[0, 0]


def test_missing_networks_say_where_to_get_and_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        DWPose()
    places = (
        "yolox_l.onnx",
        "dw-ll_ucoco_384.onnx",
        "huggingface.co/yzd-v/DWPose",
        "unianimate/pose",
    )
    for part in places:
        assert part in str(caught.value)


def test_bad_networks_and_frames_are_refused(networks):
    with pytest.raises(ValueError, match="has no provider 'cuda' here; use 'cpu'"):
        extractor(networks, provider="cuda")
    with pytest.raises(ValueError, match="there are no frames"):
        extractor(networks)([])
    with pytest.raises(ValueError, match="change size at frame 1"):
        extractor(networks)([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)])
    (networks / "yolox_l.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"yolox_l\.onnx: onnxruntime cannot load it"):
        extractor(networks)


def test_overlap_counts_pixels():
    box = np.array([0.0, 0.0, 9.0, 9.0])
    assert overlap(box, box) == 1
    assert overlap(box, box + 100) == 0
    assert overlap(box, box + np.array([0, 5, 0, 5])) == pytest.approx(50 / 150)


def noisy_line(frames: int) -> PoseSequence:
    bodies = np.linspace(0.2, 0.8, frames)[:, None, None] * np.ones((1, 20, 2))
    bodies = bodies + 0.01 * np.random.default_rng(0).standard_normal(bodies.shape)
    bodies[3, 4] = -1
    return PoseSequence(
        bodies=bodies,
        visible=np.ones((frames, 20), dtype=bool),
        hands=np.full((frames, 2, 21, 2), -1.0),
        faces=np.full((frames, 68, 2), -1.0),
        width=100,
        height=100,
    )


def test_smoothing_lowers_jitter_and_keeps_missing_points():
    pose = noisy_line(30)
    smooth = smooth_pose(pose, 2.0)
    jitter = [np.abs(np.diff(p.bodies[5:25, 0], n=2, axis=0)).mean() for p in (pose, smooth)]
    assert jitter[1] < 0.3 * jitter[0]
    assert (smooth.bodies[3, 4] == -1).all()
    assert (smooth.hands == -1).all()
    assert np.abs(smooth.bodies[4, 4] - pose.bodies[4, 0]).max() < 0.05
    assert smooth_pose(pose, 0) is pose
    with pytest.raises(ValueError, match="0 or more"):
        smooth_pose(pose, -1)
