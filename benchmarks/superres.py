"""Images made finer by the model of the images gadget: writes docs/tables/superres.md.

Real data, never trained on, are cut to the centre of their k-space, as a scan of half the
resolution would have measured them, made to magnitude images, and given white noise. What the
gadget makes of them is scored against the image of all the data. Without the data the table is left
as it is.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import CHECKOUT, TABLES, machine, markdown_table, write

from chpnet_stream.engines.choice import make_engine
from chpnet_stream.enhancement import Enhancer
from chpnet_stream.network.normal import superres_start
from chpnet_stream.network.weights import find_model
from chpnet_stream.physics.coils import root_sum_of_squares
from chpnet_stream.physics.fourier import fft, ifft, resize_centred
from chpnet_training.bart import read_cfl
from chpnet_training.scoring import object_mask, score_raw

FOLDER = "espirit-full-brain-8ch"
NOISE = (0.0, 0.01, 0.02, 0.04)
DIGITS = {
    "PSNR dB": 2,
    "SSIM": 4,
    "zero-filled dB": 2,
    "zero-filled SSIM": 4,
    "gain dB": 2,
    "ms": 0,
}


def scans(folder: Path) -> dict[str, torch.Tensor]:
    """K-space `coils ky kx` by name; the matrix is a multiple of four."""
    brain = torch.from_numpy(read_cfl(folder / "full").squeeze().transpose(2, 0, 1).copy())
    knee = torch.from_numpy(read_cfl(folder / "knee_l1").squeeze().copy())
    found = {"knee (tuned on)": fft(knee)[None], "brain": brain}
    return {name: resize_centred(k, [n // 4 * 4 for n in k.shape[1:]]) for name, k in found.items()}


def coarse(kspace: torch.Tensor, factor: int, noise: float) -> np.ndarray:
    """Magnitude image of the centre of k-space, with noise relative to its 99th percentile."""
    shape = [n // factor for n in kspace.shape[1:]]
    image = root_sum_of_squares(ifft(resize_centred(kspace, shape))) / factor
    level = noise * float(torch.quantile(image.flatten(), 0.99))
    white = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + level * white).abs().numpy()


def rows(name: str, kspace: torch.Tensor, enhancer: Enhancer) -> list[dict[str, Any]]:
    """Scores at every noise level."""
    reference = root_sum_of_squares(ifft(kspace)).numpy()
    mask = object_mask(reference)
    found = []
    for noise in NOISE:
        low = coarse(kspace, enhancer.factor, noise)
        plain = superres_start(torch.from_numpy(low)[None, None], enhancer.normal)[0, 0].numpy()
        enhancer(low)
        began = time.perf_counter()
        made = enhancer(low)
        took = 1e3 * (time.perf_counter() - began)
        if made.fallback is not None:
            raise SystemExit(f"superres: {name}: {made.fallback}")
        before, after = score_raw(plain, reference, mask), score_raw(made.image, reference, mask)
        found.append(
            {
                "image": name,
                "from": f"{low.shape[0]} x {low.shape[1]}",
                "noise": f"{100 * noise:g} %",
                "zero-filled dB": before.psnr,
                "zero-filled SSIM": before.ssim,
                "PSNR dB": after.psnr,
                "SSIM": after.ssim,
                "gain dB": after.psnr - before.psnr,
                "ms": took,
            }
        )
    return found


def main() -> None:
    """Run by `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = os.environ.get("CHPNET_SHARED_DATA", str(CHECKOUT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(shared) / FOLDER)
    parser.add_argument("--model", default="chpnet-sr", help="installed model or card")
    parser.add_argument("--noise-factor", type=float, help="in place of the card's")
    parser.add_argument("--out", type=Path, default=TABLES / "superres.md")
    options = parser.parse_args()
    if not options.data.exists():
        print("superres: no raw data (set CHPNET_SHARED_DATA or --data); the table stays as it is")
        return
    engine = make_engine("auto", find_model(options.model))
    if options.noise_factor is not None:
        engine.card = engine.card.model_copy(update={"noise_factor": options.noise_factor})
    table = []
    for name, kspace in scans(options.data).items():
        table += rows(name, kspace, Enhancer(engine))
    card = engine.card
    text = f"""# Finer images

Made by `make bench` (`benchmarks/superres.py`).

Real data that nothing was trained on: the raw brain brain_full (root sum of squares of 8 coils) and
the complex knee image knee_l1. Their k-space is cut to half of its lines and samples, the magnitude
image of that gets white noise (relative to its 99th percentile), and is made twice as fine. The
score is taken inside the object, after a least-squares scale, against the image of all the data.
Zero-filled: the same image interpolated by its k-space. The noise factor ({card.noise_factor:g})
was chosen on the knee.

Model: {card.name} ({card.checksum}), {card.parameters:,} parameters, {card.gmac_320:.2f} GMAC at
320 x 320; engine {engine.name}.

{markdown_table(table, DIGITS)}

{machine(torch.get_num_threads())}
"""
    write(options.out, text)


if __name__ == "__main__":
    main()
