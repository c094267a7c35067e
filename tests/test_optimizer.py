import numpy as np
import tensorflow as tf

from src import optimizer


def test_adam_is_kingma_and_bas_with_epsilon_hat():
    random = np.random.default_rng(0)
    w = random.normal(size=5)
    variable = tf.Variable(w.astype(np.float32))
    adam = optimizer.Adam({'w': variable})
    m = v = 0.0
    for t in range(1, 8):
        gradient = random.normal(size=5) * 1e-4
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 0.01 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        w = w - rate * m / (v**0.5 + 1e-8)
        adam.apply([tf.constant(gradient, tf.float32)], 0.01, tf.constant(t - 1.0))
        np.testing.assert_allclose(variable, w, rtol=1e-5)
    np.testing.assert_allclose(adam.slots['adam/m/w'], m, rtol=1e-5)
    np.testing.assert_allclose(adam.slots['adam/v/w'], v, rtol=1e-4)


def test_sgd_takes_the_learning_rate_times_the_gradient():
    variable = tf.Variable([1.0, 2.0])
    sgd = optimizer.SGD({'w': variable})
    sgd.apply([tf.constant([10.0, -10.0])], 0.1, tf.constant(0.0))
    assert variable.numpy().tolist() == [0.0, 3.0]
    assert sgd.slots == {}
