"""Training and prediction over tensors.

Covers: trainer.training.fits, trainer.training.fitted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainer.config import RECIPES, TrainingConfig
from trainer.errors import ConfigError, RunError
from trainer.models.registry import model_spec
from trainer.training.batches.order import shuffled_batches as batches
from trainer.training.compute import deterministic, pick_device, pick_dtype, predict
from trainer.training.engine import Standardise, fit
from trainer.training.fits import Fit, LabelledTensors, is_guessing
from trainer.training.heads import fit_logistic, new_head
from trainer.training.optimisation import learning_rate_at

CPU = torch.device("cpu")


def blobs() -> tuple[torch.Tensor, LabelledTensors, LabelledTensors]:
    """Two classes of points, far apart."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 4, generator=generator)
    labels = torch.arange(40) % 2
    points[labels == 1] += 4
    rows = torch.arange(40)
    return points, LabelledTensors(rows[:30], labels[:30]), LabelledTensors(rows[30:], labels[30:])


def test_it_learns_and_the_same_seed_learns_the_same() -> None:
    points, train, validation = blobs()
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(9)
        network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        torch.seed()  # what came before must not matter
        with deterministic():
            outcome = fit(
                network,
                points,
                train=train,
                validation=validation,
                config=TrainingConfig(updates=60, learning_rate=0.03),
                seed=seed,
                device=CPU,
            )
        states.append(network.state_dict())
        assert outcome.updates == 60
        assert outcome.epochs == pytest.approx(60 * 32 / 30)
        probabilities = predict(network, points, validation.rows, device=CPU)
        assert (probabilities.argmax(axis=1) == validation.labels.numpy()).all()
        assert probabilities.sum(axis=1) == pytest.approx([1.0] * 10)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])


def test_a_loss_that_is_not_finite_ends_the_run_with_its_update() -> None:
    points, train, validation = blobs()
    points[3] = float("nan")
    with pytest.raises(RunError, match=r"became nan at update \d+ of 20"):
        fit(
            nn.Linear(4, 2),
            points,
            train=train,
            validation=validation,
            config=TrainingConfig(updates=20),
            seed=0,
            device=CPU,
        )


def test_the_checkpoint_that_validates_best_is_kept() -> None:
    """Validation labels are the wrong way round, so that every update makes it worse: the first
    look is the best."""
    points, train, validation = blobs()
    wrong = LabelledTensors(validation.rows, 1 - validation.labels)
    outcome = fit(
        nn.Linear(4, 2),
        points,
        train=train,
        validation=wrong,
        seed=0,
        device=CPU,
        config=TrainingConfig(updates=100, learning_rate=0.1, checkpoints=10),
    )
    assert outcome.best_update == 10


def test_classic_is_plain_adam_with_l2_a_cosine_and_the_checkpoint_that_validates_best() -> None:
    """Written out once more: to the bit, so that finished runs can be made again."""
    points, train, _ = blobs()
    points = points + 3 * torch.randn(points.shape, generator=torch.Generator().manual_seed(1))
    validation = LabelledTensors(torch.arange(30, 40), torch.arange(30, 40) % 2)
    choices = RECIPES["classic"].schedule(model_spec("cnn")).training
    config = TrainingConfig(**{**choices, "updates": 40})
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    plain = copy.deepcopy(network)
    found = fit(
        network, points, train=train, validation=validation, config=config, seed=5, device=CPU
    )
    torch.manual_seed(5)
    adam = torch.optim.Adam(plain.parameters(), weight_decay=config.weight_decay)
    shuffled, looks = batches(30, batch_size=config.batch_size, seed=5), []
    for update in range(40):
        rows, cosine = next(shuffled), 1.0 + math.cos(math.pi * update / 40)
        adam.param_groups[0]["lr"] = config.learning_rate * 0.5 * cosine
        adam.zero_grad()
        cross_entropy(plain.train()(points[rows]), train.labels[rows]).backward()
        adam.step()
        if update % 4 == 3:
            with torch.no_grad():
                logits = plain.eval()(points[validation.rows])
            wrong = int((logits.argmax(dim=1) != validation.labels).sum())
            loss = cross_entropy(logits, validation.labels).item()
            looks.append((wrong, loss, update + 1, copy.deepcopy(plain.state_dict())))
    best = min(looks, key=lambda look: look[:2])
    assert best[2] == found.best_update < 40
    assert all(torch.equal(value, best[3][name]) for name, value in network.state_dict().items())


