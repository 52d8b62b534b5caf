"""Whole runs: where they start, what goes together, samples, the fit of one real video."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from poses import random_pose
from tiny_run import curve, run, tiny, weights
from videos import moving_pattern, write_encoded

from unianimate.data import VideoWriter
from unianimate.data.clips import BrokenVideoError
from unianimate.metrics import psnr
from unianimate.models import UniAnimate
from unianimate.training import real_video
from unianimate.training.cases import clip_case
from unianimate.training.config import load_config
from unianimate.training.real_video import fit_video
from unianimate.training.recipes import read_recipe
from unianimate.training.samples import sample_cases
from unianimate.training.start import start_model
from unianimate.training.videos import open_validation, open_videos


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    start_model(tiny(seed=5)).save_pretrained(folder)
    return folder


@pytest.fixture
def video(tmp_path):
    write_encoded(tmp_path / "dance.mp4", moving_pattern(14, height=96, width=64))
    random_pose(14).save(tmp_path / "dance_pose.npz")
    return tmp_path / "dance.mp4", tmp_path / "dance_pose.npz"


def test_a_preset_starts_from_weights_of_the_seed_and_a_folder_from_its_own(model_folder):
    one, same, other, read = (
        start_model(tiny(**settings)).state_dict()["unet.conv_in.weight"]
        for settings in ({"seed": 5}, {"seed": 5}, {"seed": 6}, {"model": model_folder})
    )
    assert torch.equal(one, same) and torch.equal(one, read) and not torch.equal(one, other)


def test_a_trained_model_is_wanted_where_a_preset_has_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model 'test'"):
        start_model(tiny(pretrained=True))
    start_model(tiny(seed=9)).save_pretrained(tmp_path / "unianimate" / "test")
    found = start_model(tiny(pretrained=True)).unet.conv_in.weight
    assert torch.equal(found, start_model(tiny(seed=9)).unet.conv_in.weight)


@pytest.mark.parametrize("kind", ["mamba", pytest.param("mamba2", marks=pytest.mark.slow)])
def test_swapped_mixers_change_nothing_at_first_and_are_trained_alone(
    tmp_path, cache, model_folder, kind
):
    train = read_recipe("unianimate-mamba")["diffusion"]["train"]
    config = tiny(
        cache, model=model_folder, temporal=kind, steps=1, diffusion__train=json.dumps(train)
    )
    swapped, old = start_model(config), start_model(tiny(model=model_folder))
    t = torch.tensor([500])
    sample = torch.randn(1, 4, 2, 6, 4)
    answers = []
    for model in (swapped, old):
        size = {"num_frames": 2, "latent_size": (6, 4)}
        with torch.no_grad():
            answers.append(
                model.unet(sample, t, model.unet.encode_conditions(model.text_embeds, **size))
            )
    # fresh attention mixers change nothing, either
    torch.testing.assert_close(*answers)
    run(tmp_path, config)
    names = weights(tmp_path)
    assert names
    mixer = re.compile(
        r"model\.unet\.(init_temporal|middle\.temporal|(down|up).*blocks\.\d\.temporal)\."
    )
    assert all(mixer.match(name) for name in names)
    trained = UniAnimate.from_pretrained(tmp_path / "model", device="cpu", dtype=torch.float32)
    assert {spec.kind for spec in trained.config.unet.mixers} == {kind}


def test_attention_comes_back_for_mamba_with_heads_that_fit(tmp_path):
    start_model(tiny(temporal="mamba")).save_pretrained(tmp_path / "mamba")
    back = start_model(tiny(model=str(tmp_path / "mamba"), temporal="transformer"))
    assert back.config == start_model(tiny()).config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "distill"}, "temporal: stage distill needs"),
        ({"stage": "vae", "sample_every": 5}, "sample_every: stage vae has no samples"),
        ({"stage": "vae", "diffusion__lora_rank": 5}, "lora_rank: stage vae has no LoRA"),
        ({"sharded": True, "diffusion__lora_rank": 5}, "take one of sharded and"),
        ({"sharded": True, "precision": "fp16"}, "sharded: takes precision bf16 or fp32"),
        ({"sharded": True, "optimizer__kind": "muon"}, "muon needs whole matrices"),
        ({"precision": "fp16", "optimizer__kind": "muon"}, "take adamw with sharded or precision"),
        ({"optimizer__kind": "muon", "diffusion__lora_rank": 2}, "muon is for whole weights"),
        ({"diffusion__train": "['*temporal']"}, "diffusion.train: '.temporal' is no regular expr"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_anything_is_written(
    tmp_path, settings, message
):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", tiny(**settings))
    assert not (tmp_path / "run").exists()


def test_samples_of_puppets_are_logged_and_shown(tmp_path, cache):
    lines = run(tmp_path, tiny(cache, steps=2, sample_every=2, samples=2))
    (sampled,) = [line for line in lines if "sample/psnr" in line]
    assert sampled["step"] == 2 and sampled["sample/ssim"] < 1 and "sample/pose_error" in sampled
    (sheet,) = (tmp_path / "samples").iterdir()
    with Image.open(sheet) as picture:
        # two clips of three rows; a photo and four frames
        assert (sheet.name, picture.size) == ("step-00000002.png", (5 * 107, 2 * 3 * 160))
    (events,) = (tmp_path / "tensorboard").glob("events.*")
    logged = events.read_bytes()
    assert b"sample/psnr" in logged and b"samples" in logged and b"PNG" in logged


def test_samples_of_a_folder_are_of_its_validation_videos(tmp_path, video):
    settings = {"data__kind": "folder", "data__path": tmp_path, "data__strides": "[3]"}
    model = start_model(tiny())
    with pytest.raises(ValueError, match=r"data\.validation: samples need a folder of videos"):
        sample_cases(model, tiny(**settings))
    other = tmp_path / "other"
    other.mkdir()
    for index, length in enumerate((10, 9, 12, 10)):
        write_encoded(other / f"{index}.mp4", moving_pattern(length, seed=index))
        random_pose(length, seed=index).save(other / f"{index}_pose.npz")
    (other / "0.mp4").write_text("no video")
    cases = sample_cases(model, tiny(**settings, data__validation=other, samples=5))
    # the first cannot be read, the second is shorter than 3 * 3 + 1 frames
    assert [len(case.truth) for case in cases] == [4, 4]


def test_a_case_is_frames_of_a_video_and_its_first_frame(video):
    data = tiny(data__kind="video", data__path=video[0], data__poses=video[1]).data
    videos = open_videos(data, 32, 48)
    assert len(videos) == 1 and videos.num_frames(0) == 6
    case = clip_case(videos, 0, [2, 4])
    frames, poses = videos.read(0, [0, 2, 4])
    np.testing.assert_array_equal(case.photo, frames[0])
    np.testing.assert_array_equal(case.truth, frames[1:])
    np.testing.assert_array_equal(case.poses.read([1])[0], poses[2])
    np.testing.assert_array_equal(case.copy, frames[[0, 0]])
    assert case.poses.num_frames == 2 and case.poses.fps == 8
    other = clip_case(videos, 0, [2, 5])
    assert case.poses.digest == clip_case(videos, 0, [2, 4]).poses.digest != other.poses.digest
    assert case.sheet(case.copy, columns=2, height=48).shape == (3 * 48, 3 * 32, 3)
    with pytest.raises(BrokenVideoError):
        clip_case(
            open_videos(data.__class__(**{**vars(data), "poses": str(video[0])}), 32, 48), 0, [0]
        )


def test_a_video_needs_its_poses(video):
    with pytest.raises(ValueError, match=r"data\.poses: name the pose file"):
        open_videos(tiny(data__kind="video", data__path=video[0]).data, 32, 48)


def fit_config(video, model_folder, **settings):
    preset = read_recipe("video") | {"steps": 2, "batch_size": 2, "model": str(model_folder)}
    preset["data"] = preset["data"] | {
        "path": str(video[0]), "poses": str(video[1]), "video_frames": 8, "frames": [2],
    }  # fmt: skip
    return load_config(preset, settings=settings)


def test_a_model_is_fitted_to_a_video_and_animates_its_end(tmp_path, video, model_folder):
    out = tmp_path / "fit"
    done = fit_video(
        fit_config(video, model_folder, **{"data.strides": "[2]"}),
        out,
        test_frames=6,
        decoder_steps=2,
    )
    written = json.loads((out / "metrics.json").read_text())
    assert written["frames"] == [8, 10, 12]
    assert written["animated"] == done.animated and written["gain"] == pytest.approx(done.gain)
    made = np.stack([np.asarray(Image.open(p)) for p in sorted((out / "animated").iterdir())])
    assert made.shape == (3, 48, 32, 3)
    whole = tiny(
        data__kind="video", data__path=video[0], data__poses=video[1], data__video_frames=14
    )
    frames, _ = open_videos(whole.data, 32, 48).read(0, [0, 8, 10, 12])
    assert done.animated["psnr"] == pytest.approx(psnr(made, frames[1:]).mean(), rel=1e-6)
    copies = np.repeat(frames[:1], 3, axis=0)
    assert done.copies["psnr"] == pytest.approx(psnr(copies, frames[1:]).mean(), rel=1e-6)
    beside = np.asarray(Image.open(sorted((out / "side_by_side").iterdir())[1]))
    photo, _, animated, true = np.split(beside, 4, axis=1)
    for shown, wanted in ((photo, frames[0]), (animated, made[1]), (true, frames[2])):
        np.testing.assert_array_equal(shown, wanted)
    assert (out / "contact_sheet.png").is_file()
    assert [line["step"] for line in curve(out / "decoder")] == [2]
    # it goes on, and replaces what it wrote
    longer = fit_config(video, model_folder, **{"data.strides": "[2]", "steps": "3"})
    fit_video(longer, out, test_frames=6, decoder_steps=2)
    assert [line["step"] for line in curve(out)][-1] == 3
    assert len(list((out / "side_by_side").iterdir())) == 3


def test_decoder_and_network_are_fitted_in_one_precision(
    tmp_path, video, model_folder, monkeypatch
):
    # a process computes in one, says accelerate
    seen = []

    def stop(config, folder, **options):
        seen.append((folder.name, config.precision))
        if folder.name == "fit":
            raise KeyboardInterrupt
        return model_folder

    monkeypatch.setattr(real_video, "run_training", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_video(
            fit_config(video, model_folder, precision="bf16"), tmp_path / "fit", test_frames=4
        )
    assert seen == [("decoder", "bf16"), ("fit", "bf16")]


def test_pictures_in_a_folder_are_a_video_to_fit(tmp_path, model_folder):
    pictures = tmp_path / "pictures"
    with VideoWriter(pictures, 8) as writer:
        for frame in moving_pattern(14):
            writer.write(frame)
    random_pose(14).save(tmp_path / "poses.npz")
    config = fit_config((pictures, tmp_path / "poses.npz"), model_folder)
    fit_video(config, tmp_path / "fit", test_frames=3, decoder_steps=0)
    assert len(list((tmp_path / "fit" / "animated").iterdir())) == 3


def test_an_autoencoder_is_trained_beside_a_broken_video(tmp_path):
    for index in range(2):
        write_encoded(tmp_path / f"{index}.mp4", moving_pattern(4, seed=index))
        random_pose(4, seed=index).save(tmp_path / f"{index}_pose.npz")
    (tmp_path / "1.mp4").write_text("no video")
    settings = {"data__kind": "folder", "data__path": tmp_path, "data__frames": "[1]"}
    run(tmp_path / "run", tiny(stage="vae", steps=1, **settings))
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_validation_videos_that_are_named_are_all_used(tmp_path):
    for name in ("00001", "00340"):
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        Image.new("RGB", (32, 48)).save(folder / "0000.png")
        random_pose(1).save(tmp_path / f"{name}_pose.npz")
    data = tiny(data__kind="tiktok", data__path=tmp_path).data
    assert len(open_validation(data, 32, 48)) == 1
    named = tiny(data__kind="tiktok", data__path=tmp_path, data__validation=tmp_path).data
    assert len(open_validation(named, 32, 48)) == 2


def test_a_video_that_is_too_short_is_refused(tmp_path, video, model_folder):
    with pytest.raises(ValueError, match="has 14 frames, too few to fit the first 8 and animate"):
        fit_video(fit_config(video, model_folder), tmp_path / "fit", test_frames=7)
    assert not (tmp_path / "fit").exists()
