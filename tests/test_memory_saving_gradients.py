import collections

import numpy as np
import pytest
import tensorflow as tf

from src import memory_saving_gradients, model


@pytest.fixture
def gradients(tiny):
    """A compiled function to the loss and its gradients with a given block."""

    def gradients(block):
        variables = list(model.by_name(tiny.params).values())

        @tf.function(autograph=False)
        def function(tokens):
            with tf.GradientTape() as tape:
                h, _ = model.transformer(tiny.hparams, tiny.params, tokens, block=block)
                loss = model.lm_loss(model.logits_of(h, tiny.params), tokens)
            return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]

        return function

    return gradients


TOKENS = tf.constant(np.random.default_rng(0).integers(0, 97, [2, 20]), tf.int32)


def test_recomputed_gradients_are_the_remembered_ones(gradients):
    loss, expected = gradients(model.block)(TOKENS)
    again, recomputed = gradients(memory_saving_gradients.recompute(model.block))(TOKENS)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    for a, b in zip(recomputed, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5)


def test_each_block_is_computed_once_more_and_nothing_else(gradients):
    def products(block):
        graph = gradients(block).get_concrete_function(TOKENS).graph
        return collections.Counter(op.type for op in graph.get_operations())['MatMul']

    recomputed = products(memory_saving_gradients.recompute(model.block))
    assert recomputed - products(model.block) == 4 * 3  # c_attn, c_proj, c_fc, c_proj; three layers


def test_the_gradient_needs_no_activation_of_the_forward_pass(gradients):
    def remembered(block):
        """The uses that the backward pass makes of what gelu computed on the way forward."""
        graph = gradients(block).get_concrete_function(TOKENS).graph
        forward = [op for op in graph.get_operations() if op.type == 'Tanh'][:3]
        uses = [use.name for op in forward for use in op.outputs[0].consumers()]
        return [name for name in uses if name.startswith('gradient_tape')]

    assert len(remembered(model.block)) >= 3
    assert not remembered(memory_saving_gradients.recompute(model.block))
