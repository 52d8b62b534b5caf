"""The text tower, used once: the hidden states of the empty prompt are all the model ever reads."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_START, _END = 49406, 49407


# Any is transformers' CLIPTextModelWithProjection, which is imported only when it is built
def build_text_encoder(config: Mapping[str, Any]) -> Any:
    """Build transformers' `CLIPTextModelWithProjection`; its positions are real even on meta."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    model = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    embeddings = model.text_model.embeddings
    positions = torch.arange(model.config.max_position_embeddings, device="cpu").unsqueeze(0)
    embeddings.register_buffer("position_ids", positions, persistent=False)
    return model


def empty_prompt_ids(length: int = 77) -> Tensor:
    """Return the token ids of the empty prompt, (1, length): start, end, zeros."""
    ids = torch.zeros(1, length, dtype=torch.int64)
    ids[0, :2] = torch.tensor([_START, _END])
    return ids


@torch.no_grad()
def empty_text_embeds(text_encoder: Any) -> Tensor:
    """Return the hidden states of the empty prompt after the last norm, (1, L, D).

    The official system reads them after all but the last block, which is why `text_encoder`, a
    `CLIPTextModelWithProjection`, is built with one layer less than the published tower.
    """
    ids = empty_prompt_ids(text_encoder.config.max_position_embeddings)
    hidden: Tensor = text_encoder.text_model(input_ids=ids).last_hidden_state
    return hidden
