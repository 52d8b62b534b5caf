"""Key maps of CLIP: open_clip names to those of transformers' two towers."""

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from unianimate.models.checkpoints._rename import Rename, count, rename, with_parameters


def image_encoder_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's visual tower for `CLIPVisionModelWithProjection`.

    Args:
        state: The whole open_clip state dict; the text tower and ``logit_scale`` are ignored.

    Returns:
        Views of the tensors given: the fused projections are cut in three, ``visual.proj`` is
        transposed.

    Raises:
        ValueError: If a key is missing or left over; the message names them.
    """
    renames, others = list(_visual(state)), _text(state, count(state, "transformer.resblocks."))
    ignored = {r.source for r in others} | {"logit_scale"}
    return rename("image_encoder_from_official", state, renames, ignored=ignored)


def text_encoder_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's text tower for `CLIPTextModelWithProjection` with one layer less.

    The official system reads the text before the last block, so that block has no place here.

    Args:
        state: The whole open_clip state dict; the visual tower, ``logit_scale`` and the last
            resblock of the text tower are ignored.

    Raises:
        ValueError: If a key is missing or left over; the message names them.
    """
    layers = count(state, "transformer.resblocks.") - 1
    last = _layer(f"transformer.resblocks.{layers}", "")
    ignored = {r.source for part in (_visual(state), last) for r in part} | {"logit_scale"}
    return rename("text_encoder_from_official", state, _text(state, layers), ignored=ignored)


def _visual(state: Mapping[str, Tensor]) -> Iterator[Rename]:
    embeddings = "vision_model.embeddings"
    yield Rename("visual.class_embedding", f"{embeddings}.class_embedding")
    yield Rename("visual.positional_embedding", f"{embeddings}.position_embedding.weight")
    yield Rename("visual.conv1.weight", f"{embeddings}.patch_embedding.weight")
    yield Rename("visual.proj", "visual_projection.weight", _transposed)
    yield from with_parameters(
        [
            ("visual.ln_pre", "vision_model.pre_layrnorm"),
            ("visual.ln_post", "vision_model.post_layernorm"),
        ]
    )
    for i in range(count(state, "visual.transformer.resblocks.")):
        yield from _layer(f"visual.transformer.resblocks.{i}", f"vision_model.encoder.layers.{i}")


def _text(state: Mapping[str, Tensor], layers: int) -> Iterator[Rename]:
    embeddings = "text_model.embeddings"
    yield Rename("token_embedding.weight", f"{embeddings}.token_embedding.weight")
    yield Rename("positional_embedding", f"{embeddings}.position_embedding.weight")
    yield Rename("text_projection", "text_projection.weight", _transposed)
    yield from with_parameters([("ln_final", "text_model.final_layer_norm")])
    for i in range(layers):
        yield from _layer(f"transformer.resblocks.{i}", f"text_model.encoder.layers.{i}")


def _layer(official: str, ours: str) -> Iterator[Rename]:
    yield from with_parameters(
        [
            (f"{official}.ln_1", f"{ours}.layer_norm1"),
            (f"{official}.ln_2", f"{ours}.layer_norm2"),
            (f"{official}.attn.out_proj", f"{ours}.self_attn.out_proj"),
            (f"{official}.mlp.c_fc", f"{ours}.mlp.fc1"),
            (f"{official}.mlp.c_proj", f"{ours}.mlp.fc2"),
        ]
    )
    for parameter in ("weight", "bias"):
        for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
            yield Rename(
                f"{official}.attn.in_proj_{parameter}",
                f"{ours}.self_attn.{name}.{parameter}",
                _third(i),
            )


def _third(i: int) -> Callable[[Tensor], Tensor]:
    return lambda fused: fused.chunk(3)[i]


def _transposed(weight: Tensor) -> Tensor:
    return weight.T
