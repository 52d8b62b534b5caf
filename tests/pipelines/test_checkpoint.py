import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import photo, random_pose, small_model

from unianimate.pipelines import AnimatePipeline, Chain, Checkpoint, Single, Window
from unianimate.pipelines.checkpoint import SamplerState, recall
from unianimate.pipelines.folder_lock import release
from unianimate.pose import DrawnPoses, align_pose

# diffusers hands tensors to numpy in the old way
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FRAMES = 5
WAYS = [Window(3, 1), Chain(3), Single()]
OPTIONS = {"num_inference_steps": 2, "guidance_scale": 1.0, "long": WAYS[0]}


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def poses():
    reference = random_pose(1, 1)
    return DrawnPoses(align_pose(random_pose(FRAMES, 2), reference), reference)


def solver():
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(prediction_type="v_prediction")


def run(pipeline, poses, checkpoint, *, picture=None, step=0, frame=0, **options):
    """Return the frames that come before this many steps or frames are done; 0 never stops."""
    frames = []

    def progress(done, in_all):
        if done == step:
            raise Stop

    try:
        for made in pipeline.stream(
            picture or photo(),
            poses,
            checkpoint=checkpoint,
            progress=progress,
            **{**OPTIONS, **options},
        ):
            frames.append(made)
            if len(frames) == frame:
                raise Stop
    except Stop:
        pass
    return frames


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("scheduler", [None, solver], ids=["ddim", "multistep"])
def test_a_run_stopped_anywhere_goes_on_to_the_same_bits(model, poses, tmp_path, way, scheduler):
    def fresh():
        # as another process would
        return AnimatePipeline(model, scheduler and scheduler())

    whole = run(fresh(), poses, None, long=way)
    # in the first steps, in the last, between frames, and in the second segment of a chain
    for stop in ({"step": 1}, {"step": 2}, {"frame": 2}, {"frame": 3}, {"step": 3}, {"frame": 4}):
        run(fresh(), poses, Checkpoint(tmp_path / "run"), long=way, **stop)
    checkpoint = Checkpoint(tmp_path / "run")
    frames = run(fresh(), poses, checkpoint, long=way)
    assert checkpoint.resumed_frames >= 4
    np.testing.assert_array_equal(np.stack(frames), np.stack(whole))
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("scheduler", [None, solver], ids=["ddim", "multistep"])
def test_a_stopped_chain_goes_on_on_a_gpu(poses, tmp_path, scheduler):
    model = small_model().to("cuda")

    def fresh():
        return AnimatePipeline(model, scheduler and scheduler())

    whole = run(fresh(), poses, None, long=Chain(3))
    run(fresh(), poses, Checkpoint(tmp_path / "run"), long=Chain(3), step=3)
    frames = run(fresh(), poses, Checkpoint(tmp_path / "run"), long=Chain(3))
    np.testing.assert_array_equal(np.stack(frames), np.stack(whole))


def test_what_a_scheduler_remembers_goes_where_the_latents_are():
    latents = torch.empty(1, 4, 2, 3, 3, device="meta")
    remembered = {"outputs": [torch.ones(latents.shape), None], "sigmas": torch.ones(5), "order": 2}
    scheduler = solver()
    recall(scheduler, remembered, latents)
    assert scheduler.outputs[0].device == latents.device and scheduler.outputs[1] is None
    assert scheduler.sigmas.device.type == "cpu" and scheduler.order == 2


def test_steps_that_are_done_are_not_done_again(model, poses, tmp_path):
    pipeline, steps = AnimatePipeline(model), []
    run(pipeline, poses, Checkpoint(tmp_path / "run"), step=3, long=Chain(3))
    stream = pipeline.stream(
        *(photo(), poses),
        **{**OPTIONS, "long": Chain(3)},
        checkpoint=Checkpoint(tmp_path / "run"),
        progress=lambda done, in_all: steps.append((done, in_all)),
    )
    assert len(list(stream)) == FRAMES
    assert steps == [(4, 4)]


def test_another_run_is_refused_and_loses_nothing(model, poses, tmp_path):
    def kept():
        return Checkpoint(tmp_path / "run")

    pipeline = AnimatePipeline(model)
    run(pipeline, poses, kept(), step=1)
    for changed, says in [
        ({"seed": 8}, "seed was 7 and is 8"),
        ({"long": Single()}, r"long was Window\(.*\) and is Single\(\)"),
        ({"num_inference_steps": 5}, "steps was 2 and is 5"),
        ({"guidance_scale": 2.5}, r"guidance_scale was 1\.0 and is 2\.5"),
        ({"fit": "crop"}, "fit was stretch and is crop"),
        ({"low_memory": True}, "low_memory was False and is True"),
        ({"num_frames": 3}, "num_frames was 5 and is 3"),
        ({"picture": Image.new("RGB", (40, 60))}, "photo was .* and is .*"),
    ]:
        with pytest.raises(ValueError, match=f"run keeps another run.*{says}; give what"):
            run(pipeline, poses, kept(), **changed)
    others = DrawnPoses(random_pose(FRAMES, 3), poses.reference_pose)
    with pytest.raises(ValueError, match="poses was"):
        run(pipeline, others, kept())
    with pytest.raises(ValueError, match="scheduler was"):
        run(AnimatePipeline(model, solver()), poses, kept())
    with pytest.raises(ValueError, match="model was"):
        run(AnimatePipeline(small_model(seed=1)), poses, kept())
    assert run(pipeline, poses, kept(), step=2) == []
    assert len(run(pipeline, poses, kept())) == FRAMES


