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


def orthogonal(x):  # [..., n, m]
    """Muon's matrix by its singular vectors: the polynomial is one of the singular values."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s /= np.linalg.norm(s, axis=-1, keepdims=True)
    for a, b, c in optimizer.POLYNOMIALS:
        s = a * s + b * s**3 + c * s**5
    return u * s[..., None, :] @ vt


@pytest.mark.parametrize('stack', [1, 10**6])  # each variable by itself, and many at once
def test_muon_is_jordans_in_the_size_of_adam(stack, monkeypatch):
    monkeypatch.setattr(optimizer, 'STACK', stack)
    random = np.random.default_rng(0)
    shapes = {
        'model/h0/attn/c_attn/w': (1, 4, 12), 'model/h0/attn/c_proj/w': (1, 4, 4),
        'model/h0/mlp/c_fc/w': (1, 4, 16), 'model/h0/mlp/c_proj/w': (1, 16, 4),
        'model/h1/mlp/c_fc/w': (1, 4, 16), 'model/h1/attn/c_attn/lora/a': (6, 3),
        'model/h1/attn/c_attn/lora/b': (3, 12), 'model/h1/ln_1/g': (4,), 'model/wte': (5, 4),
    }  # fmt: skip
    parts = {name: 3 if name.endswith(('c_attn/w', 'c_attn/lora/b')) else 1 for name in shapes}
    w = {name: random.normal(size=shape) for name, shape in shapes.items()}
    variables = {name: tf.Variable(value.astype(np.float32)) for name, value in w.items()}
    muon = optimizer.Muon(variables, weight_decay=0.1, beta2=0.99)
    of_adam = {name: tf.Variable(variables[name]) for name in ('model/h1/ln_1/g', 'model/wte')}
    adam = optimizer.Adam(of_adam, weight_decay=0.1, beta2=0.99)
    m = dict.fromkeys(set(shapes) - set(of_adam), 0.0)
    for t in range(4):
        gradients = {name: random.normal(size=shape) * 1e-3 for name, shape in shapes.items()}
        for name in m:
            m[name] = 0.95 * m[name] + gradients[name]
            direction = np.split(gradients[name] + 0.95 * m[name], parts[name], axis=-1)
            size = 0.2 * max(direction[0].shape[-2:]) ** 0.5
            step = np.concatenate([size * orthogonal(part) for part in direction], axis=-1)
            w[name] = w[name] - 0.01 * (0.1 * w[name] + step)
        named = {name: tf.constant(g, tf.float32) for name, g in gradients.items()}
        muon.apply(named, tf.constant(0.01), tf.constant(float(t)))
        adam.apply({n: named[n] for n in of_adam}, tf.constant(0.01), tf.constant(float(t)))
    for name, variable in variables.items():
        expected = of_adam.get(name, w[name])
        np.testing.assert_allclose(variable, expected, atol=2e-5, err_msg=name)
    assert set(muon.slots) == {f'muon/m/{name}' for name in m} | set(adam.slots)
    for name, value in m.items():
        np.testing.assert_allclose(muon.slots[f'muon/m/{name}'], value, atol=1e-8)


@pytest.mark.parametrize('shape', [(2, 8, 8), (3, 5, 40), (1, 1, 7), (1, 64, 64)])
@pytest.mark.parametrize('size', [1e-4, 1.0, 1e4])
def test_an_orthogonal_update_has_the_singular_vectors_and_values_near_1(shape, size):
    x = np.random.default_rng(1).normal(size=shape) * size
    y = optimizer.orthogonal(tf.constant(x, tf.float32)).numpy()
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    turned = u.swapaxes(1, 2) @ y @ vt.swapaxes(1, 2)  # diagonal, where the vectors are the same
    values = np.diagonal(turned, axis1=1, axis2=2)
    np.testing.assert_allclose(turned, values[..., None] * np.eye(shape[1]), atol=1e-3)
    large = s / np.linalg.norm(s, axis=-1, keepdims=True) > 0.003
    assert large.mean() > 0.9
    assert (0.35 < values[large]).all() and (values < 1.65).all()


def test_each_polynomial_is_the_best_after_those_before_it():
    """Its error swings between four extremes of one size, as Chebyshev has it."""
    x = np.linspace(0.003, 1, 100_001)
    for a, b, c in optimizer.POLYNOMIALS:
        x = np.linspace(x.min(), x.max(), 100_001)
        error = a * x + b * x**3 + c * x**5 - 1
        turns = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
        extremes = error[[0, *turns, -1]]
        assert len(extremes) == 4 and (np.sign(extremes) == [-1, 1, -1, 1]).all()
        np.testing.assert_allclose(np.abs(extremes), np.abs(extremes[0]), atol=2e-3)
        x = 1 + error


def test_an_update_of_nothing_is_nothing():
    assert not optimizer.orthogonal(tf.zeros([2, 3, 5])).numpy().any()
