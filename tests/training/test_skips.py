"""Skip connections are missed by the rows that the lots say, at the levels that they say, and by no others."""

import pytest
import torch

from flowpaint.training.skips import Skips
from flowpaint.training.standard import Sizes, unet

HEARD, FINEST, ALL = (0.9, 0.9), (0.1, 0.9), (0.1, 0.1)  # lots, at a share of 0.5


@pytest.fixture
def network():
    torch.manual_seed(0)
    return unet("", 4, 16, Sizes(widths=(16, 32), layers=1, head=8, groups=8, text_width=16, text_layers=1)).eval()


def asked(network, rows):
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(rows, 4, 8, 8, generator=generator), torch.randn(rows, 5, 16, generator=generator)
    with torch.no_grad():
        return network(x, torch.full((rows,), 500), encoder_hidden_states=text).sample


@pytest.fixture
def decoded(network):
    """By block and layer, what the decoder's layers are given: features, and the skips behind them."""
    seen = {}
    for number, block in enumerate(network.up_blocks):
        for layer, resnet in enumerate(block.resnets):
            resnet.register_forward_pre_hook(lambda _, given, at=(number, layer): seen.__setitem__(at, given[0]))
    return seen


def test_each_row_misses_what_its_lots_say(network, decoded):
    asked(network, 3)
    before = dict(decoded)
    with Skips(network, quiet=0.5).hushed(torch.tensor([HEARD, FINEST, ALL]), torch.ones(3)):
        asked(network, 3)
    for (block, layer), given in decoded.items():
        features = 32 if (block, layer) != (1, 1) else 16
        silent = (given[:, features:].abs().amax(dim=(1, 2, 3)) == 0).tolist()
        assert silent == [False, block == 1, True]
        assert torch.equal(given[0], before[block, layer][0])
        assert not silent[0] and before[block, layer][:, features:].abs().amax() > 0


def test_less_noise_means_fewer_rows(network, decoded):
    lots = torch.stack((torch.linspace(0, 1, 101)[:100], torch.ones(100)), dim=1)
    skips = Skips(network, quiet=0.8)
    for noise, missed in ((1.0, 80), (0.5, 40), (0.0, 0)):
        with skips.hushed(lots, torch.full((100,), noise)):
            asked(network, 100)
        assert abs((decoded[1, 0][:, 32:].abs().amax(dim=(1, 2, 3)) == 0).sum() - missed) <= 1


def test_elsewhere_nothing_changes(network):
    plain = asked(network, 3)
    skips = Skips(network, quiet=0.5)
    assert torch.equal(asked(network, 3), plain)
    with skips.hushed(torch.tensor([ALL] * 3), torch.ones(3)):
        assert not torch.equal(asked(network, 3), plain)
    assert torch.equal(asked(network, 3), plain)
    with Skips(network, quiet=0.0).hushed(torch.tensor([ALL] * 3), torch.ones(3)):
        assert torch.equal(asked(network, 3), plain)