def state(step: int = 1) -> SamplerState:
    latents = torch.ones(1, 4, 2, 3, 3)
    generator = torch.Generator().get_state()
    return SamplerState(0, step, latents, generator, {"order": 2, "outputs": [latents, None]}, None)


def begun(folder) -> Checkpoint:
    checkpoint = Checkpoint(folder)
    checkpoint.open({"seed": 1})
    checkpoint.save(state())
    checkpoint.keep_frame(0, np.full((4, 5, 3), 7, np.uint8))
    return checkpoint


def test_what_is_kept_comes_back(tmp_path):
    begun(tmp_path / "run")
    again = Checkpoint(tmp_path / "run")
    again.open({"seed": 1})
    assert (again.resumed_frames, again.load().step, again.load().first_frame) == (1, 1, None)
    assert torch.equal(again.load().scheduler["outputs"][0], torch.ones(1, 4, 2, 3, 3))
    (frame,) = again.frames()
    assert (frame == 7).all() and frame.shape == (4, 5, 3)
    again.save(state(step=2))
    assert again.load().step == 2


def test_a_frame_that_is_interrupted_leaves_no_half(tmp_path, monkeypatch):
    begun(tmp_path / "run")
    release(tmp_path / "run")
    again = Checkpoint(tmp_path / "run", resume=True)
    again.open({"seed": 1})

    def stop(*_):
        raise SystemExit(143)

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(SystemExit):
        again.keep_frame(1, np.full((4, 5, 3), 7, np.uint8))
    assert list(again.scratch.iterdir()) == []
    assert len(list(again.frames())) == 1


def test_without_resume_it_starts_afresh(tmp_path):
    begun(tmp_path / "run")
    (tmp_path / "run" / "scratch" / "out.mp4").write_bytes(b"half")
    again = Checkpoint(tmp_path / "run", resume=False)
    again.open({"seed": 2})
    assert (again.resumed_frames, again.is_empty, list(again.scratch.iterdir())) == (0, True, [])
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_holds_it(tmp_path):
    pytest.importorskip("fcntl")
    begun(tmp_path / "run")
    release(tmp_path / "run")
    code = (
        "import fcntl, os, sys; lock = os.open(sys.argv[1], os.O_RDONLY);"
        "fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        late = Checkpoint(tmp_path / "run", resume=False)
        with pytest.raises(BlockingIOError, match="run: another process is at work there"):
            late.open({"seed": 2})
        late.remove()
        assert not late.is_empty
        other.kill()
    late.open({"seed": 2})


def test_who_is_refused_or_closes_it_lets_others_have_it(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "run"

    def is_free():
        # another open file, so this process's own lock counts
        other = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(other)
        return True

    begun(folder).close()
    assert is_free()
    with pytest.raises(ValueError, match="keeps another run"):
        Checkpoint(folder).open({"seed": 2})
    assert is_free()
    again = Checkpoint(folder)
    again.open({"seed": 1})
    assert not is_free()
    again.close()
    again.remove()  # closed, so there is nothing of its own to remove
    assert is_free() and not again.is_empty


def test_frames_that_are_lost_are_not_left_out_of_the_video(model, poses, tmp_path):
    pipeline = AnimatePipeline(model)
    run(pipeline, poses, Checkpoint(tmp_path / "run"), step=3, long=Chain(3))
    (tmp_path / "run" / "frames" / "00002.png").unlink()
    with pytest.raises(ValueError, match="lost frames 2 to 2; start afresh"):
        run(pipeline, poses, Checkpoint(tmp_path / "run"), long=Chain(3))


def test_a_way_of_ones_own_goes_on_in_another_process(model, poses, tmp_path):
    class Halves:  # its repr holds an address
        def __init__(self, size):
            self.size = size

        def segments(self, num_frames):
            return Chain(self.size).segments(num_frames)

    pipeline = AnimatePipeline(model)
    run(pipeline, poses, Checkpoint(tmp_path / "run"), step=1, long=Halves(3))
    with pytest.raises(ValueError, match="long was Halves of segments"):
        run(pipeline, poses, Checkpoint(tmp_path / "run"), long=Halves(2))
    assert len(run(pipeline, poses, Checkpoint(tmp_path / "run"), long=Halves(3))) == FRAMES


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "frames").mkdir()
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(FileExistsError, match="holds other things"):
        checkpoint.open({"seed": 1})
    checkpoint.remove()
    assert (tmp_path / "frames").is_dir()


def test_a_clearing_that_was_cut_short_leaves_nothing_to_go_on_with(tmp_path):
    begun(tmp_path / "run")
    (tmp_path / "run" / "state.pt").unlink()
    again = Checkpoint(tmp_path / "run")
    again.open({"seed": 1})
    assert again.resumed_frames == 0


@pytest.mark.parametrize("name", ["run.json", "state.pt", "frames/00000.png"])
def test_what_is_damaged_is_named(tmp_path, name):
    begun(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"\x00" * 40)
    again = Checkpoint(tmp_path / "run")
    with pytest.raises(ValueError, match=f"{name}: what is kept is damaged; start afresh"):
        again.open({"seed": 1})
        list(again.frames())
        again.load()
