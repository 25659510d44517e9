"""Learning rates, decay and the average of the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.config import TrainingConfig
from trainer.training.optimisation import (
    averaged,
    interpolate,
    learning_rate_at,
    new_optimiser,
    training_mode,
)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def rates(optimiser: torch.optim.Optimizer, of: nn.Parameter) -> dict[str, Any]:
    (group,) = [each for each in optimiser.param_groups if any(one is of for one in each["params"])]
    return group


def test_a_warm_up_rises_in_a_straight_line_to_the_peak_and_the_cosine_falls_to_zero() -> None:
    found = [learning_rate_at(step, 100, peak=1.0, warmup=0.1) for step in range(101)]
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[100] == 0.0


def test_biases_and_normalisation_do_not_decay() -> None:
    net = network()
    optimiser = new_optimiser(net, TrainingConfig(optimiser="adamw", weight_decay=0.1))
    for parameter in net.parameters():
        expected = 0.1 if parameter.ndim > 1 else 0.0
        assert rates(optimiser, parameter)["weight_decay"] == expected


def test_in_fine_tuning_the_rate_grows_from_the_first_layer_to_the_head() -> None:
    net = network()
    config = TrainingConfig(optimiser="adamw", head_rate=10.0, bottom_rate=0.01)
    optimiser = new_optimiser(net, config, head="2")
    scales = [rates(optimiser, each)["scale"] for each in net.parameters()]
    assert scales[0] == pytest.approx(0.01)
    assert scales[3] == pytest.approx(1.0)
    assert scales[:4] == sorted(scales[:4])
    assert scales[4:] == [10.0, 10.0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_every_parameter_is_in_exactly_one_group(name: str, kind: type) -> None:
    net = network()
    optimiser = new_optimiser(net, TrainingConfig(optimiser=name), head="2")
    assert type(optimiser) is kind
    listed = [id(each) for group in optimiser.param_groups for each in group["params"]]
    assert sorted(listed) == sorted(map(id, net.parameters()))


def test_frozen_norms_keep_their_statistics_while_the_rest_trains() -> None:
    net = network()
    training_mode(net, freeze_norms=True)
    before = net[1].running_mean.clone()
    net(torch.randn(8, 4) + 5)
    assert torch.equal(net[1].running_mean, before)
    assert net[0].training
    training_mode(net, freeze_norms=False)
    net(torch.randn(8, 4) + 5)
    assert not torch.equal(net[1].running_mean, before)


def test_the_average_follows_the_weights_over_its_share_of_the_updates() -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.zero_()
    average = averaged(net, TrainingConfig(average=0.1), 100)
    assert average is not None
    average.update(net)
    with torch.no_grad():
        net.weight.fill_(1.0)
    average.update(net)
    assert average.module.weight.item() == pytest.approx(0.1)
    assert averaged(net, TrainingConfig(), 100) is None


def test_the_average_is_that_of_torch_to_the_bit() -> None:
    net = network()
    average = averaged(net, TrainingConfig(average=0.1), 100)
    expected = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    assert average is not None
    for _ in range(4):
        net(torch.randn(8, 4))  # new statistics, and their count
        with torch.no_grad():
            for each in net.parameters():
                each.add_(torch.randn_like(each))
        average.update(net)
        expected.update_parameters(net)
    for name, value in expected.module.state_dict().items():
        assert torch.equal(average.module.state_dict()[name], value), name


def test_weights_move_a_share_of_the_way_back_and_whole_numbers_stay() -> None:
    net = network()
    start = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    net(torch.randn(8, 4))  # counts a batch
    before = {name: value.clone() for name, value in net.state_dict().items()}
    interpolate(net, start, 0.25)
    for name, value in net.state_dict().items():
        expected = 0.75 * before[name] if value.is_floating_point() else before[name]
        assert torch.allclose(value, expected), name
    assert net[1].num_batches_tracked == 1
