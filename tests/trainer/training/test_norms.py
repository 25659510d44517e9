"""Auxiliary batch normalisation: synthetic images have layers of their own in training, which
nothing else ever sees.

Covers: trainer.training.batches.order.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.config import TrainingConfig
from trainer.errors import RunError
from trainer.models.cnn import build_cnn
from trainer.training.batches.order import real_share, stratified_batches
from trainer.training.engine import fit
from trainer.training.fits import Fit, LabelledTensors
from trainer.training.norms import PairedNorm, paired_norms, route_of
from trainer.training.optimisation import new_optimiser

CPU = torch.device("cpu")
NONE = LabelledTensors(torch.arange(0), torch.arange(0))
AUX = TrainingConfig(updates=1, batch_size=8, keep="last", norms="aux")
STRATIFIED = replace(AUX, norms="stratified")


def images(real: int = 4, synthetic: int = 4) -> tuple[torch.Tensor, LabelledTensors]:
    """Dark real images and light synthetic ones, of two classes."""
    random = torch.Generator().manual_seed(0)
    count = real + synthetic
    light = torch.arange(count)[:, None, None, None] >= real
    pixels = torch.randint(0, 100, (count, 3, 32, 32), generator=random) + 150 * light
    rows = torch.arange(count)
    return pixels.to(torch.uint8), LabelledTensors(rows, rows % 2, rows < real)


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 255


class Scaled(nn.Module):
    """A small CNN on 8-bit pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cnn = build_cnn(2, 32)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.cnn(scaled(pixels))
        return found


def trained(
    network: nn.Module, config: TrainingConfig, train: LabelledTensors | None = None
) -> Fit:
    pixels, found = images()
    return fit(
        network,
        pixels,
        train=train or found,
        validation=NONE,
        config=config,
        seed=0,
        device=CPU,
    )


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if "running" in name}


def test_main_statistics_after_an_update_are_those_of_a_pass_over_the_real_rows_alone() -> None:
    pixels, train = images()
    network, alone, control = Scaled(), Scaled(), Scaled()
    trained(network, AUX)
    trained(control, STRATIFIED)
    alone.train()(pixels[train.judged])
    expected, found = statistics(alone), statistics(network)
    assert len(found) == 10
    for name, value in found.items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
    assert not torch.allclose(
        statistics(control)["cnn.blocks.0.1.running_mean"],
        expected["cnn.blocks.0.1.running_mean"],
        atol=1e-3,
    )


def test_the_auxiliary_statistics_are_those_of_the_synthetic_rows() -> None:
    pixels, train = images()
    network, alone = Scaled(), Scaled()
    with paired_norms(network) as route:
        route.real = 4
        network.train()(pixels)
        pair = network.cnn.blocks[0][1]
        assert isinstance(pair, PairedNorm)
    alone.train()(pixels[~train.judged])  # type: ignore[index]
    expected = statistics(alone)["cnn.blocks.0.1.running_mean"]
    assert torch.allclose(pair.auxiliary.running_mean, expected, atol=1e-6)  # type: ignore[arg-type]


def test_a_trained_network_has_no_auxiliary_layers_also_after_an_error() -> None:
    for config in (AUX, replace(AUX, average=0.5, updates=4), replace(AUX, learning_rate=1e30)):
        network = Scaled()
        names = list(network.state_dict())
        try:
            trained(network, replace(config, updates=config.updates or 1))
        except RunError:
            assert config.learning_rate == 1e30
        assert list(network.state_dict()) == names
        assert not any(isinstance(each, PairedNorm) for each in network.modules())


def test_evaluation_goes_through_the_main_layers_alone() -> None:
    pixels, _ = images()
    network = Scaled().eval()
    expected = network(pixels)
    with paired_norms(network) as route:
        for pair in network.modules():
            if isinstance(pair, PairedNorm):
                nn.init.constant_(pair.auxiliary.weight, 7.0)  # type: ignore[arg-type]
        route.real = 4
        assert torch.equal(network.eval()(pixels), expected)
        assert not torch.equal(network.train()(pixels)[4:], expected[4:])


def test_the_average_of_the_weights_is_of_the_main_layers_too() -> None:
    network, last = Scaled(), Scaled()
    trained(network, replace(AUX, updates=6, average=0.9))
    trained(last, replace(AUX, updates=6))
    pairs = zip(statistics(network).values(), statistics(last).values(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)


def test_a_network_without_batch_normalisation_is_refused_in_one_line() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))
    with pytest.raises(RunError, match="no batch normalisation; train it without --norms"):
        trained(plain, AUX)


@pytest.mark.parametrize("config", [AUX, STRATIFIED])
def test_norms_without_images_of_both_kinds_are_refused(config: TrainingConfig) -> None:
    _, train = images()
    with pytest.raises(RunError, match="need both real and synthetic images"):
        trained(Scaled(), config, replace(train, judged=None))


