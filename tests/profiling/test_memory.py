import torch

from unianimate.profiling import peak_bytes


def test_live_bytes_count_what_lives_at_once():
    x = torch.randn(64, 128)

    def chain():
        y = x + 1
        y = y * 2
        return y.view(-1).sum()

    # y + 1 and y * 2 live at once, views are free
    assert 2 * x.numel() * 4 <= peak_bytes(chain) < 2.1 * x.numel() * 4


def test_training_holds_what_the_backward_pass_needs():
    x = torch.randn(64, 128, requires_grad=True)

    def forward():
        y = x
        for _ in range(8):
            y = y.sigmoid()
        return y.sum()

    with torch.no_grad():
        inference = peak_bytes(forward)
    training = peak_bytes(lambda: torch.autograd.grad(forward(), x))
    # two activations at once against all eight
    assert inference < 2.5 * x.numel() * 4
    assert training >= 8 * x.numel() * 4
