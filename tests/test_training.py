"""The loop: it is the plain one, it stops when it should, it touches nothing else."""

import numpy as np
import pytest
import torch

from skflowfm import FlowFMTransformer, _budget, _training, _transformer
from skflowfm._budget import WARM_UP_STEPS, Budget, Plan, batch_size
from skflowfm._device import resolve_device, the_same_again
from skflowfm._draws import (
    STEPS_PER_ROUND,
    Batches,
    hold_out,
    prepare,
    private_generator,
)
from skflowfm._training import PATIENCE, train, train_jointly
from skflowfm._validation import Rows
from skflowfm.alignment import info_nce
from skflowfm.nets.views import window_view


@pytest.fixture
def windows():
    return np.random.default_rng(0).normal(size=(64, 2, 20)).astype(np.float32)


def untrained(X):
    return FlowFMTransformer(8, max_steps=0, random_state=0).fit(X).module_


def bare_loop(module, batches, budget, alignment):
    """Train with ten lines of torch: what the wrapped loop must be equal to."""
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=1e-2, fused=True)
    losses = []
    while budget.spent() < 1:
        for draws, _ in batches:
            for group in optimizer.param_groups:
                group["lr"] = budget.rate()
            optimizer.zero_grad()
            flow, z, other_z = module(**draws)
            loss = flow.mean() + alignment * info_nce(z, other_z)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            budget.n_steps += 1
            losses.append(loss.item())
    return losses


def test_the_wrapped_loop_is_the_bare_loop(windows):
    ours, bare = untrained(windows), untrained(windows)
    index, none = torch.arange(64), torch.arange(0)
    n = STEPS_PER_ROUND + 7
    plan = Plan(Budget(n, None, 16), 3, alignment=0.5)
    draw, *_ = prepare(
        ours,
        Rows(windows),
        index,
        none,
        window_view,
        0.1,
        plan,
    )
    result = train(ours, draw, index, none, plan)
    budget = Budget(n, None, 16)
    batches = Batches(draw, index, budget, private_generator(3))
    bare.train()
    losses = bare_loop(bare, batches, budget, 0.5)
    assert len(losses) == n
    for a, b in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    first = np.mean(losses[:STEPS_PER_ROUND])
    assert result.history.train_loss[0] == pytest.approx(first, rel=1e-6)


def test_one_pass_visits_every_row_once(windows):
    budget = Budget(None, 1e9, 16)
    draw = lambda index, generator: {"t": index}  # noqa: E731
    batches = Batches(draw, torch.arange(64), budget, private_generator(0))
    seen = [batches.next_index() for _ in range(8)]
    for one_pass in (seen[:4], seen[4:]):
        assert sorted(torch.cat(one_pass).tolist()) == list(range(64))
    assert not torch.equal(torch.cat(seen[:4]), torch.cat(seen[4:]))


def test_the_rate_warms_up_and_falls_to_zero():
    budget = Budget(1000, None, 8, learning_rate=2.0)
    assert budget.rate() == pytest.approx(2.0 / WARM_UP_STEPS)
    budget.n_steps = 500
    assert budget.rate() == pytest.approx(1.0)
    budget.n_steps = 1000
    assert budget.rate() == pytest.approx(0.0, abs=1e-6)
    constant = Budget(1000, None, 8, learning_rate=2.0, decay=False)
    constant.n_steps = 999
    assert constant.rate() == pytest.approx(2.0)


@pytest.mark.parametrize("n", [1, STEPS_PER_ROUND, STEPS_PER_ROUND + 1])
def test_steps_are_exact(windows, n):
    fitted = FlowFMTransformer(4, max_steps=n, random_state=0).fit(windows)
    assert fitted.n_steps_ == n
    assert fitted.history_.step.iloc[-1] == n
    assert fitted.stopped_by_ == "max_steps"


def test_time_ends_training(windows):
    fitted = FlowFMTransformer(4, max_time=0.2, random_state=0).fit(windows)
    assert fitted.stopped_by_ == "max_time"
    assert fitted.n_steps_ >= 1


