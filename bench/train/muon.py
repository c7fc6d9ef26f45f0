"""Muon: momentum whose matrix updates are made orthogonal, AdamW for the rest.

Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon). Small transformers need about half the samples with it.
"""

import re

import torch


def orthogonal(g, steps=5):
    """Singular values of [out, in] to about 1, by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g / (g.norm() + 1e-7)).bfloat16()
    if g.shape[0] > g.shape[1]:
        x = x.T
    for _ in range(steps):
        y = x @ x.T
        x = a * x + (b * y + c * y @ y) @ x
    return (x.T if g.shape[0] > g.shape[1] else x).float()


class Muon(torch.optim.Optimizer):
    """For matrices of hidden layers; fused projections [3 W, W] are orthogonalised thirds by thirds."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                parts = update.chunk(3) if p.shape[0] == 3 * p.shape[1] else [update]
                update = torch.cat([orthogonal(part) * max(1, part.shape[0] / part.shape[1]) ** 0.5 for part in parts])
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def optimizers(model, begun=()):
    """[Muon of the hidden matrices, AdamW of all else], by the published parameter names. What is `begun` (beginnings of
    names) with trained values learns at three tenths of the rate of the rest."""
    inner, others = (([], []), ([], []))
    for name, p in model.named_parameters():
        hidden = p.dim() == 2 and re.search(r"(resblocks|layers|cross_attn)\.", name)
        (inner if hidden else others)[name.startswith(tuple(begun))].append(p)
    groups = lambda parts, lr: [{"params": p, "lr": lr * rate} for p, rate in zip(parts, (1, 0.3)) if p]
    return [Muon(groups(inner, 0.02), lr=0.02),
            torch.optim.AdamW(groups(others, 2e-3), betas=(0.9, 0.98), weight_decay=0.05)]
