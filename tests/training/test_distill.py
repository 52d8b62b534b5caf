import copy

import pytest
import torch
from tiny_run import run, tiny
from torch import nn

from unianimate.data.clips import ClipDataset, ClipRequest
from unianimate.models import UniAnimate
from unianimate.training.batch import TrainingClips, collate
from unianimate.training.distill import DistillationTask, temporal_mixers
from unianimate.training.start import start_model
from unianimate.training.videos import open_videos, with_latents
from unianimate_kernels import use_backend


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory, cache):
    """A network whose mixers do something, unlike fresh ones."""
    torch.manual_seed(0)
    model = start_model(tiny())
    for _, mixer in temporal_mixers(model.unet):
        nn.init.normal_(mixer.proj_out.weight, std=0.1)
    folder = tmp_path_factory.mktemp("teacher")
    model.save_pretrained(folder)
    return folder


def task_of(teacher_folder, **settings):
    config = tiny(model=teacher_folder, stage="distill", **settings)
    teacher = UniAnimate.from_pretrained(teacher_folder, device="cpu", dtype=torch.float32)
    return DistillationTask(teacher, start_model(config), config).train()


@pytest.fixture(scope="module")
def batch(cache, teacher_folder):
    vae = UniAnimate.from_pretrained(teacher_folder, device="cpu", dtype=torch.float32).vae
    videos = with_latents(open_videos(tiny(cache).data, 32, 48), vae)
    clips = TrainingClips(ClipDataset(videos, 0, (1,)))
    return collate([clips[ClipRequest(number, 2)] for number in range(2)])


@pytest.mark.parametrize("kind", ["mamba", pytest.param("mamba2", marks=pytest.mark.slow)])
def test_fresh_mixers_have_a_loss_of_one_at_every_layer(teacher_folder, batch, kind):
    task = task_of(teacher_folder, temporal=kind)
    told = task(batch)
    layers = {name: x.item() for name, x in told.items() if name != "loss"}
    assert list(layers) == [f"layer/{n}" for n, _ in temporal_mixers(task.teacher.model.unet)]
    assert next(iter(layers)) == "layer/init_temporal" and len(layers) == 8
    assert list(layers.values()) == pytest.approx([1.0] * 8, rel=1e-4)
    told["loss"].backward()
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert all(name.startswith("mixers.") for name in trained)
    touched = {n.split(".")[1] for n, p in task.named_parameters() if p.grad is not None}
    assert touched == {str(number) for number in range(8)}


def test_mixers_that_answer_as_the_teacher_s_have_no_loss(teacher_folder, batch):
    task = task_of(teacher_folder, temporal="mamba")
    same = [copy.deepcopy(mixer) for _, mixer in temporal_mixers(task.teacher.model.unet)]
    task.mixers = nn.ModuleList(same)
    with use_backend("reference"):  # without gradients other ops would answer, and round otherwise
        assert task(batch)["loss"].item() == 0.0


def test_a_layer_s_loss_is_its_squared_error_over_what_the_teacher_added(teacher_folder, batch):
    task = task_of(teacher_folder, temporal="mamba", gradient_checkpointing=True)
    for parameter in task.mixers[3].parameters():
        nn.init.normal_(parameter, std=0.1)
    seen = {}
    _, old = list(temporal_mixers(task.teacher.model.unet))[3]
    old.register_forward_hook(lambda _, x, y: seen.update(x=x[0], y=y))
    told = list(task(batch).values())
    with torch.no_grad():
        error = (task.mixers[3](seen["x"]) - seen["y"]).square().mean((1, 2, 3, 4))
        added = (seen["y"] - seen["x"]).square().mean((1, 2, 3, 4))
    assert told[1 + 3].item() == pytest.approx((error / added).mean().item(), rel=1e-4)


def test_a_run_writes_the_old_model_with_new_mixers(tmp_path, cache, teacher_folder):
    config = tiny(
        cache, stage="distill", model=teacher_folder, temporal="mamba", steps=2, optimizer__ema=0
    )
    lines = run(tmp_path, config)
    assert lines[-1]["layer/middle.temporal"] > 0
    old, new = (
        UniAnimate.from_pretrained(path, device="cpu")
        for path in (teacher_folder, tmp_path / "model")
    )
    assert {spec.kind for spec in new.config.unet.mixers} == {"mamba"}
    before, after = old.state_dict(), new.state_dict()
    shared = [name for name in before if name in after and "temporal." not in name]
    assert len(shared) > 100
    assert all(torch.equal(before[name], after[name]) for name in shared)
    # the new mixers moved from adding nothing
    assert new.unet.init_temporal.out_proj.weight.abs().max() > 0


def test_mixers_must_be_other_ones(teacher_folder):
    with pytest.raises(ValueError, match="temporal must name other mixers than the model's"):
        task_of(teacher_folder, temporal="transformer")
