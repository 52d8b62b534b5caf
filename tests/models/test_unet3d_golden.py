"""The network against the official one: five cases of conditions, and the output of every block."""

import pytest
import torch
from golden import golden_weights, load_golden

from unianimate.models import UNet3D, UNet3DConfig, predict_both
from unianimate.models.checkpoints import unet_from_official

TENSORS, NOTES = load_golden("unet_small")
# of outputs, and of blocks in between, whose values are larger
TOLERANCE, BLOCK_TOLERANCE = 1e-5, 3e-5
FRAMES, LATENT_SIZE = NOTES["f"], (16, 8)

IMAGE = {"image_embeds": TENSORS["input.image"]}
FIRST_FRAME = {"first_frame": TENSORS["input.local_image"][:, :, 0]}
POSE = {
    "pose": TENSORS["input.dwpose"][:, :, 1:],
    "reference_pose": TENSORS["input.dwpose"][:, :, 0],
}
REFERENCE = {"reference_latents": TENSORS["input.randomref"][:, :, 0]}
CASES = {
    "cond": {**IMAGE, **POSE, **REFERENCE},
    "uncond": {},
    "local": {**IMAGE, **FIRST_FRAME, **POSE},
    "all": {**IMAGE, **FIRST_FRAME, **POSE, **REFERENCE},
    "noimage": {**POSE, **REFERENCE},
}


@pytest.fixture(scope="module")
def net():
    net = UNet3D(UNet3DConfig.from_official(NOTES["kw"])).eval()
    net.load_state_dict(unet_from_official(golden_weights(NOTES["state_dict"])))
    return net


def run(net, case):
    conditions = net.encode_conditions(
        TENSORS["input.zero_y"], num_frames=FRAMES, latent_size=LATENT_SIZE, **CASES[case]
    )
    with torch.no_grad():
        return net(TENSORS["input.x"], TENSORS["input.t"], conditions)


def traced_modules():
    """Return official block -> our module, for every block that the golden file has."""
    names = {
        "input_blocks.0": "init_temporal",
        "input_blocks.0.0": "conv_in",
        "input_blocks.0.1": "init_temporal",
        "time_embed": "time_embedding",
        "pre_image_condition": "image_projection",
        "local_image_embedding": "first_frame_encoder.spatial",
        "local_image_embedding_after": "first_frame_encoder.temporal",
        "dwpose_embedding": "pose_encoder.spatial",
        "dwpose_embedding_after": "pose_encoder.temporal",
        "randomref_embedding2": "reference_encoder.latent",
        "randomref_embedding_after2": "reference_encoder.latent_adapter",
        "randomref_pose2_embedding": "reference_encoder.pose",
        "randomref_pose2_embedding_after": "reference_encoder.pose_adapter",
    }
    parts = ("resnet", "spatial", "temporal")
    for i, part in enumerate(("resnet_in", "spatial", "temporal", "resnet_out")):
        names[f"middle_block.{i}"] = f"middle.{part}"
    index = 1
    for level in range(4):
        for block in range(2):
            names[f"input_blocks.{index}"] = f"down.{level}.blocks.{block}"
            for j, part in enumerate(parts):
                names[f"input_blocks.{index}.{j}"] = f"down.{level}.blocks.{block}.{part}"
            index += 1
        names[f"input_blocks.{index}"] = f"down.{level}.downsample"
        index += 1
    for index in range(12):
        level, block = divmod(index, 3)
        ours = f"up.{level}.blocks.{block}"
        last = block == 2 and level < 3
        names[f"output_blocks.{index}"] = f"up.{level}.upsample" if last else ours
        for j, part in enumerate(parts):
            names[f"output_blocks.{index}.{j}"] = f"{ours}.{part}"
        names[f"output_blocks.{index}.3"] = f"up.{level}.upsample"
    return names


def as_official(y, want):
    """See an output of ours as the official rows: (b f) c h w, or (b h w) f c of an adapter."""
    if y.dim() == 5 and want.dim() == 3:
        return y.permute(0, 3, 4, 2, 1).flatten(0, 2)
    return y.transpose(1, 2).flatten(0, 1) if y.dim() == 5 else y


@pytest.mark.parametrize("case", CASES)
def test_output(net, case):
    assert (run(net, case) - TENSORS[f"output.{case}"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", ["cond", "uncond", "local"])
def test_every_block(net, case):
    prefix = f"trace_{case}."
    wanted = {k.removeprefix(prefix): v for k, v in TENSORS.items() if k.startswith(prefix)}
    names, outputs, handles = traced_modules(), {}, []

    def keep_input(module, args, _):
        outputs["pre_image"] = args[0]

    def keep_output(official):
        def hook(module, args, y):
            outputs[official] = y

        return hook

    handles.append(net.conv_in.register_forward_hook(keep_input))
    for official in wanted.keys() - {"pre_image"}:
        module = net.get_submodule(names[official])
        handles.append(module.register_forward_hook(keep_output(official)))
    try:
        run(net, case)
    finally:
        for handle in handles:
            handle.remove()
    for official, want in wanted.items():
        got = as_official(outputs[official], want)
        # we encode the first frame once, the official network once a frame
        if official.startswith("local_image"):
            assert got.numel() * FRAMES == want.numel()
        else:
            assert got.numel() == want.numel(), official
            got = got.reshape(want.shape)
        assert (got - want).abs().max() < BLOCK_TOLERANCE, official


def test_the_two_predictions_of_guidance_as_one_batch(net):
    text, sample, t = (TENSORS[f"input.{k}"] for k in ("zero_y", "x", "t"))
    size = {"num_frames": FRAMES, "latent_size": LATENT_SIZE}
    pair = net.encode_conditions(text, **size, **CASES["cond"]), net.encode_conditions(text, **size)
    for low_memory in (False, True):
        with torch.no_grad():
            results = predict_both(net, sample, t, *pair, low_memory=low_memory)
        for got, case in zip(results, ("cond", "uncond")):
            assert (got - TENSORS[f"output.{case}"]).abs().max() < TOLERANCE
