import pytest
import torch
from tiny_run import run, tiny, weights
from torch import nn

from unianimate.models import UniAnimate
from unianimate.training.lora import add_lora, merge_lora

ATTENTION = r"['unet\..*\.(to_q|to_k|to_v|to_out)\.']"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.conv = nn.Linear(6, 5), nn.Conv2d(5, 4, 3)

    def forward(self, x):
        return self.conv(self.first(x).movedim(-1, 1))


def test_an_update_changes_nothing_at_first_and_is_merged_into_its_weight():
    x, net, plain = torch.randn(2, 4, 4, 6), Net(), Net()
    names = set(net.state_dict())
    add_lora(net, ["first", "conv"], rank=2, scale=0.5)
    assert torch.equal(net(x), plain(x))
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert sorted(p.shape for p in trained.values()) == [(2, 6), (2, 45), (4, 2), (5, 2)]
    for parameter in trained.values():
        nn.init.normal_(parameter)
    update = net.conv.parametrizations.weight[0]
    wanted = plain.conv.weight + 0.5 * (update.up @ update.down).view(4, 5, 3, 3)
    torch.testing.assert_close(net.conv.weight, wanted)
    before = net(x)
    merge_lora(net)
    assert set(net.state_dict()) == names
    torch.testing.assert_close(net(x), before)


def test_the_rank_is_at_most_what_the_shape_allows():
    net = Net()
    add_lora(net, ["conv"], rank=64, scale=1.0)
    assert net.conv.parametrizations.weight[0].down.shape == (4, 45)


def test_a_name_without_a_weight_is_an_error():
    with pytest.raises(ValueError, match=r"no weight for LoRA has a name like 'first.bias'"):
        add_lora(Net(), ["first.bias"], rank=2, scale=1.0)


def test_a_run_trains_updates_alone_and_writes_a_plain_model(tmp_path, cache):
    run(tmp_path / "base", tiny(cache, steps=1))
    base = tmp_path / "base" / "model"
    settings = {"model": base, "diffusion__train": ATTENTION, "diffusion__lora_rank": 2}
    config = tiny(cache, steps=3, optimizer__learning_rate=0.05, **settings)
    run(tmp_path / "lora", config)
    names = weights(tmp_path / "lora")
    assert names and all(name.endswith((".up", ".down")) for name in names)
    before, after = (
        UniAnimate.from_pretrained(path, device="cpu", dtype=torch.float32).state_dict()
        for path in (base, tmp_path / "lora" / "model")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.rsplit(".", 2)[1] in ("to_q", "to_k", "to_v", "to_out") for name in changed)
    assert all(name.endswith("weight") for name in changed)
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) <= 2
