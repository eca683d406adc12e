import logging
import time

import pytest
import torch

from chpnet_stream.engines import fused as module
from chpnet_stream.engines.fused import FusedDenoiser, fused
from chpnet_stream.network.denoiser import Denoiser
from chpnet_stream.network.weights import find_model, load_student


@pytest.fixture
def convolves_bfloat16():
    """Skips where oneDNN has no convolutions of bfloat16 for the CPU."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN convolves bfloat16 with AVX-512 or AVX-NE-CONVERT: this CPU lacks both")


def denoiser(**changes):
    torch.manual_seed(3)
    options = {"unshuffle": 2, "state": True, "up_kernel": 1} | changes
    made = Denoiser(5, 3, (8, 16, 24), **options).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("shape", [(1, 5, 32, 48), (1, 5, 30, 27), (2, 5, 16, 24)])
@pytest.mark.parametrize(
    "changes", [{}, {"up_kernel": 3}, {"unshuffle": 1}, {"state": False}, {"blocks": 2}]
)
def test_same_layers_in_float32(shape, changes):
    plain = denoiser(**changes)
    made = fused(plain, torch.float32)
    assert made is not None
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        image, features = plain(x)
        found, kept = made(x)
        torch.testing.assert_close(found, image, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(kept, features, rtol=1e-4, atol=1e-4)
        if plain.state:
            image, _ = plain(x, 0.5 * features)
            torch.testing.assert_close(made(x, 0.5 * kept)[0], image, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(found, image, rtol=1e-2)


def test_bfloat16_rounds_and_no_more(convolves_bfloat16):
    plain = denoiser()
    made = fused(plain)
    assert made is not None
    x = 300 * torch.randn((1, 5, 32, 48), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, (found, features) = plain(x)[0], made(x)
    assert found.dtype == torch.float32
    assert features.dtype == torch.bfloat16
    assert 0 < float((found - expected).norm()) < 0.02 * float(expected.norm())


def test_one_that_computes_something_else_is_not_used(monkeypatch, caplog):
    monkeypatch.setattr(module, "_beside", lambda up, skip: torch.cat([skip, skip], 1))
    with caplog.at_level(logging.WARNING):
        assert fused(denoiser(), torch.float32) is None
    assert "convolutions are not fused: expected a difference of at most" in caplog.text


def test_neither_is_one_that_pytorch_lacks(monkeypatch, caplog):
    def gone(self, x):
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute")

    monkeypatch.setattr(FusedDenoiser, "forward", gone)
    with caplog.at_level(logging.WARNING):
        assert fused(denoiser(), torch.float32) is None
    assert "convolutions are not fused: 'Exc" not in caplog.text
    assert "has no attribute" in caplog.text


def test_a_broken_network_is_not_told_of(caplog):
    broken = denoiser()
    with torch.no_grad():
        broken.tail.weight.fill_(float("nan"))
    assert fused(broken, torch.float32) is None
    assert not caplog.records


def test_every_size_has_its_layout_and_few_are_kept():
    plain = denoiser()
    made = fused(plain, torch.float32)
    assert made is not None
    with torch.inference_mode():
        for side in (16, 24, 32, 40, 48, 56, 16):
            x = torch.randn((1, 5, side, side + 8), generator=torch.Generator().manual_seed(side))
            torch.testing.assert_close(made(x)[0], plain(x)[0], rtol=1e-4, atol=1e-4)
    kept = made._head._packed
    assert list(kept) == [(20, 24), (24, 28), (28, 32), (8, 12)]


def test_small_images_take_no_longer_than_large_ones(convolves_bfloat16):
    """With weights laid out for large images they took six times as long as images of 96 x 96."""
    plain = load_student(find_model("chpnet-rt")).denoisers[0]
    made = fused(plain)
    assert made is not None
    spent = {}
    with torch.inference_mode():
        for side in (48, 96):
            x = torch.ones(1, 5, side, side)
            made(x)
            laps = []
            for _ in range(5):
                begin = time.process_time()
                made(x)
                laps.append(time.process_time() - begin)
            spent[side] = min(laps)
    assert spent[48] < 1.5 * spent[96]
