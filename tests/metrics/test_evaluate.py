import numpy as np
import pytest

from unianimate.data import Puppet
from unianimate.metrics import METRICS, evaluate_videos, pose_error, psnr, ssim


@pytest.fixture(scope="module")
def videos():
    rendered = [Puppet(i, held_out=True).render(range(0, 12, 3), 64, 48) for i in range(3)]
    truth = [video for video, _ in rendered]
    copies = [np.repeat(video[:1], len(video), axis=0) for video in truth]
    return copies, truth, [poses for _, poses in rendered]


def test_means_and_intervals_of_three_puppets(videos):
    copies, truth, poses = videos
    done = evaluate_videos(copies, truth, poses=poses)
    values = np.array([psnr(a, b).mean() for a, b in zip(copies, truth)])
    assert done["psnr"].mean == pytest.approx(values.mean())
    assert done["psnr"].per_video == pytest.approx(values)
    assert done["psnr"].count == 12
    low, high = done["psnr"].interval
    assert values.min() <= low < done["psnr"].mean < high <= values.max()
    assert done["ssim"].mean == pytest.approx(np.mean([ssim(a, b) for a, b in zip(copies, truth)]))
    assert done["pose_error"].mean == pytest.approx(
        np.mean([pose_error(a, b, c) for a, b, c in zip(copies, truth, poses)])
    )
    assert done["psnr_moving"].mean < done["psnr"].mean < done["psnr_static"].mean
    assert 0 < done["moving_share"].mean < 1
    assert done["warping_error"].count == 9
    assert (done.videos, done.num_frames, done.width) == (("0", "1", "2"), (4, 4, 4), (48,) * 3)


def test_what_is_missing_is_named_with_the_reason(videos):
    copies, truth, _ = videos
    done = evaluate_videos(copies, truth)
    assert set(done.measures) | set(done.missing) == set(METRICS)
    assert not set(done.measures) & set(done.missing)
    assert "poses of the true videos were not given" in done.missing["pose_error"]
    with pytest.raises(KeyError, match="an I3D was not given"):
        done["fvd"]


def test_one_array_of_videos_and_floats_are_the_same(videos):
    copies, truth, poses = videos
    lists = evaluate_videos(copies, truth, poses=poses)
    arrays = evaluate_videos(np.stack(copies) / 255, np.stack(truth), poses=poses)
    assert lists == arrays


def test_another_size_is_stretched_to_the_true_one(videos):
    import cv2

    _, truth, _ = videos
    small = [np.stack([cv2.resize(frame, (24, 32)) for frame in video]) for video in truth]
    back = [np.stack([cv2.resize(frame, (48, 64)) for frame in video]) for video in small]
    done = evaluate_videos(small, truth)
    expected = np.mean([psnr(a, b) for a, b in zip(back, truth)])
    assert done["psnr"].mean == pytest.approx(expected)


def test_a_still_video_moves_nowhere_and_has_no_moving_pixels():
    still = np.full((2, 32, 32, 3), 50, np.uint8)
    done = evaluate_videos([still], [still], names=["still"])
    assert done.missing["psnr_moving"] == "nothing moves in the true videos"
    assert done["psnr"].interval is None
    assert done["psnr_static"].mean == 100


def test_a_video_of_one_frame_keeps_its_place(videos):
    copies, truth, _ = videos
    done = evaluate_videos([copies[0][:1], *copies[1:]], [truth[0][:1], *truth[1:]])
    for name in ("psnr", "warping_error", "warping_error_truth"):
        assert len(done[name].per_video) == 3
    assert np.isnan(done["warping_error"].per_video[0]) and done["warping_error"].count == 6


def test_what_cannot_be_compared_is_refused(videos):
    copies, truth, poses = videos
    with pytest.raises(ValueError, match="3 true videos need as many generated, got 2"):
        evaluate_videos(copies[:2], truth)
    with pytest.raises(ValueError, match="as many poses, got 1"):
        evaluate_videos(copies, truth, poses=poses[:1])
    with pytest.raises(ValueError, match="b: 3 generated and 4 true frames"):
        evaluate_videos([copies[0], copies[1][:3]], truth[:2], names=["a", "b"])
    with pytest.raises(ValueError, match="b: pose_error: wanted a pose for each of 4 frames"):
        evaluate_videos(copies[:2], truth[:2], poses=[poses[0], poses[1][:2]], names=["a", "b"])
    with pytest.raises(ValueError, match="level must be within"):
        evaluate_videos([], [], level=95)
    with pytest.raises(ValueError, match="no true videos"):
        evaluate_videos([], [])
