import functools

import numpy as np
import pytest
import tensorflow as tf

from src import model
from src.gradients import fused_loss


def batch(n, vocab=50, features=8):
    random = np.random.default_rng(n)
    h = tf.constant(random.normal(size=[n, features]).astype(np.float32))
    wte = tf.constant(random.normal(size=[vocab, features]).astype(np.float32))
    return h, tf.constant(random.integers(0, vocab, n), tf.int32), wte


def plain(h, labels, wte):  # by model.lm_loss, which looks from each row at the token after it
    logits = model.logits_of(h, {'wte': wte})[None]
    return model.lm_loss(
        tf.concat([logits, logits[:, :1]], axis=1), tf.concat([[0], labels], axis=0)[None]
    )


def loss_and_gradients(function, h, labels, wte):
    with tf.GradientTape() as tape:
        tape.watch([h, wte])
        loss = 3 * function(h, labels, wte)  # the gradient that arrives is 3
    return [loss, *tape.gradient(loss, [h, wte])]


@pytest.mark.parametrize('n', [1, 4, 5, 13])
@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('slices', [1, 2])
def test_it_is_the_plain_loss_with_its_gradients(monkeypatch, n, compiled, slices):
    monkeypatch.setattr(fused_loss, 'ROWS', 4)
    monkeypatch.setattr(fused_loss, 'TOKENS', 20)

    def fused(h, labels, wte):
        return fused_loss.linear_cross_entropy(h, labels, wte, rows=4, slices=slices)

    if compiled:
        fused = tf.function(fused, autograph=False)
    expected = loss_and_gradients(plain, *batch(n))
    for value, other in zip(loss_and_gradients(fused, *batch(n)), expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)
    losses = fused_loss.cross_entropy(*batch(n))
    assert losses.shape == [n]
    np.testing.assert_allclose(3 * np.mean(losses), expected[0], rtol=1e-5)


@pytest.mark.parametrize('n', [4, 13])
@pytest.mark.parametrize('slices', [1, 2])
def test_weights_multiply_the_losses_of_rows(n, slices):
    weights = tf.constant(np.random.default_rng(0).integers(0, 3, n), tf.float32)

    def fused(h, labels, wte):
        return fused_loss.linear_cross_entropy(
            h, labels, wte, rows=4, slices=slices, weights=weights
        )

    def weighted(h, labels, wte):
        logits = model.logits_of(h, {'wte': wte})
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(losses * weights)

    expected = loss_and_gradients(weighted, *batch(n))
    for value, other in zip(loss_and_gradients(fused, *batch(n)), expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)


def test_an_embedding_that_is_not_trained_has_no_gradient():
    def fused(h, labels, wte):
        return fused_loss.linear_cross_entropy(h, labels, wte, train_wte=False)

    loss, dh, dwte = loss_and_gradients(fused, *batch(5))
    expected = loss_and_gradients(plain, *batch(5))
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    np.testing.assert_allclose(dh, expected[1], atol=1e-5)
    assert dwte is None


def test_no_tensor_has_all_the_logits():
    @tf.function(autograph=False)
    def step(h, labels, wte):
        by_four = functools.partial(fused_loss.linear_cross_entropy, rows=4)
        return loss_and_gradients(by_four, h, labels, wte)

    graph = step.get_concrete_function(*batch(13)).graph
    shapes = [output.shape for op in graph.get_operations() for output in op.outputs]
    rows = [shape[0] for shape in shapes if shape.rank == 2 and shape[1] == 50]
    assert rows and max(rows) == 4
