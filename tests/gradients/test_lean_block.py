import collections

import numpy as np
import pytest
import tensorflow as tf

from src import model
from src.gradients import lean_attention, lean_block


def gradients(block, lm, x):
    """A block's output and all gradients, from an upstream gradient that is not all ones."""
    params = lm.params['h1']
    upstream = tf.cos(tf.range(tf.size(x), dtype=tf.float32))

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, _ = block(x, params, past=None, hparams=lm.hparams)
            loss = tf.reduce_sum(tf.reshape(y, [-1]) * upstream)
        return [y, *tape.gradient(loss, [x, *model.by_name(params).values()])]

    return run(x)


@pytest.mark.parametrize('window', [1, 4, 7, 16])
def test_it_is_the_models_block_with_its_gradients(tiny, monkeypatch, window):
    monkeypatch.setattr(lean_attention, 'SLICE', 4)
    x = tf.constant(np.random.default_rng(0).normal(size=[2, window, 24]).astype(np.float32))
    block = lean_block.lean_block()
    for value, other in zip(
        gradients(block, tiny, x), gradients(model.block, tiny, x), strict=True
    ):
        np.testing.assert_allclose(value, other, atol=5e-5)


def used_operations(function, *arguments):
    """The names of the operations of a function's graph that its outputs need."""
    outputs = function.get_concrete_function(*arguments).graph.outputs
    found, waiting = {}, [output.op for output in outputs]
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op.type
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return collections.Counter(found.values())


def test_what_is_computed_again_is_not_the_matrix_products(tiny):
    params = list(model.by_name(tiny.params['h0']).values())

    def operations(block):
        @tf.function(autograph=False)
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y, _ = block(x, tiny.params['h0'], past=None, hparams=tiny.hparams)
            return tape.gradient(y, [x, *params])

        return used_operations(run, tf.zeros([1, 32, 24]))

    plain, lean = operations(model.block), operations(lean_block.lean_block())
    # Four linear layers, of which the last need not be computed, and two products for the gradient
    # of each. Of attention's two products, the one that makes the weights is repeated.
    assert plain['MatMul'] == lean['MatMul'] == 3 + 2 * 4
    assert plain['BatchMatMulV2'] + 1 == lean['BatchMatMulV2'] == 2 + 1 + 4


def test_gelu_has_its_gradient():
    x = tf.linspace(-6.0, 6.0, 101)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, plain = lean_block.gelu(x), model.gelu(x)
    np.testing.assert_allclose(ours, plain, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(ours, x), tape.gradient(plain, x), atol=1e-5)


@pytest.mark.parametrize('gpus, sequence', [([], 5), (['GPU:0'], 6)])  # two shapes: compiled anew
def test_norm_has_its_gradients(gpus, sequence, monkeypatch):
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
    random = np.random.default_rng(0)
    shape = [2, sequence, 24]
    x, upstream = (tf.constant(random.normal(3, 2, shape), tf.float32) for _ in range(2))
    params = {name: tf.constant(random.normal(size=24), tf.float32) for name in 'gb'}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, params])
        ours, plain = lean_block.norm(x, params), model.norm(x, params)
    np.testing.assert_allclose(ours, plain, atol=1e-5)
    for wanted in (x, params['g'], params['b']):
        expected = tape.gradient(plain, wanted, upstream)
        np.testing.assert_allclose(tape.gradient(ours, wanted, upstream), expected, atol=1e-4)