def test_batches_are_full_and_go_through_every_image_before_repeating() -> None:
    stream = batches(10, batch_size=4, seed=0)
    drawn = torch.cat([next(stream) for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == list(range(10))
    assert sorted(drawn[10:].tolist()) == list(range(10))


def test_the_learning_rate_falls_from_its_peak_to_zero() -> None:
    rates = [learning_rate_at(update, 100, peak=0.5) for update in range(101)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (0.5, 0.0)


@pytest.mark.parametrize("augment", ["none", "standard"])
def test_augmentation_changes_pixels_in_training_only(augment: str) -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 32 * 32, 2)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels.float() if self.training else torch.empty(0))
            return self.fc(pixels.float().flatten(1) / 255)

    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    part = LabelledTensors(torch.arange(4), torch.arange(4) % 2)
    config = TrainingConfig(updates=3, batch_size=4, augment=augment)
    fit(Spy(), pixels, train=part, validation=part, config=config, seed=0, device=CPU)
    shown = [row for batch in seen for row in batch]
    same = [any(torch.equal(row, image.float()) for image in pixels) for row in shown]
    assert len(same) == 12
    assert all(same) == (augment == "none")


def test_cuda_is_not_promised_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    with pytest.raises(ConfigError, match="use --device cpu"):
        pick_device("cuda")


class Greedy(nn.Module):
    """A linear network on a device that holds at most `room` rows at once while it trains, and
    `look` while it does not."""

    def __init__(self, room: int, look: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.fc, self.room, self.look = nn.Linear(4, 2), room, look
        self.seen: list[int] = []

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > (self.room if self.training else self.look):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.training:
            self.seen.append(len(rows))
        return self.fc(rows)


def train_greedy(network: nn.Module, *, batch_size: int = 16) -> Fit:
    points, train, validation = blobs()
    config = TrainingConfig(updates=30, batch_size=batch_size, learning_rate=0.01)
    return fit(
        network, points, train=train, validation=validation, config=config, seed=0, device=CPU
    )


def test_out_of_memory_halves_what_goes_through_at_once_and_keeps_the_effective_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plenty, little = Greedy(room=1000), Greedy(room=5)
    whole, parts = train_greedy(plenty), train_greedy(little)
    assert (whole.batch_size, whole.micro_batch) == (16, 16)
    assert (parts.batch_size, parts.micro_batch, parts.updates) == (16, 4, 30)
    assert little.seen == [4] * 4 * 30
    assert (
        "out of memory: starting again with 8 images at once; still 16 images per update"
        in caplog.text
    )
    assert torch.allclose(plenty.fc.weight, little.fc.weight, atol=1e-6)
    assert parts.train_loss == pytest.approx(whole.train_loss, rel=1e-5)


def test_out_of_memory_late_in_a_training_gives_what_the_smaller_batch_gives_from_the_start() -> (
    None
):
    class Late(Greedy):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            self.room = 8 if len(self.seen) >= 20 else self.room
            return super().forward(rows)

    late, early = Late(room=16), Greedy(room=8)
    assert train_greedy(late) == train_greedy(early)
    assert torch.equal(late.fc.weight, early.fc.weight)


def test_a_batch_that_is_no_power_of_two_is_cut_evenly() -> None:
    network = Greedy(room=5)
    assert train_greedy(network, batch_size=13).micro_batch == 4
    assert sorted(set(network.seen)) == [3, 4]


def test_no_part_of_a_batch_is_a_single_image_which_batch_norm_cannot_be_trained_on() -> None:
    network = Greedy(room=3)
    assert train_greedy(network, batch_size=13).micro_batch == 2
    assert sorted(set(network.seen)) == [2, 3]


def test_memory_for_not_even_two_images_fails_the_run() -> None:
    with pytest.raises(RunError, match="out of memory with 2 images at once; use smaller images"):
        train_greedy(Greedy(room=1))


def test_out_of_memory_in_prediction_takes_fewer_at_once() -> None:
    points, _, _ = blobs()
    some, all_at_once = Greedy(room=1000, look=7), Greedy(room=1000)
    expected = predict(all_at_once, points, torch.arange(40), device=CPU)
    assert predict(some, points, torch.arange(40), device=CPU) == pytest.approx(expected)


def test_an_error_that_is_not_about_memory_is_passed_on() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train_greedy(nn.Linear(3, 2))


@pytest.mark.parametrize("bad_update", [1, 7, 25, 26, 60])
def test_the_update_at_which_the_loss_broke_is_named_though_losses_are_looked_at_now_and_then(
    bad_update: int,
) -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.calls = nn.Linear(4, 2), 0

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            return self.fc(rows) * (
                float("nan") if self.training and self.calls == bad_update else 1.0
            )

    points, train, validation = blobs()
    config = TrainingConfig(updates=60, checkpoints=2)
    with pytest.raises(
        RunError, match=f"became nan at update {bad_update} of 60; try a lower learning rate"
    ):
        fit(Breaks(), points, train=train, validation=validation, config=config, seed=0, device=CPU)


def test_mixed_precision_computes_in_16_bits_and_trains_as_well() -> None:
    kinds = set[torch.dtype]()

    class Spy(nn.Sequential):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            kinds.add(super().forward(pixels).dtype)
            return super().forward(pixels)

    random = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 2
    pixels = (labels * 120)[:, None, None, None] + torch.randint(
        0, 100, (24, 3, 32, 32), generator=random
    )
    part = LabelledTensors(torch.arange(24), labels)
    for dtype, kind in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        kinds.clear()
        torch.manual_seed(0)
        network = Spy(
            Standardise(torch.full((3, 1, 1), 128.0), torch.full((3, 1, 1), 64.0)),
            nn.Flatten(),
            nn.Linear(3072, 2),
        )
        config = TrainingConfig(updates=30, batch_size=8, dtype=dtype)
        found = fit(
            network,
            pixels.to(torch.uint8),
            train=part,
            validation=part,
            config=config,
            seed=0,
            device=CPU,
        )
        assert kinds == {kind}
        assert found.dtype == str(kind).removeprefix("torch.")
        assert network[2].weight.dtype == torch.float32
        assert found.validation_loss < 0.1


@pytest.mark.parametrize(
    ("name", "message"), [("float16", "needs a CUDA device"), ("int8", "choose from auto")]
)
def test_a_precision_that_cannot_be_had_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pick_dtype(name, CPU)


def test_of_several_views_of_an_image_every_one_is_trained_on_and_never_anothers() -> None:
    seen: list[float] = []

    class Spy(nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            seen.extend(rows[:, 0].tolist() if self.training else [])
            return super().forward(rows)

    values = torch.arange(12.0)[:, None]
    train = LabelledTensors(torch.tensor([[4, 5, 6], [9, 10, 11]]), torch.tensor([0, 1]))
    validation = LabelledTensors(torch.tensor([0, 1]), torch.tensor([0, 1]))
    config = TrainingConfig(updates=20, batch_size=2)
    fit(Spy(1, 2), values, train=train, validation=validation, config=config, seed=0, device=CPU)
    assert set(seen) == {4, 5, 6, 9, 10, 11}
    assert all((a < 7) != (b < 7) for a, b in zip(seen[::2], seen[1::2], strict=True))


def test_without_validation_the_last_weights_are_kept_and_nothing_is_said_about_a_loss() -> None:
    points, train, _ = blobs()
    none = LabelledTensors(train.rows[:0], train.labels[:0])
    config = TrainingConfig(updates=30, keep="last", batch_size=8, learning_rate=0.1)
    found = fit(
        nn.Linear(4, 2), points, train=train, validation=none, config=config, seed=0, device=CPU
    )
    assert (found.best_update, found.validation_loss) == (30, None)
    assert found.train_accuracy == 1.0
    assert not found.collapsed


def test_averaged_weights_are_those_that_are_kept() -> None:
    """With a rate that ends at zero, the average lies behind the last weights."""
    points, train, validation = blobs()
    kept = []
    for average in (0.0, 0.9):
        network = nn.Linear(4, 2)
        torch.manual_seed(0)
        nn.init.zeros_(network.weight)
        config = TrainingConfig(updates=20, keep="last", batch_size=8, average=average)
        fit(
            network,
            points,
            train=train,
            validation=validation,
            config=config,
            seed=0,
            device=CPU,
        )
        kept.append(network.weight.detach().norm().item())
    assert kept[1] < 0.95 * kept[0]


class Fragile(nn.Module):
    """Dies, with no gradient left, as soon as a weight passes the limit: as a network does at too
    high a rate."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.layer, self.limit = nn.Linear(4, 2), limit
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        alive = self.layer.weight.detach().abs().max() < self.limit
        return self.layer(values) * float(alive)


@pytest.mark.parametrize(("retries", "works"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_training_that_stays_at_chance_starts_again_at_a_third_of_the_rate_and_says_so(
    retries: int, works: bool
) -> None:
    points, train, validation = blobs()
    config = TrainingConfig(
        updates=30, keep="last", batch_size=8, learning_rate=0.1, retries=retries
    )
    found = fit(
        Fragile(0.2), points, train=train, validation=validation, config=config, seed=0, device=CPU
    )
    assert found.collapsed is not works
    assert found.retries == min(retries, 2)
    assert (found.train_accuracy > 0.75) == works


def test_a_training_that_diverges_starts_again_and_fails_only_in_the_end() -> None:
    points, train, validation = blobs()
    far = points * 1e18
    config = TrainingConfig(
        updates=30, keep="last", batch_size=8, optimiser="sgd", learning_rate=1e3, retries=1
    )
    with pytest.raises(RunError, match="the loss became"):
        fit(
            nn.Linear(4, 2),
            far,
            train=train,
            validation=validation,
            config=config,
            seed=0,
            device=CPU,
        )


def test_chance_is_the_share_of_the_most_frequent_class() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    assert is_guessing(0.9, labels)
    assert is_guessing(0.95, labels)
    assert not is_guessing(1.0, labels)
    assert not is_guessing(0.7, torch.arange(100) % 2)


def picture_network() -> nn.Sequential:
    torch.manual_seed(0)
    scale = Standardise(torch.tensor(127.0), torch.tensor(64.0))
    body = nn.Sequential(scale, nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.Flatten(), nn.Linear(8 * 8 * 8, 2))


def striped() -> tuple[torch.Tensor, LabelledTensors]:
    """Upright and lying stripes under noise: uint8 [40,3,32,32]."""
    random = np.random.RandomState(0)
    stripes = (np.arange(32) // 4 % 2 * 120).astype(np.uint8)
    images = np.stack([np.broadcast_to(stripes, (32, 32)).T, np.broadcast_to(stripes, (32, 32))])
    labels = np.arange(40) % 2
    noise = random.randint(0, 130, (40, 3, 32, 32))
    pixels = (images[labels][:, None] + noise).astype(np.uint8)
    rows = torch.arange(40)
    return torch.from_numpy(pixels), LabelledTensors(rows, torch.from_numpy(labels))


def tuned_on_stripes(config: TrainingConfig) -> tuple[nn.Sequential, Fit]:
    """A network that was trained, and validated, on the stripes."""
    pixels, train = striped()
    network = picture_network()
    found = fit(
        network, pixels, train=train, validation=train, config=config, seed=0, device=CPU, head="2"
    )
    return network, found


def test_fine_tuning_starts_from_a_logistic_regression_on_its_own_features() -> None:
    """With a rate next to nothing, what is left is the head that was fitted first."""
    pixels, train = striped()
    config = TrainingConfig(
        updates=1, keep="last", learning_rate=1e-9, head_first=True, freeze_norms=True
    )
    none = LabelledTensors(train.rows[:0], train.labels[:0])
    network = picture_network()
    body = {name: each.clone() for name, each in network[0].state_dict().items()}
    found = fit(
        network, pixels, train=train, validation=none, config=config, seed=0, device=CPU, head="2"
    )
    assert found.train_accuracy == 1.0
    assert all(
        torch.allclose(each, body[name], atol=1e-6)
        for name, each in network[0].state_dict().items()
        if "tracked" not in name
    )


def test_the_head_that_was_fitted_first_has_the_penalty_that_was_asked_for() -> None:
    pixels, train = striped()
    config = TrainingConfig(
        updates=1, keep="last", learning_rate=1e-12, head_first=True, freeze_norms=True
    )
    found = []
    for penalty in (0.0, 3.0, 300.0):
        network, _ = tuned_on_stripes(replace(config, head_penalty=penalty))
        features = network[:2].eval()(pixels.float()).detach()
        spread, mean = torch.std_mean(features, dim=0, correction=0)
        spread = torch.where(spread > 1e-6, spread, 1.0)
        last = network[2]
        assert isinstance(last, nn.Linear)
        found.append((last.weight.detach() * spread, (features - mean) / spread))
    for penalty, (weight, features) in zip((None, 3.0, 300.0), found, strict=True):
        expected = fit_logistic(features, train.labels, num_classes=2, strength=penalty)
        assert torch.allclose(weight, expected.weight, atol=1e-5), penalty
    assert found[2][0].norm() < 0.5 * found[1][0].norm()


@pytest.mark.parametrize("keep", ["last", "best"])
def test_fine_tuned_weights_are_mixed_with_those_that_it_started_from(keep: str) -> None:
    """The start, with the head that was fitted first, is what a share of (nearly) all gives."""
    config = TrainingConfig(
        updates=6, keep=keep, checkpoints=1, average=0.5, learning_rate=0.01, head_first=True
    )
    states = []
    for share in (0.0, 0.25, 0.9):
        network, _ = tuned_on_stripes(replace(config, start_share=share))
        states.append({name: each.double() for name, each in network.state_dict().items()})
    tuned, quarter, most = states
    for name in ("0.1.weight", "0.2.running_mean", "2.weight", "2.bias"):
        start = tuned[name] + (most[name] - tuned[name]) / 0.9
        expected = 0.75 * tuned[name] + 0.25 * start
        assert not torch.allclose(tuned[name], start, atol=1e-4), name
        assert torch.allclose(quarter[name], expected, atol=1e-5), name


def test_a_checkpoint_is_chosen_by_how_the_mixture_validates() -> None:
    pixels, train = striped()
    config = TrainingConfig(
        updates=4, checkpoints=4, learning_rate=0.01, head_first=True, start_share=0.25
    )
    network, found = tuned_on_stripes(config)
    loss = cross_entropy(network.eval()(pixels.float()), train.labels).item()
    assert found.validation_loss == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", ["logistic", "cosine", "knn"])
def test_a_head_on_features_is_fitted_without_an_optimiser(kind: str) -> None:
    points, train, validation = blobs()
    network = nn.Sequential(Standardise(points.mean(0), points.std(0)), *new_head(kind, 4, 2))
    config = TrainingConfig(head=kind, keep="last")
    found = fit(
        network, points, train=train, validation=validation, config=config, seed=0, device=CPU
    )
    assert found.updates == 0
    guessed = predict(network, points, validation.rows, device=CPU).argmax(axis=1)
    assert (guessed == validation.labels.numpy()).all()


def test_views_of_an_image_are_as_many_rows_of_its_class() -> None:
    points, train, validation = blobs()
    views = LabelledTensors(train.rows[:, None].repeat(1, 3), train.labels)
    heads = []
    for rows in (train, views):
        network = nn.Sequential(Standardise(points.mean(0), points.std(0)), *new_head("knn", 4, 2))
        fit(
            network,
            points,
            train=rows,
            validation=validation,
            seed=0,
            device=CPU,
            config=TrainingConfig(head="knn", keep="last"),
        )
        heads.append(network[-1])
    assert torch.equal(heads[1].rows, heads[0].rows.repeat_interleave(3, 0))
    assert torch.equal(heads[1].labels, heads[0].labels.repeat_interleave(3))


@pytest.mark.parametrize("groups", [None, torch.arange(30) // 2])
def test_a_heads_folds_keep_the_views_of_an_image_and_its_group_together(
    groups: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, train, validation = blobs()
    found: list[torch.Tensor] = []
    monkeypatch.setattr(
        "trainer.training.fitted.fit_head", lambda *_, **given: found.append(given["groups"])
    )
    fit(
        nn.Sequential(nn.Identity(), nn.Linear(4, 2)),
        points,
        train=replace(train, rows=train.rows[:, None].repeat(1, 3), groups=groups),
        validation=validation,
        seed=0,
        device=CPU,
        config=TrainingConfig(head="logistic", keep="last"),
    )
    images = torch.arange(30) if groups is None else groups
    assert torch.equal(found[0], images.repeat_interleave(3))


@pytest.mark.parametrize("mix", [{"mixup": 0.2}, {"cutmix": 1.0}, {"augment": "trivial"}])
def test_mixed_and_augmented_batches_train_and_the_same_seed_trains_the_same(
    mix: dict[str, object],
) -> None:
    pixels, train = striped()
    none = LabelledTensors(train.rows[:0], train.labels[:0])
    config = TrainingConfig(updates=12, keep="last", batch_size=8, **mix)  # type: ignore[arg-type]
    found = []
    for _ in range(2):
        network = picture_network()
        fit(network, pixels, train=train, validation=none, config=config, seed=3, device=CPU)
        found.append(network[2].weight)
    assert torch.equal(*found)
