"""Windows that have each token once, and what tokens cost, beside the same in NumPy."""

import numpy as np
import pytest
from oracle import brute_force

from src import model
from src.evaluation import likelihood
from src.gradients import lora


def of_chunks(lm, chunks, window, stride, batch_size):
    costs = likelihood.compiled(lm)
    some = likelihood.sliding(chunks, window, stride)
    batches = list(likelihood.batches(some, batch_size, window))
    assert {tokens.shape for tokens, _ in batches} == {(batch_size, window)}
    return np.concatenate([costs(tokens).numpy()[new] for tokens, new in batches])


def test_windows_by_hand():
    some = likelihood.sliding([np.arange(10), np.arange(3), np.arange(1)], window=5, stride=2)
    assert [(tokens.tolist(), new) for tokens, new in some] == [
        ([0, 1, 2, 3, 4], 4),
        ([2, 3, 4, 5, 6], 2),
        ([4, 5, 6, 7, 8], 2),
        ([5, 6, 7, 8, 9], 1),
        ([0, 1, 2], 2),
    ]


@pytest.mark.parametrize('window, stride', [(2, 1), (5, 1), (5, 3), (5, 4), (30, 15)])
def test_every_token_but_the_first_is_new_once(window, stride):
    chunks = [np.arange(100 * i, 100 * i + size) for i, size in enumerate([1, 2, 5, 6, 23, 30, 0])]
    said = [
        token for tokens, new in likelihood.sliding(chunks, window, stride)
        for token in tokens[len(tokens) - new :]
    ]  # fmt: skip
    assert said == [token for chunk in chunks for token in chunk[1:]]
    for tokens, new in likelihood.sliding(chunks, window, stride):
        assert len(tokens) <= window
        assert len(tokens) - new >= min(window - stride, tokens[-new] % 100)


@pytest.mark.parametrize('window, stride, batch_size', [(32, 16, 2), (32, 31, 3), (8, 1, 4)])
def test_costs_are_those_of_each_token_alone(tiny, window, stride, batch_size):
    random = np.random.default_rng(window)
    chunks = [random.integers(0, 97, size) for size in (50, 1, 7, 33)]
    expected = [cost for chunk in chunks for cost in brute_force(tiny, chunk, window, stride)]
    costs = of_chunks(tiny, chunks, window, stride, batch_size)
    np.testing.assert_allclose(costs, expected, rtol=1e-4)
    np.testing.assert_allclose(costs.sum(dtype=np.float64), sum(expected), rtol=1e-6)


def test_a_model_that_knows_nothing_pays_the_same_for_all(tiny):
    for variable in tiny.variables:
        variable.assign(variable * 0)
    costs = of_chunks(tiny, [np.arange(40)], 32, 16, 2)
    np.testing.assert_allclose(costs, np.log(97), rtol=1e-7)


def test_adapters_count(tiny):
    chunk = np.arange(20)
    lora.add_adapters(tiny.params, 2, seed=1)
    for name, variable in model.by_name(tiny.params).items():
        if '/lora/' in name:
            variable.assign(variable + 0.1)
    tokens = np.array([chunk], np.int32)
    costs = likelihood.compiled(tiny, lora_scale=2.0)(tokens)
    params = {}
    for branch in lora.merged(tiny.params, 2.0):
        params |= branch
    merged = likelihood.compiled(model.GPT2(tiny.hparams, params))(tokens)
    np.testing.assert_allclose(costs, merged, rtol=1e-4)
    assert not np.allclose(costs, likelihood.compiled(tiny, lora_scale=1.0)(tokens), rtol=1e-2)
