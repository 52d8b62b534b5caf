"""The loop: the same losses, however a run is interrupted, split or spread."""

import signal

import pytest
import torch
from processes import begin
from tiny_run import Brightness, curve, killed_run, quick, run, tiny, weights

from unianimate.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, tiny(cache))
    return folder


@pytest.mark.parametrize(
    ("where", "count"),
    [
        pytest.param("fsync", 2),
        pytest.param("fsync", 1, marks=pytest.mark.slow),
        pytest.param("rename", 2, marks=pytest.mark.slow),
        pytest.param("rename", 3, marks=pytest.mark.slow),
        pytest.param("step", 1, marks=pytest.mark.slow),
        pytest.param("step", 3, marks=pytest.mark.slow),
        pytest.param("write", 3, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, cache, whole, where, count):
    process = begin(killed_run, where, count, tmp_path, cache)
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    assert run(tmp_path, tiny(cache)) == curve(whole)
    ours, theirs = weights(tmp_path), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_finished_run_only_writes_its_model_again(whole, cache):
    before = curve(whole)
    (whole / "model" / "config.json").unlink()
    assert run(whole, tiny(cache)) == before
    assert (whole / "model" / "config.json").is_file()


def test_a_run_can_be_prolonged_and_dropout_is_drawn_again_as_it_was(tmp_path):
    for steps in (3, 10):
        in_parts, _ = quick(tmp_path / "a", tiny(steps=steps), Brightness(dropout=0.5))
    at_once, _ = quick(tmp_path / "b", tiny(steps=10), Brightness(dropout=0.5))
    assert in_parts == at_once
    without, _ = quick(tmp_path / "c", tiny(steps=10))
    assert without != at_once


def test_an_average_that_begins_later_begins_with_the_weights(tmp_path):
    task = Brightness()
    quick(tmp_path, tiny(steps=4, optimizer__ema=0.0), task)
    trained = {name: p.detach().clone() for name, p in task.named_parameters()}
    _, average = quick(tmp_path, tiny(steps=4, optimizer__ema=0.999), Brightness())
    assert all(torch.equal(average.averages[name], p) for name, p in trained.items())


def test_settings_of_the_optimizer_may_change_when_a_run_goes_on(tmp_path):
    def with_decay(folder, later):
        quick(folder, tiny(steps=3, optimizer__weight_decay=0.0))
        return quick(folder, tiny(steps=10, optimizer__weight_decay=later))[0]

    assert with_decay(tmp_path / "a", 0.0) != with_decay(tmp_path / "b", 50.0)


def test_fewer_steps_than_are_done_are_refused(tmp_path):
    quick(tmp_path, tiny(steps=4))
    with pytest.raises(ValueError, match="its checkpoint has 4 steps, and steps is 2: ask for"):
        quick(tmp_path, tiny(steps=2))


def test_lines_of_a_run_that_was_killed_before_its_first_checkpoint_are_forgotten(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 5.0}\n{"step": 2, "lo')
    lines, _ = quick(tmp_path, tiny())
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["loss"] != 5.0


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path):
    parted, _ = quick(tmp_path / "parts", tiny(batch_size=6, accumulation=3))
    at_once, _ = quick(tmp_path / "whole", tiny(batch_size=6))
    for ours, theirs in zip(parted, at_once, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    torch.testing.assert_close(ours, theirs)


def test_clips_that_cannot_be_shared_out_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size \(4\).*processes \(1\) x accumulation \(3\)"):
        quick(tmp_path, tiny(batch_size=4, accumulation=3))


@pytest.mark.parametrize("what", ["loss", "norm of the gradient"])
def test_what_is_not_finite_stops_the_run_before_a_checkpoint(tmp_path, what):
    class Broken(Brightness):
        def forward(self, batch):
            told = super().forward(batch)
            if int(batch.numbers[0]) >= 6:
                # the root has an infinite slope at 0, where its value is finite
                bad = told["loss"] / 0 if what == "loss" else (told["loss"] * 0).sqrt()
                told["loss"] = bad
            return told

    with pytest.raises(ValueError, match=f"the {what} is (nan|inf) at step 4; resume with a lower"):
        quick(tmp_path, tiny(log_every=100, steps=8), Broken())
    assert RunFolder(tmp_path).last().step == 2


def test_a_run_of_other_parts_does_not_take_over_a_checkpoint(tmp_path):
    quick(tmp_path, tiny())
    other = Brightness()
    other.net[0].requires_grad_(False)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 5, "loss": 1.0}\n')
    kept = [path.read_text() for path in (tmp_path / "config.yaml", log)]
    with pytest.raises(ValueError, match=r"checkpoint is of other parameters.*config\.yaml"):
        quick(tmp_path, tiny(seed=5), other)
    assert [path.read_text() for path in (tmp_path / "config.yaml", log)] == kept


@pytest.mark.parametrize("workers", [0, 1])
def test_clips_that_no_video_has_are_refused_at_once(tmp_path, workers):
    config = tiny(data__frames="[2, 4]", data__strides="[2]", data__workers=workers)
    with pytest.raises(ValueError, match=r"^none of the 3 videos can be read and has 4 frames 2"):
        quick(tmp_path, config)
    assert not (tmp_path / "config.yaml").exists()


def test_the_learning_rate_follows_the_schedule_and_the_task_is_learnt(tmp_path):
    lines, _ = quick(tmp_path, tiny(steps=200, optimizer__warmup=4, optimizer__learning_rate=0.01))
    rates = [line["rate"] for line in lines]
    assert rates[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    losses = torch.tensor([line["loss"] for line in lines])
    assert losses[-20:].mean() < 0.5 * losses[:20].mean()


def test_samples_are_made_with_the_average_and_weights_come_back(tmp_path):
    task, seen = Brightness(), []

    def sample(step):
        seen.append((step, task.net[0].weight.detach().clone()))
        return {"sample/psnr": 20.0 + step}

    config = tiny(sample_every=2)
    lines, average = quick(tmp_path, config, task, sample=sample)
    assert [line for line in lines if "sample/psnr" in line] == [
        {"step": 2, "sample/psnr": 22.0},
        {"step": 4, "sample/psnr": 24.0},
    ]
    assert [step for step, _ in seen] == [2, 4]
    assert torch.equal(seen[-1][1], average.averages["net.0.weight"])
    plain, _ = quick(tmp_path / "plain", tiny())
    assert [line for line in lines if "loss" in line] == plain


def test_every_line_is_told(tmp_path):
    told = []
    lines, _ = quick(tmp_path, tiny(), report=told.append)
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in told] == lines
