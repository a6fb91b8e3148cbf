"""Architecture parameters: one alpha for each (slot, operation), and an Adam that can hold still.

Adam moves an entry whose gradient is zero through its first moment. Where a method masks
operations, that would move alphas that took no part in the step, so an update here touches only
the entries that it is given: the others keep value and moments.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ADAM_EPS = 1e-8


class ArchitectureParameters:
    """Logits alpha of every operation of every slot, float32 (slots, operations).

    Args:
        mask: bool (slots, operations), the operations that are allowed now; later calls may give
            a narrower one.
        rng: draws the initial values, ``scale`` times a standard normal.
        lr: learning rate of Adam.
        betas: decay rates of Adam's moments.
        weight_decay: L2 penalty, added to the gradient.
        scale: of the initial values.
        device: where the logits lie.
    """

    def __init__(
        self,
        mask: np.ndarray,
        rng: np.random.Generator,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        scale: float = 1e-3,
        device: torch.device | str = "cpu",
    ) -> None:
        start = torch.from_numpy(scale * rng.standard_normal(mask.shape)).float().to(device)
        self.alpha = start.requires_grad_(True)
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self._moments = torch.zeros(3, *mask.shape, device=device)  # first, second, steps taken

    def probabilities(self, mask: np.ndarray) -> Tensor:
        """Return float (slots, operations), the softmax over each slot's allowed operations."""
        return masked_softmax(self.alpha, mask)

    @torch.no_grad()
    def update(self, gradient: Tensor, touched: np.ndarray | Tensor) -> None:
        """Take one Adam step on the touched entries, with weight decay.

        Args:
            gradient: float (slots, operations), of the loss by alpha.
            touched: bool (slots, operations); all other entries stay as they are.
        """
        kept = torch.as_tensor(touched, device=self.alpha.device)
        gradient = gradient + self.weight_decay * self.alpha
        first, second, steps = self._moments
        low, high = self.betas
        first[kept] = (low * first + (1 - low) * gradient)[kept]
        second[kept] = (high * second + (1 - high) * gradient**2)[kept]
        steps[kept] += 1
        taken = steps.clamp_min(1)
        step = (first / (1 - low**taken)) / ((second / (1 - high**taken)).sqrt() + _ADAM_EPS)
        self.alpha[kept] -= (self.lr * step)[kept]

    def scores(self) -> np.ndarray:
        """Return alpha as float64 (slots, operations), on the CPU."""
        values: np.ndarray = self.alpha.detach().double().cpu().numpy()
        return values

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold."""
        return {"alpha": self.alpha.detach(), "moments": self._moments}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        self.alpha.copy_(tensors["alpha"])
        self._moments.copy_(tensors["moments"])


def masked_softmax(alpha: Tensor, mask: np.ndarray | Tensor) -> Tensor:
    """Return softmax over the last axis among the entries of a bool ``mask``; zero elsewhere."""
    allowed = torch.as_tensor(mask, device=alpha.device)
    return torch.where(allowed, alpha, -torch.inf).softmax(-1)


@torch.no_grad()
def preserve_mass(
    alpha: Tensor,
    kept: np.ndarray | Tensor,
    before: Tensor,
    dropped: np.ndarray | Tensor | None = None,
) -> None:
    """Shift the kept entries of each row so that their share of the softmax is what it was.

    With U = sum of exp(alpha) over the kept entries, each of them moves by ln(U_before / U_after):
    the sum is restored, and so is every other entry's probability. One rule serves ProxylessNAS's
    rescaling of two paths (Cai et al., ICLR 2019, section 3.2.1 and its appendix) and DropNAS's
    alpha adjustment (Hong et al., IJCAI 2020). Where the others moved as well, as in DropNAS's
    published code, with R their sum the shift is ln(U_before / U_after * R_after / R_before).

    Args:
        alpha: float (slots, operations) after an update; changed in place.
        kept: bool (slots, operations): the entries that were updated; a row without any stays.
        before: float (slots, operations): alpha before the update.
        dropped: bool (slots, operations): the others, if they moved; at least one in each row that
            has kept ones.
    """

    def gain(entries: np.ndarray | Tensor) -> Tensor:
        chosen = torch.as_tensor(entries, device=alpha.device)
        mass = torch.where(chosen, torch.stack([before, alpha]), -torch.inf).logsumexp(-1)
        return (mass[1] - mass[0]).unsqueeze(-1)

    shift = -gain(kept) if dropped is None else gain(dropped) - gain(kept)
    alpha += torch.where(torch.as_tensor(kept, device=alpha.device), shift, 0.0)