class Slope(torch.nn.Module):
    """One weight, from 0 to what the rows ask for."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, target):
        return (self.weight - target).square(), None, None


def test_early_stopping_restores_the_best_round():
    """Loss on held-out rows of another kind than the training rows turns upwards."""

    def draw(index, generator):
        # rows 0, 1 pull the weight to 1, held-out row 2 would like .1
        value = torch.tensor([1.0, 1.0, 0.1])[index]
        return {"target": value}

    module = Slope()
    budget = Budget(100_000, None, 2, learning_rate=1e-3, decay=False)
    result = train(
        module, draw, torch.tensor([0, 1]), torch.tensor([2]), Plan(budget, 0)
    )
    assert result.stopped_by == "early_stopping"
    best = result.history.valid_flow.idxmin()
    assert len(result.history) == best + 1 + PATIENCE
    restored = (module.weight.item() - 0.1) ** 2
    assert restored == pytest.approx(result.history.valid_flow.min(), rel=1e-4)


@pytest.mark.parametrize("limit", [{"max_steps": 100}, {"max_time": 0.3}])
def test_early_stopping_sees_the_last_round(limit):
    """A loss that still falls when the budget ends keeps all that was learned."""

    def draw(index, generator):
        target = torch.ones(len(index))
        return {"target": target}

    module = Slope()
    limits = {"max_steps": None, "max_time": None} | limit
    budget = Budget(**limits, batch_size=2, learning_rate=2e-4, decay=False)
    rows = torch.arange(3)
    result = train(module, draw, rows[:2], rows[2:], Plan(budget, 0))
    losses = result.history.valid_flow
    assert losses.is_monotonic_decreasing
    assert result.kept_steps == result.n_steps
    assert (1 - module.weight.item()) ** 2 == pytest.approx(losses.iloc[-1], rel=1e-6)


@pytest.mark.parametrize("limit", [{"max_steps": 4000}, {"max_time": 4000.0}])
def test_the_field_goes_on_where_the_encoder_turned_back(limit, monkeypatch):
    """The encoder's best on held-out rows is .1, the field's on all rows is 1."""
    now = [0.0]
    monkeypatch.setattr(_budget.time, "perf_counter", lambda: now[0])

    class Part(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.velocity_field = Part(), Part()
            self.projector = torch.nn.Identity()

        def forward(self, target, view=None):
            now[0] += 1.0 if self.training else 0.0
            missing = 1 - self.velocity_field.weight
            loss = (self.encoder.weight - target).square() + missing.square()
            return loss, None, None

    seen = []

    def draw(index, generator):
        seen.append(set(index.tolist()))
        # the held-out row 2 dislikes an encoder above .1 more than a field below 1
        value = torch.tensor([1.0, 1.0, -0.9])[index]
        return {"target": value, "view": value}

    model = Both()
    limits = {"max_steps": None, "max_time": None} | limit
    budget = Budget(**limits, batch_size=2, learning_rate=1e-3)
    budget.started = 0.0
    result = train_jointly(
        model, draw, torch.tensor([0, 1]), torch.tensor([2]), Plan(budget, 0)
    )
    best = result.history.valid_flow.idxmin()
    turned = result.history.step[best]
    assert result.stopped_by == "early_stopping"
    assert turned < 800
    assert model.encoder.weight.item() < 0.4
    assert model.velocity_field.weight.item() > 0.95
    assert result.n_steps == result.history.step.iloc[-1]
    spent = result.n_steps if "max_steps" in limit else now[0]
    assert spent == {"max_steps": 6000, "max_time": 4000}[next(iter(limit))]
    assert any(2 in rows for rows in seen[-10:])  # held out no longer
    assert all(p.requires_grad for p in model.parameters())


def test_an_interrupt_of_the_user_is_passed_on(windows):
    def interrupt(x, generator):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FlowFMTransformer(4, views=interrupt, max_steps=5).fit(windows)


class InterruptedWhileWatching(_training.JointNet):
    """Its user loses patience while the held-out rows of the first round are seen."""

    def validation_step(self, *args, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("budget", [{"max_steps": 5}, {"max_time": 0.01}])
def test_an_interrupt_of_the_last_round_is_passed_on(windows, monkeypatch, budget):
    """Though by then the budget is spent."""
    monkeypatch.setattr(_training, "JointNet", InterruptedWhileWatching)
    model = FlowFMTransformer(4, validation_fraction=0.6, random_state=0, **budget)
    with pytest.raises(KeyboardInterrupt):
        model.fit(windows)


@pytest.mark.parametrize("verbose", [0, 1])
def test_an_interrupt_of_the_first_step_is_passed_on(windows, monkeypatch, verbose):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_training, "info_nce", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FlowFMTransformer(4, max_steps=5, verbose=verbose).fit(windows)


def test_groups_are_held_out_whole():
    groups = np.repeat(np.arange(20), 20)
    index, held_out = hold_out(400, 0.1, groups, private_generator(0))
    inside, outside = set(groups[index]), set(groups[held_out])
    assert not inside & outside
    assert len(outside) == 2
    assert len(index) + len(held_out) == 400


def test_training_lowers_the_loss_that_it_reports():
    X = np.random.default_rng(0).normal(size=(256, 4)) @ np.diag([3, 2, 1, 0.1])
    fitted = FlowFMTransformer(20, max_steps=300, random_state=0).fit(X)
    assert fitted.history_.train_flow.iloc[-1] < 0.8 * fitted.history_.train_flow[0]
    columns = {"step", "seconds", "train_loss", "train_flow", "train_alignment"}
    assert columns <= set(fitted.history_.columns)


def test_silent_by_default_and_one_line_if_verbose(windows, capsys):
    FlowFMTransformer(4, max_steps=3, random_state=0).fit(windows)
    assert capsys.readouterr().out == ""
    FlowFMTransformer(4, max_steps=3, random_state=0, verbose=1).fit(windows)
    out = capsys.readouterr().out
    assert "64 rows of 2 x 20, 4 components, device" in out
    assert "views of 64/64 rows" in out
    assert out.count("\n") == 3
    last = out.rstrip().split("\r")[-1]
    assert "step 3/3" in last
    assert "flow" in last
    assert "0 s left" in last


def test_device_auto_is_cpu_without_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"


@pytest.mark.parametrize("deterministic", [False, True])
def test_cudnn_is_left_as_it_was(deterministic, windows, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not deterministic)
    seen = []

    def view(x, generator):
        seen.append(torch.backends.cudnn.deterministic)
        seen.append(not torch.backends.cudnn.benchmark)
        if len(seen) > 9:
            raise RuntimeError("stop")
        return x

    model = FlowFMTransformer(encoder=torch.nn.Flatten(), views=view, max_steps=50)
    with pytest.raises(RuntimeError, match="stop"):
        model.fit(windows)
    assert all(seen[2:])  # the first call is a trial
    assert torch.backends.cudnn.deterministic is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic


def test_only_cuda_gets_larger_batches_and_no_more_than_60_passes():
    for device in ("cpu", "mps"):
        assert batch_size(10**6, device) == 64
    for device in ("cuda", "cuda:1"):
        assert batch_size(100, device) == 64
        assert batch_size(5000, device) == 300  # 1,000 steps of 300 are 60 passes
        assert batch_size(10**6, device) == 512


def test_draws_without_views_are_the_published_ones(windows):
    model = untrained(windows)
    index = torch.arange(64)
    budget = Budget(1, None, 8)
    draw, *_ = prepare(
        model, Rows(windows), index, index[:0], None, 0.1, Plan(budget, 0)
    )
    draws = draw(torch.arange(8), private_generator(0))
    assert set(draws) == {"x_1", "x_0", "t", "features"}
    assert torch.equal(draws["features"], model.stem(draws["x_1"]))


def test_overlapping_threads_leave_cudnn_as_it_was():
    """The first to come turns the switch, the last to go turns it back."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic
    first, second = the_same_again(), the_same_again()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cudnn.deterministic
    second.__exit__(None, None, None)
    assert cudnn.deterministic == before


def test_the_stem_is_not_in_the_time_of_training(monkeypatch):
    """As it comes on top, a small max_time leaves time for more than a step."""
    build = _transformer.build_model

    now = [0.0]

    def slow(*args):
        now[0] += 1000
        return build(*args)

    monkeypatch.setattr(_transformer, "build_model", slow)
    monkeypatch.setattr(_budget.time, "perf_counter", lambda: now[0])
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = FlowFMTransformer(max_steps=3, max_time=1, random_state=0).fit(X)
    assert (model.n_steps_, model.stopped_by_) == (3, "max_steps")


def test_the_rate_stays_at_zero_when_the_budget_is_overdrawn():
    budget = Budget(100, None, 8, learning_rate=1.0)
    for budget.n_steps in (100, 150, 200):
        assert budget.rate() == pytest.approx(0, abs=1e-12)
