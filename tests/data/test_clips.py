import logging
import pickle

import numpy as np
import pytest
from poses import random_pose
from torch.utils.data import DataLoader
from videos import moving_pattern, write_encoded

from unianimate.data import PosedVideo, PosedVideos
from unianimate.data import clips as clips_module
from unianimate.data.clips import BrokenVideoError, ClipBatches, ClipDataset, ClipRequest


class NumberedVideos:
    """Videos whose pixels say which frame of which video they are of; some are broken."""

    def __init__(self, lengths, broken=()):
        self.lengths, self.broken = lengths, broken

    def __len__(self):
        return len(self.lengths)

    def num_frames(self, index):
        return self.lengths[index]

    def read(self, index, frames):
        if index in self.broken:
            raise BrokenVideoError(f"{index}.mp4: damaged")
        pixels = [[[[index, frame, 0]]] for frame in frames]
        frames = np.array(pixels, dtype=np.uint8)
        return frames, frames + np.array([0, 0, 1], dtype=np.uint8)


@pytest.fixture(autouse=True)
def forget_reports():
    clips_module._report.cache_clear()


def draw(dataset, numbers, frames=4):
    return [dataset[ClipRequest(number, frames)] for number in numbers]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_clip_is_frames_in_a_row_with_their_poses_and_any_reference():
    dataset = ClipDataset(NumberedVideos([30, 30]), strides=(1, 3), reversal=0.5)
    seen = set()
    for clip in draw(dataset, range(60)):
        *numbers, reference = clip.numbers
        (step,) = set(np.diff(numbers))
        seen.add(int(step))
        assert min(clip.numbers) >= 0 and max(clip.numbers) < 30
        np.testing.assert_array_equal(clip.frames[:, 0, 0, 1], numbers)
        np.testing.assert_array_equal(clip.poses[:, 0, 0], clip.frames[:, 0, 0] + [0, 0, 1])
        np.testing.assert_array_equal(clip.reference[0, 0], [clip.video, reference, 0])
        np.testing.assert_array_equal(clip.reference_pose[0, 0], [clip.video, reference, 1])
    assert seen == {-3, -1, 1, 3}


def test_every_frame_can_be_met():
    clips = draw(ClipDataset(NumberedVideos([9]), strides=(1, 2)), range(300))
    assert {n for clip in clips for n in clip.numbers[:-1]} == set(range(9))
    assert {clip.numbers[-1] for clip in clips} == set(range(9))


def test_an_example_depends_on_seed_and_number_alone():
    videos = NumberedVideos([20] * 7)
    forwards = draw(ClipDataset(videos, seed=3), range(30))
    other = pickle.loads(pickle.dumps(ClipDataset(videos, seed=3)))
    backwards = draw(other, range(29, -1, -1))[::-1]
    assert all(map(same, forwards, backwards))
    another_seed = draw(ClipDataset(videos, seed=4), range(30))
    assert not any(map(same, forwards, another_seed))
    assert len({clip.numbers for clip in forwards}) > 20


def test_epochs_are_permutations():
    dataset = ClipDataset(NumberedVideos([20] * 11))
    epochs = [[c.video for c in draw(dataset, range(11 * e, 11 * e + 11))] for e in range(3)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_short_videos_are_left_out_and_take_short_strides():
    dataset = ClipDataset(NumberedVideos([3, 4, 7, 20]), strides=(1, 2))
    clips = draw(dataset, range(80))
    assert {clip.video for clip in clips} == {1, 2, 3}
    steps = {(clip.video, clip.numbers[1] - clip.numbers[0]) for clip in clips}
    assert steps == {(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)}
    with pytest.raises(ValueError, match="none of the 4 videos can be read and has 21 frames"):
        dataset[ClipRequest(0, 21)]


def test_broken_videos_are_reported_once_and_replaced(caplog):
    dataset = ClipDataset(NumberedVideos([20] * 5, broken={1, 3}))
    with caplog.at_level(logging.WARNING):
        clips = draw(dataset, range(20))
    assert {clip.video for clip in clips} == {0, 2, 4}
    reports = sorted(record.getMessage() for record in caplog.records)
    assert reports == ["skipped: 1.mp4: damaged", "skipped: 3.mp4: damaged"]
    with pytest.raises(ValueError, match="none of the 1 videos"):
        ClipDataset(NumberedVideos([20], broken={0}))[ClipRequest(0, 4)]


def test_a_run_goes_on_exactly_where_it_stopped():
    options = {"batch_size": 4, "lengths": (4, 8), "seed": 5}
    whole = list(ClipBatches(start=0, stop=20, **options))
    assert len(whole) == 20
    for stopped in (1, 7, 19):
        rest = ClipBatches(start=stopped, stop=20, **options)
        assert len(rest) == 20 - stopped
        assert list(rest) == whole[stopped:]
    assert {batch[0].num_frames for batch in whole} == {4, 8}
    assert all(len({request.num_frames for request in batch}) == 1 for batch in whole)


def test_ranks_share_the_clips_of_every_step():
    options = {"batch_size": 6, "lengths": (4, 8), "start": 3, "stop": 9, "seed": 5}
    whole = list(ClipBatches(**options))
    parts = [list(ClipBatches(rank=r, world_size=3, **options)) for r in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert all(len(share) == 2 for share in shares)
        assert sorted(request for share in shares for request in share) == batch
    assert [request.number for batch in whole for request in batch] == list(range(18, 54))


def test_batches_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes, got 4"):
        ClipBatches(4, (16,), 0, 1, world_size=3)
    with pytest.raises(ValueError, match="lengths is empty"):
        ClipBatches(4, (), 0, 1)


def load(dataset, batches, workers):
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    return [clip for batch in loader for clip in batch]


@pytest.mark.slow
def test_workers_make_the_same_examples(tmp_path):
    posed = []
    for seed in range(3):
        path = tmp_path / f"{seed}.mp4"
        write_encoded(path, moving_pattern(12, 32, 32, seed), g="6", bf="2")
        random_pose(12, seed=seed).save(path.with_suffix(".npz"))
        posed.append(PosedVideo(path, path.with_suffix(".npz")))
    posed[1].poses.write_bytes(b"damaged")
    videos = PosedVideos(posed, 16, 16)
    videos.num_frames(0)  # leaves a file open in this process
    dataset, batches = ClipDataset(videos, seed=2), ClipBatches(2, (4, 6), 1, 5, seed=2)
    alone, spawned = (load(dataset, batches, workers) for workers in (0, 2))
    assert len(alone) == len(spawned) == 8
    assert all(map(same, alone, spawned))
