import numpy as np
import tensorflow as tf

from src import accumulate


def quadratic(x):
    """Loss and gradient of mean((w - x)²) at w = 3, by hand."""

    def loss_and_gradients(batch):
        return tf.reduce_mean((x - batch) ** 2), [2 * tf.reduce_mean(x - batch)[None]]

    return loss_and_gradients


def test_the_mean_over_small_batches_is_that_over_the_large_one():
    batches = tf.constant(np.random.default_rng(0).normal(size=[4, 2, 5]).astype(np.float32))
    loss, (gradient,) = accumulate.mean_gradients(quadratic(3.0), batches, [[1]])
    large_loss, (large_gradient,) = quadratic(3.0)(tf.reshape(batches, [8, 5]))
    np.testing.assert_allclose(loss, large_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, large_gradient, rtol=1e-6)


def test_the_arithmetic_of_two_batches():
    loss, (gradient,) = accumulate.mean_gradients(quadratic(3.0), tf.constant([1.0, 5.0]), [[1]])
    assert (float(loss), gradient.numpy().tolist()) == (4.0, [0.0])  # (2² + 2²) / 2, (4 - 4) / 2


def test_a_batch_may_have_several_parts():
    def product(batch):
        value = tf.reduce_sum(batch['x'] * batch['y'])
        return value, [2 * value[None]]

    batches = {'x': tf.constant([[1.0, 2.0], [3.0, 4.0]]), 'y': tf.constant([10.0, 100.0])}
    loss, (gradient,) = accumulate.mean_gradients(product, batches, [[1]])
    assert (float(loss), gradient.numpy().tolist()) == ((30 + 700) / 2, [730.0])


def test_the_function_is_traced_once_however_many_batches():
    traces = []

    @tf.function
    def mean(batches):
        def counted(batch):
            traces.append(1)
            return quadratic(3.0)(batch)

        return accumulate.mean_gradients(counted, batches, [[1]])

    mean(tf.zeros([50, 2]))
    assert len(traces) == 1