def test_the_loss_is_that_of_real_images_plus_the_weighted_one_of_synthetic_ones() -> None:
    """One update of SGD, compared with the gradient by hand."""
    random = torch.Generator().manual_seed(2)
    values, labels = torch.randn(8, 3, generator=random), torch.arange(8) % 2
    train = LabelledTensors(torch.arange(8), labels, torch.arange(8) < 5)
    config = replace(
        STRATIFIED,
        optimiser="sgd",
        learning_rate=0.1,
        weight_decay=0.0,
        synthetic_weight=0.25,
    )
    torch.manual_seed(3)
    network = nn.Linear(3, 2)
    by_hand = copy.deepcopy(network)
    found = fit(network, values, train=train, validation=NONE, config=config, seed=0, device=CPU)
    logits = by_hand(values)
    losses = [functional.cross_entropy(logits[at], labels[at]) for at in (slice(5), slice(5, 8))]
    loss = losses[0] + 0.25 * losses[1]
    loss.backward()
    assert found.train_loss == pytest.approx(loss.item(), rel=1e-5)
    assert by_hand.weight.grad is not None
    # Nesterov's first step is 1.9 gradients long.
    expected = by_hand.weight - 0.1 * 1.9 * by_hand.weight.grad
    assert torch.allclose(network.weight, expected, atol=1e-6)


@pytest.mark.parametrize("mix", [{"mixup": 1.0}, {"cutmix": 1.0}])
@pytest.mark.parametrize("norms", ["aux", "stratified"])
def test_images_are_mixed_with_their_own_kind_only(mix: dict[str, float], norms: str) -> None:
    seen: list[torch.Tensor] = []

    class Spy(Scaled):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.extend(pixels.flatten(1) if self.training else [])
            return super().forward(pixels)

    _, train = images()
    pixels = torch.tensor([0, 1, 2, 3, 200, 201, 202, 203]).to(torch.uint8)
    pixels = pixels.view(8, 1, 1, 1).expand(8, 3, 32, 32).contiguous()
    config = replace(AUX, norms=norms, updates=3, **mix)  # type: ignore[arg-type]
    fit(Spy(), pixels, train=train, validation=NONE, config=config, seed=0, device=CPU)
    assert all(bool((row <= 3).all() or (row >= 200).all()) for row in seen)
    assert any(row.min() != row.max() or row[0] != row[0].round() for row in seen)


def test_little_memory_gives_the_same_update_and_every_part_has_both_kinds() -> None:
    class Greedy(nn.Module):
        def __init__(self, room: int) -> None:
            super().__init__()
            torch.manual_seed(4)
            self.fc, self.room = nn.Linear(3, 2), room
            self.seen: list[int] = []

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            if self.training and len(rows) > self.room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            self.seen += [len(rows)] * self.training
            found: torch.Tensor = self.fc(rows)
            return found

    random = torch.Generator().manual_seed(2)
    values, rows = torch.randn(40, 3, generator=random), torch.arange(40)
    train = LabelledTensors(rows, rows % 2, rows < 8)
    config = replace(STRATIFIED, updates=5, batch_size=12, optimiser="sgd", learning_rate=0.1)
    plenty, little = Greedy(100), Greedy(4)
    for network in (plenty, little):
        found = fit(
            network, values, train=train, validation=NONE, config=config, seed=0, device=CPU
        )
    assert found.micro_batch == 3
    assert little.seen == [4] * 3 * 5  # three would leave a single image of a kind
    assert torch.allclose(plenty.fc.weight, little.fc.weight, atol=1e-6)


def test_the_auxiliary_layer_learns_as_fast_as_its_main_one_and_other_layers_as_before() -> None:
    config = TrainingConfig(optimiser="adamw", bottom_rate=0.1, head_rate=10.0)

    def rates(network: nn.Module) -> dict[str, float]:
        groups = new_optimiser(network, config, head="cnn.fc").param_groups
        scales = {id(each): group["scale"] for group in groups for each in group["params"]}
        return {name: scales[id(each)] for name, each in network.named_parameters()}

    network = Scaled()
    before = rates(network)
    with paired_norms(network):
        found = rates(network)
    for name, rate in before.items():
        for layer in ("main", "auxiliary"):
            start, _, end = name.rpartition(".")
            assert found.get(f"{start}.{layer}.{end}", rate) == rate
    assert {found[name] for name in found if name in before} <= set(before.values())
    assert len(found) == len(before) + 10


def test_a_network_without_pairs_has_a_route_that_nothing_follows() -> None:
    assert route_of(Scaled()).real is None


@pytest.mark.parametrize(
    ("real", "synthetic", "batch_size", "expected"),
    [
        (30, 30, 32, 16),
        (30, 180, 32, 16),  # in proportion it would be 5
        (30, 15, 32, 21),
        (1000, 1, 32, 30),
        (10, 90, 64, 16),
        (30, 90, 128, 32),
        (30, 180, 8, 4),
        (30, 180, 4, 2),
    ],
)
def test_a_batch_has_at_least_sixteen_real_images_or_half(
    real: int, synthetic: int, batch_size: int, expected: int
) -> None:
    is_real = torch.arange(real + synthetic) < real
    assert real_share(is_real, batch_size) == expected
    for batch in islice(stratified_batches(is_real, batch_size=batch_size, seed=0), 4):
        assert is_real[batch].tolist() == [True] * expected + [False] * (batch_size - expected)


def test_stratified_batches_go_through_every_image_of_a_kind_before_repeating() -> None:
    is_real = torch.tensor([False, True] * 4 + [False] * 8)
    stream = stratified_batches(is_real, batch_size=8, seed=0)
    drawn = [next(stream) for _ in range(3)]
    for kind in (True, False):
        rows = torch.cat([batch[is_real[batch] == kind] for batch in drawn])
        members = (is_real == kind).nonzero()[:, 0]
        assert sorted(rows[: len(members)].tolist()) == members.tolist()
