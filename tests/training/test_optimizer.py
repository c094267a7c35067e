import numpy as np
import pytest
import tensorflow as tf

from src.training import optimizer


@pytest.mark.parametrize('beta2', [0.999, 0.9])
def test_adam_is_kingma_and_bas_with_epsilon_hat(beta2):
    random = np.random.default_rng(0)
    w = random.normal(size=5)
    variable = tf.Variable(w.astype(np.float32))
    adam = optimizer.Adam({'w': variable}, beta2=beta2)
    m = v = 0.0
    for t in range(1, 8):
        gradient = random.normal(size=5) * 1e-4
        m = 0.9 * m + 0.1 * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        rate = 0.01 * (1 - beta2**t) ** 0.5 / (1 - 0.9**t)
        w = w - rate * m / (v**0.5 + 1e-8)
        adam.apply({'w': tf.constant(gradient, tf.float32)}, 0.01, tf.constant(t - 1.0))
        np.testing.assert_allclose(variable, w, rtol=1e-5)
    np.testing.assert_allclose(adam.slots['adam/m/w'], m, rtol=1e-5)
    np.testing.assert_allclose(adam.slots['adam/v/w'], v, rtol=1e-4)


def test_sgd_takes_the_learning_rate_times_the_gradient():
    variable = tf.Variable([1.0, 2.0])
    sgd = optimizer.SGD({'w': variable})
    sgd.apply({'w': tf.constant([10.0, -10.0])}, 0.1, tf.constant(0.0))
    assert variable.numpy().tolist() == [0.0, 3.0]
    assert sgd.slots == {}


def test_weight_decay_is_adamws_and_spares_vectors():
    matrix, vector = tf.Variable([[2.0, -2.0]]), tf.Variable([2.0])
    adamw = optimizer.Adam({'w': matrix, 'b': vector}, weight_decay=0.1)
    gradients = {'w': tf.constant([[0.5, 0.5]]), 'b': tf.constant([0.5])}
    adamw.apply(gradients, tf.constant(0.01), tf.constant(0.0))
    # Adam's first step is the learning rate in the direction of the gradient
    np.testing.assert_allclose(matrix, [[2 - 0.01 * 0.1 * 2 - 0.01, -2 + 0.01 * 0.1 * 2 - 0.01]])
    np.testing.assert_allclose(vector, [2 - 0.01])


def test_adafactor_is_shazeer_and_sterns():
    random = np.random.default_rng(0)
    w, b = random.normal(size=(1, 3, 4)), random.normal(size=5)
    variables = {n: tf.Variable(value.astype(np.float32)) for n, value in (('w', w), ('b', b))}
    adafactor = optimizer.Adafactor(variables)
    rows, columns, v = np.zeros((1, 3)), np.zeros((1, 4)), np.zeros(5)
    for t in range(1, 6):
        gradients = random.normal(size=(1, 3, 4)), random.normal(size=5)
        decay = 1 - t**-0.8
        squares = gradients[0] ** 2 + 1e-30
        rows = decay * rows + (1 - decay) * squares.mean(2)
        columns = decay * columns + (1 - decay) * squares.mean(1)
        factored = rows[:, :, None] * columns[:, None, :] / rows.mean(1)[:, None, None]
        v = decay * v + (1 - decay) * (gradients[1] ** 2 + 1e-30)
        steps = [gradients[0] / factored**0.5, gradients[1] / v**0.5]
        steps = [step / max(1, (step**2).mean() ** 0.5) for step in steps]
        w, b = w - 0.01 * steps[0], b - 0.01 * steps[1]
        named = {n: tf.constant(g, tf.float32) for n, g in zip('wb', gradients, strict=True)}
        adafactor.apply(named, tf.constant(0.01), tf.constant(t - 1.0))
    np.testing.assert_allclose(variables['w'], w, rtol=1e-4)
    np.testing.assert_allclose(variables['b'], b, rtol=1e-4)
    assert sum(slot.shape.num_elements() for slot in adafactor.slots.values()) == 3 + 4 + 5
