import pickle

import numpy as np
import pytest
from PIL import Image

from unianimate.data import Puppet, PuppetVideos
from unianimate.pose import draw_pose

W, H = 48, 64


def test_frames_and_poses_are_those_of_the_puppet():
    videos = PuppetVideos(5, 3, 24, W, H)
    assert (len(videos), videos.num_frames(0)) == (3, 24)
    frames, poses = videos.read(2, [9, 3, 3, 23])
    video, sequence = Puppet(7).render([9, 3, 3, 23], H, W)
    np.testing.assert_array_equal(frames, video)
    drawn = Image.fromarray(draw_pose(sequence)[3]).resize((W, H), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(poses[3], np.asarray(drawn))
    assert poses.dtype == np.uint8 and poses.shape == frames.shape == (4, H, W, 3)


def test_any_order_gives_the_same_frames():
    videos = pickle.loads(pickle.dumps(PuppetVideos(0, 2, 8, W, H)))
    forwards, backwards = (videos.read(1, order) for order in (range(8), range(7, -1, -1)))
    for ahead, back in zip(forwards, backwards):
        np.testing.assert_array_equal(ahead, back[::-1])


def test_held_out_puppets_are_others():
    train, held_out = (PuppetVideos(0, 1, 4, W, H, held_out=x).read(0, [0]) for x in (False, True))
    assert not np.array_equal(train[0], held_out[0])
    assert not np.array_equal(train[1], held_out[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-1, 1, 4, W, H), "first must be 0 or more, got -1"),
        ((0, 0, 4, W, H), "count must be 1 or more, got 0"),
        ((0, 1, 0, W, H), "num_frames must be 1 or more, got 0"),
        ((0, 1, 4, 0, H), "must be pixels, got 0 x 64"),
    ],
)
def test_errors_say_what_is_wrong(arguments, says):
    with pytest.raises(ValueError, match=says):
        PuppetVideos(*arguments)


def test_there_are_no_other_puppets_or_frames():
    videos = PuppetVideos(0, 2, 4, W, H)
    for index, frame in ((2, 0), (0, 4)):
        with pytest.raises(IndexError):
            videos.read(index, [frame])
