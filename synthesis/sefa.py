"""Directions in which a generator's pictures change most, in closed form (Shen and Zhou 2021,
"Closed-Form Factorization of Latent Semantics in GANs")."""

from collections.abc import Sequence

import torch

from training.networks import Generator, SynthesisLayer, ToRGBLayer


def style_layers(G: Generator) -> list[SynthesisLayer | ToRGBLayer]:
    """Return the layer whose style each w of ws makes: the convolutions in their order, and the
    last ToRGB.

    The other ToRGB layers share their w with the convolution that follows and are left out, as the
    paper's own code does.
    """
    layers = []
    for resolution in G.synthesis.block_resolutions:
        block = getattr(G.synthesis, f'b{resolution}')
        layers += [block.conv0, block.conv1] if block.in_channels else [block.conv1]
    return [*layers, block.torgb]


def factorize(G: Generator, layers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the directions of w that change the styles of some layers most.

    A step n in w changes the styles by A n, where the rows of A are the affine weights of the
    layers, each scaled to length 1. The n of length 1 with the longest A n are the eigenvectors of
    AᵀA (equation 4).

    Args:
        layers: which ws, 0…num_ws − 1.

    Returns:
        directions: float64 `[w_dim, w_dim]`, one a row, of length 1, largest change first; the
        largest component is positive. eigenvalues: float64 `[w_dim]`, falling.
    """
    styles = style_layers(G)
    # [channels of all, w_dim]
    A = torch.cat([styles[i].affine.weight.detach().cpu().double() for i in layers])
    A = A / A.norm(dim=1, keepdim=True).clamp(min=1e-12)
    eigenvalues, vectors = torch.linalg.eigh(A.t() @ A)  # rising
    directions = vectors.t().flip(0)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return directions * largest.sign(), eigenvalues.flip(0)
