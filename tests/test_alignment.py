"""InfoNCE against its values in closed form."""

import math

import pytest
import torch

from skflowfm.alignment import info_nce


@pytest.fixture
def views(seeded):
    generator = seeded()
    z_a = torch.randn(6, 5, generator=generator)
    return z_a, z_a + 0.3 * torch.randn(6, 5, generator=generator)


@pytest.mark.parametrize("n", [2, 5, 64])
@pytest.mark.parametrize("value", [0.0, 1.0, -30.0])
def test_representations_that_carry_nothing(n, value):
    z = torch.full((n, 3), value)
    assert info_nce(z, z).item() == pytest.approx(math.log(2 * n - 1), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("n", [2, 7])
def test_agreeing_orthogonal_pairs(n, temperature):
    z = torch.eye(n, 8)
    expected = math.log1p((2 * n - 2) * math.exp(-1 / temperature))
    loss = info_nce(z, 3 * z, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_opposite_pair_among_orthogonal_others():
    """Worse than carrying nothing: the partner is the least similar of all."""
    z = torch.eye(2)
    loss = info_nce(z, -z, temperature=0.5)
    assert loss.item() == pytest.approx(2 + math.log(math.exp(-2) + 2), rel=1e-5)


def test_default_temperature_is_a_half(views):
    assert info_nce(*views) == info_nce(*views, temperature=0.5)
    assert info_nce(*views) != info_nce(*views, temperature=0.3)


def test_order_of_rows_and_of_views_does_not_matter(views):
    z_a, z_b = views
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    loss = info_nce(z_a, z_b)
    torch.testing.assert_close(info_nce(z_a[order], z_b[order]), loss)
    torch.testing.assert_close(info_nce(z_b, z_a), loss)
    assert info_nce(z_a, z_b[order]) > loss + 0.5  # but who belongs to whom does


def test_lengths_and_a_common_rotation_do_not_matter(views, seeded):
    z_a, z_b = views
    length = torch.tensor([[0.1], [1], [2], [50], [7], [0.5]])
    loss = info_nce(z_a, z_b)
    torch.testing.assert_close(info_nce(length * z_a, z_b), loss)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=seeded(1))).Q
    torch.testing.assert_close(info_nce(z_a @ rotation, z_b @ rotation), loss)


def test_a_single_row_has_no_loss_and_no_gradient():
    z_a = torch.tensor([[1.0, 2, 3]], requires_grad=True)
    z_b = torch.tensor([[3.0, 2, 1]])
    loss = info_nce(z_a, z_b)
    assert loss.shape == ()
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(z_a.grad, torch.zeros(1, 3))


def test_descent_pulls_pairs_together_and_others_apart(views):
    z_a, z_b = (z.clone().requires_grad_() for z in views)

    def cosines():
        a, b = (torch.nn.functional.normalize(z.detach(), dim=1) for z in (z_a, z_b))
        between = a @ b.T
        pairs = between.diagonal()
        return pairs.mean(), (between.sum() - pairs.sum()) / 30

    pairs_before, others_before = cosines()
    optimiser = torch.optim.SGD([z_a, z_b], lr=0.5)
    for _ in range(20):
        optimiser.zero_grad()
        info_nce(z_a, z_b).backward()
        optimiser.step()
    pairs_after, others_after = cosines()
    assert pairs_after > pairs_before
    assert others_after < others_before


def test_lower_temperature_concentrates_on_the_hardest_negative():
    """The same similarity costs more on one negative than spread over all."""

    def loss(similarities, temperature):
        gram = torch.eye(3)
        gram[[1, 2, 2], [0, 0, 1]] = torch.tensor(similarities)
        gram[[0, 0, 1], [1, 2, 2]] = torch.tensor(similarities)
        z = torch.linalg.cholesky(gram)  # rows of these cosines
        return info_nce(z, z, temperature).item()

    def excess(temperature):
        hard, spread = [0.9, 0.0, 0.0], [0.3, 0.3, 0.3]
        return loss(hard, temperature) / loss(spread, temperature)

    assert excess(0.1) > 5 * excess(0.3) > 5 * excess(1.0) > 5


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan])
def test_a_temperature_that_is_not_above_0_is_refused(views, temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        info_nce(*views, temperature)
