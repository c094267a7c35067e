import numpy as np
import pytest
import tensorflow as tf
from runs import same, scalars, train, weights

from src import model
from src.gradients import small_model
from src.training import train_config, train_step


@pytest.fixture(autouse=True)
def steps_of_large_models():
    """These tests are about the others."""


def config(**changes):
    return train_config.TrainConfig(dataset='none', seed=1, **changes)


@pytest.mark.parametrize('batch_size', [1, 3, 4])
def test_loss_and_gradients_are_the_models(two_layers, batch_size, monkeypatch):
    monkeypatch.setattr(small_model.processes, 'cores', lambda: 2)
    random = np.random.default_rng(0)
    inputs, tokens = tf.constant(random.integers(0, 97, [2, batch_size, 32]), tf.int32)
    variables = list(model.by_name(two_layers.params).values())
    of_batch = small_model.loss_and_gradients(two_layers, variables, batch_size, 32)
    loss, gradients = of_batch(inputs, tokens)
    with tf.GradientTape() as tape:
        expected = model.lm_loss(two_layers(inputs)['logits'], tokens)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for variable, gradient, other in zip(
        variables, gradients, tape.gradient(expected, variables), strict=True
    ):
        other = tf.convert_to_tensor(other)
        np.testing.assert_allclose(gradient, other, atol=1e-6, err_msg=variable.name)


@pytest.mark.parametrize(
    'changes, n_embd, suits',
    [
        ({}, 128, True),
        ({'noise': 0.1, 'accumulate_gradients': 2}, 64, True),
        ({}, 256, True),
        ({}, 320, False),
        ({'batch_size': 9}, 128, False),
        ({'dtype': 'bfloat16'}, 64, False),
        ({'memory_saving_gradients': True}, 64, False),
        ({'lora_rank': 1}, 64, False),
        ({'dropout': 0.1}, 64, False),
        ({'document_mask': True}, 64, False),
    ],
)
def test_what_it_suits(changes, n_embd, suits):
    hparams = model.HParams(97, n_ctx=256, n_embd=n_embd, n_head=4)
    assert small_model.suits(config(**changes), hparams) == suits


@pytest.mark.parametrize('seq_length, n_ctx', [(512, 1024), (1024, 512), (513, 1024)])
def test_it_is_not_for_long_windows(seq_length, n_ctx):
    hparams = model.HParams(97, n_ctx, n_embd=64, n_head=4)
    suits = small_model.suits(config(seq_length=seq_length), hparams)
    assert suits == (min(seq_length, n_ctx) <= 512)


@pytest.mark.parametrize('n_vocab, suits', [(65, True), (2000, True), (50257, False)])
def test_it_does_not_remember_the_logits_of_a_large_vocabulary(n_vocab, suits):
    hparams = model.HParams(n_vocab, n_ctx=256, n_embd=128, n_head=4, n_layer=6)
    assert small_model.suits(config(batch_size=8), hparams) == suits


def test_two_steps_and_two_more_are_four(place):
    train(run_name='whole', steps=4)
    train(run_name='parts', steps=2)
    train(run_name='parts', steps=4)
    assert scalars('loss', 'whole') == scalars('loss', 'parts')
    assert same(weights('checkpoint/whole/model-4'), weights('checkpoint/parts/model-4'))


@pytest.mark.parametrize(
    'flags', [{}, {'noise': 0.3}, {'accumulate_gradients': 2}, {'dropout': 0.1}]
)
def test_a_step_is_that_of_the_other_way(two_layers, flags, monkeypatch):
    number = flags.get('accumulate_gradients', 1)
    tokens = np.random.default_rng(0).integers(0, 97, [number, 2, 16]).astype(np.int32)
    before = [v.numpy().copy() for v in two_layers.trainable_variables]
    after = []
    for widest in (small_model.WIDEST, 0):
        monkeypatch.setattr(small_model, 'WIDEST', widest)
        for variable, value in zip(two_layers.trainable_variables, before, strict=True):
            variable.assign(value.copy())
        settings = config(batch_size=2, optimizer='sgd', **flags)
        state = train_step.TrainState(two_layers, settings, [np.arange(50, dtype=np.uint16)])
        loss, norm = train_step.compiled(state, settings, 16)(tokens, 0.1)
        after.append([loss, norm, *(v.numpy().copy() for v in two_layers.trainable_variables)])
    for one, other in zip(*after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
