import pytest
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.sequence_model import StateLaw
from pgm_rnn.sequence_model.memory import law_of, memory_of
from tests.instances import LENGTHS, make_model, ragged


def drawn() -> tuple[VRNN, torch.Tensor, torch.Tensor]:
    model, x = make_model("vrnn", Gaussian(2)), ragged(Gaussian(2))
    assert isinstance(model, VRNN)
    return model, x, StateLaw(model, x, LENGTHS, "model", guide=True).rsample()


def test_a_draw_brings_its_memory_and_a_copy_does_not() -> None:
    model, x, z = drawn()
    kept, again = memory_of(model, x, z, None), memory_of(model, x, z.clone(), None)
    assert kept is not None
    assert again is not None
    assert kept is memory_of(model, x, z, None)
    assert again is not kept
    torch.testing.assert_close(kept, again)
    assert law_of(model, x, z) is not None
    assert law_of(model, x, z.clone()) is None


def test_observations_count_by_their_values() -> None:
    model, x, z = drawn()
    assert law_of(model, x.clone(), z) is not None
    assert law_of(model, x + 1, z) is None


@pytest.mark.parametrize("change", ["parameter", "state", "gradients", "model"])
def test_what_has_changed_is_computed_anew(change: str) -> None:
    model, x, z = drawn()
    before = memory_of(model, x, z, None)
    assert before is not None
    if change == "parameter":
        with torch.no_grad():
            next(model.hidden.parameters()).add_(1.0)
    if change == "state":
        z.detach().add_(1.0)  # in place, behind the draw's back
    if change == "gradients":
        with torch.no_grad():
            assert law_of(model, x, z) is None
        return
    if change == "model":
        model = VRNN(latent_dim=2, hidden_dim=3, emission=Gaussian(2))
    now = memory_of(model, x, z, None)
    assert now is not None
    assert law_of(model, x, z) is None
    assert not torch.allclose(now, before)


def test_a_second_pass_backwards_over_a_detached_draw_is_possible() -> None:
    model, x, z = drawn()
    parameter = next(model.decoder.parameters())
    model.log_prob(x, z.detach(), LENGTHS).sum().backward()
    assert parameter.grad is not None
    once = parameter.grad.clone()
    model.log_prob(x, z.detach(), LENGTHS).sum().backward()
    torch.testing.assert_close(parameter.grad, 2 * once)
