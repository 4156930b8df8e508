"""Projection heads have the layers they are asked for."""

from __future__ import annotations

from torch import nn

from models.heads import projection_mlp


def test_a_head_has_relu_between_layers_and_a_bare_end() -> None:
    layers = list(projection_mlp((8, 16, 16, 4), batch_norm=False).layers)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [16, 16, 4]
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Linear))


def test_a_last_norm_has_neither_scale_nor_shift_and_takes_the_bias_away() -> None:
    layers = list(projection_mlp((8, 16, 4), batch_norm=True, last_norm=True).layers)
    assert [type(layer) for layer in layers] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
        nn.BatchNorm1d,
    ]
    assert layers[-1].weight is None
    assert layers[-2].bias is None
    bare = list(projection_mlp((8, 4), batch_norm=False, last_bias=False).layers)
    assert bare[0].bias is None


def test_batch_norm_stands_before_each_relu_and_not_at_the_end() -> None:
    layers = list(projection_mlp((8, 16, 4), batch_norm=True).layers)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
