"""Architecture parameters: a masked Adam, a masked softmax, and the preserved mass."""

import numpy as np
import pytest
import torch

from search.gradient.alphas import ArchitectureParameters, masked_softmax, preserve_mass

EVERY = np.ones((3, 4), dtype=bool)
SOME = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]], dtype=bool)


def parameters(**options) -> ArchitectureParameters:
    return ArchitectureParameters(EVERY, np.random.default_rng(0), **options)


def gradients(count: int) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(1)
    return [torch.randn(3, 4, generator=source) for _ in range(count)]


def test_initial_alphas_are_drawn_in_the_scale_asked_for():
    alpha = ArchitectureParameters(np.ones((200, 50), bool), np.random.default_rng(0)).alpha
    assert alpha.dtype == torch.float32
    assert float(alpha.detach().std()) == pytest.approx(1e-3, rel=0.02)


def test_an_update_of_all_entries_is_a_step_of_adam():
    ours = parameters(lr=0.01, betas=(0.5, 0.999), weight_decay=0.1, scale=1.0)
    theirs = torch.nn.Parameter(ours.alpha.detach().clone())
    adam = torch.optim.Adam([theirs], lr=0.01, betas=(0.5, 0.999), weight_decay=0.1)
    for gradient in gradients(20):
        ours.update(gradient, EVERY)
        theirs.grad = gradient.clone()
        adam.step()
    torch.testing.assert_close(ours.alpha.detach(), theirs.detach(), rtol=0, atol=1e-6)


def test_entries_that_are_not_touched_keep_value_and_moments():
    alphas, sparse = parameters(lr=0.01), parameters(lr=0.01)
    first, second, third = gradients(3)
    for each in (alphas, sparse):
        each.update(first, EVERY)
    kept = sparse.alpha.detach().clone()
    sparse.update(second, SOME)
    moved = sparse.alpha.detach() != kept
    np.testing.assert_array_equal(moved.numpy(), SOME)
    # What was left out goes on as if the step had never been.
    alphas.update(third, ~SOME)
    sparse.update(third, ~SOME)
    rest = torch.from_numpy(~SOME)
    assert torch.equal(sparse.alpha[rest], alphas.alpha[rest])


def test_the_softmax_is_over_what_the_mask_allows():
    alpha = gradients(1)[0]
    found = masked_softmax(alpha, SOME)
    for row, allowed, shares in zip(alpha, SOME, found, strict=True):
        torch.testing.assert_close(shares[allowed], row[allowed].softmax(0))
        assert not shares[~allowed].any()


def test_what_a_checkpoint_holds_goes_on_alike():
    ours, theirs = parameters(), ArchitectureParameters(EVERY, np.random.default_rng(9))
    first, second = gradients(2)
    ours.update(first, SOME)
    theirs.load({name: tensor.clone() for name, tensor in ours.tensors().items()})
    for each in (ours, theirs):
        each.update(second, EVERY)
    assert torch.equal(ours.alpha, theirs.alpha)
    np.testing.assert_array_equal(ours.scores(), theirs.scores())


def test_mass_is_preserved_and_the_rest_keeps_its_probabilities():
    before, change, _ = gradients(3)
    kept = SOME.copy()
    kept[2, 3] = False
    after = torch.where(torch.from_numpy(kept), before + change, before)
    wanted = after.clone()
    preserve_mass(after, kept, before)
    rest = torch.from_numpy(~kept)
    assert torch.equal(after[rest], before[rest])
    torch.testing.assert_close(after.softmax(1)[rest], before.softmax(1)[rest], rtol=0, atol=1e-6)
    shift = after - wanted  # the same for all that was kept in a row
    for row, chosen in zip(shift, kept, strict=True):
        torch.testing.assert_close(row[chosen], row[chosen][:1].expand(int(chosen.sum())))


def test_mass_is_preserved_where_the_rest_moved_as_well():
    """The published k = ln(rho / (1 - rho) * R / U), entry by entry."""
    before, change, _ = gradients(3)
    kept = SOME.copy()
    kept[2, 3] = False
    after = before + change
    wanted = after.clone()
    for row, chosen in enumerate(kept):
        rho = before[row].softmax(0)[chosen].sum()
        updated, remaining = after[row].exp()[chosen].sum(), after[row].exp()[~chosen].sum()
        wanted[row, chosen] += torch.log(rho / (1 - rho) * remaining / updated)
    preserve_mass(after, kept, before, dropped=~kept)
    torch.testing.assert_close(after, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dropped", [None, np.zeros_like(EVERY)])
def test_a_row_without_kept_entries_stays(dropped):
    before, change, _ = gradients(3)
    after = before + change
    preserve_mass(after, np.zeros_like(EVERY), before, dropped)
    assert torch.equal(after, before + change)
