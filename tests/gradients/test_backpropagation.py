import itertools

import numpy as np
import pytest
import tensorflow as tf

from src import model
from src.gradients import backpropagation, lean_attention, lean_block, masks

TOKENS = np.random.default_rng(0).integers(0, 97, [2, 20]).astype(np.int32)
NOISY = np.random.default_rng(1).integers(0, 97, [2, 20]).astype(np.int32)


def plain(x, params, *, attended=(), **options):
    """model.block, of which nothing is remembered."""
    return model.block(x, params, **options)[0], attended


@pytest.fixture
def compiled(tiny):
    """A compiled function to the loss and {name: gradient} of all variables."""

    def compiled(recompute, dtype=tf.float32, block=None, **options):
        block = block or lean_block.lean_block(dtype)
        trained = model.by_name(tiny.params)

        @tf.function(autograph=False)
        def function(inputs, tokens):
            loss, parts = backpropagation.loss_and_gradients(
                tiny, trained, inputs, tokens, block=block, dtype=dtype, recompute=recompute,
                **options,
            )  # fmt: skip
            parts = list(parts)
            assert len(parts) == tiny.hparams.n_layer + 2  # the last norm, layers, embeddings
            return loss, {name: g for part in parts for name, g in part.items()}

        return function

    return compiled


@pytest.mark.parametrize(
    'recompute, block, scale',
    list(itertools.product([False, True], [None, plain], [1.0, 1024.0])),
)
def test_the_gradients_are_those_of_one_tape_over_the_plain_model(
    tiny, compiled, recompute, block, scale
):
    variables = model.by_name(tiny.params)
    with tf.GradientTape() as tape:
        expected_loss = model.lm_loss(tiny(NOISY)['logits'], TOKENS)
    expected = tape.gradient(expected_loss, variables)
    loss, gradients = compiled(recompute, block=block, scale=scale)(NOISY, TOKENS)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        value = tf.convert_to_tensor(expected[name])
        np.testing.assert_allclose(gradient / scale, value, atol=1e-6, rtol=1e-5, err_msg=name)


def kept(shape, seed, *places):  # -> the same shape: what dropout multiplies by
    for place in places:
        seed = tf.random.fold_in(seed, place)
    return tf.where(tf.random.stateless_uniform(shape, seed) < 0.25, 0.0, 4 / 3)


def with_dropout(lm, tokens, seed):  # -> logits, by one plain function, with attention in slices
    hparams, params = lm.hparams, lm.params
    x = model.embed(params, tokens)
    x *= kept(x.shape, seed, hparams.n_layer)
    for layer in range(hparams.n_layer):
        p = params[f'h{layer}']
        c = model.conv1d(model.norm(x, p['ln_1']), p['attn']['c_attn'])
        q, k, v = (model.split_heads(part, hparams.n_head) for part in tf.split(c, 3, axis=2))
        w = tf.matmul(q, k, transpose_b=True) / tf.sqrt(1.0 * v.shape[-1])
        w = tf.nn.softmax(tf.where(model.attention_mask(20, 20, 0, dtype=tf.bool), w, -1e10))
        masks = [
            tf.pad(
                kept([2, hparams.n_head, src, dst], seed, layer, 0, number),
                [[0, 0], [0, 0], [0, 20 - src], [0, 0]],
            )
            for number, (src, dst) in enumerate([(8, 8), (16, 8), (20, 4)])
        ]
        masks = tf.transpose(tf.concat(masks, axis=3), [0, 1, 3, 2])
        a = model.merge_heads(tf.matmul(w * masks, v))
        x += model.conv1d(a, p['attn']['c_proj']) * kept(x.shape, seed, layer, 1)
        x += model.mlp(model.norm(x, p['ln_2']), p['mlp']) * kept(x.shape, seed, layer, 2)
    return model.logits_of(model.norm(x, params['ln_f']), params)


@pytest.mark.parametrize('recompute', [False, True])
def test_the_gradients_with_dropout_are_those_of_one_tape(tiny, compiled, monkeypatch, recompute):
    monkeypatch.setattr(lean_attention, 'SLICE', 8)
    seed, variables = tf.constant([3, 4], tf.int64), model.by_name(tiny.params)
    with tf.GradientTape() as tape:
        expected_loss = model.lm_loss(with_dropout(tiny, NOISY, seed), TOKENS)
    expected = tape.gradient(expected_loss, variables)
    block = lean_block.lean_block(dropout_rate=0.25)
    loss, gradients = compiled(recompute, block=block, dropout_rate=0.25, seed=seed)(NOISY, TOKENS)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for name, gradient in gradients.items():
        value = tf.convert_to_tensor(expected[name])
        np.testing.assert_allclose(gradient, value, atol=2e-6, rtol=2e-5, err_msg=name)


FIRSTS = np.array([[0] * 7 + [7] * 9 + [16] * 4, [0] + [1] * 19], np.int32)


def parts_of(tokens):  # [2, 20] -> each text of them alone, [1, …]
    for row, starts in ((0, (0, 7, 16, 20)), (1, (0, 1, 20))):
        for start, end in itertools.pairwise(starts):
            yield tokens[row : row + 1, start:end]


def test_texts_in_one_window_have_the_logits_of_each_alone(tiny, monkeypatch):
    monkeypatch.setattr(lean_attention, 'SLICE', 8)
    h = backpropagation.features(tiny, TOKENS, FIRSTS, lean_block.lean_block())
    together = parts_of(model.logits_of(h, tiny.params))
    for logits, tokens in zip(together, parts_of(TOKENS), strict=True):
        np.testing.assert_allclose(logits, tiny(tokens)['logits'], atol=1e-5)


@pytest.mark.parametrize('recompute', [False, True])
def test_texts_in_one_window_have_the_gradients_of_each_alone(
    tiny, compiled, monkeypatch, recompute
):
    monkeypatch.setattr(lean_attention, 'SLICE', 8)
    variables = model.by_name(tiny.params)
    with tf.GradientTape() as tape:
        expected_loss = tf.add_n([
            model.lm_loss(tiny(inputs)['logits'], tokens) * (tokens.shape[1] - 1)
            for inputs, tokens in zip(parts_of(NOISY), parts_of(TOKENS), strict=True)
            if tokens.shape[1] > 1
        ]) / (40 - 5)  # fmt: skip
    expected = tape.gradient(expected_loss, variables)
    weights = masks.loss_weights(TOKENS, FIRSTS)
    loss, gradients = compiled(recompute, weights=weights, starts=FIRSTS)(NOISY, TOKENS)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for name, gradient in gradients.items():
        value = tf.convert_to_tensor(expected[name])
        np.testing.assert_allclose(gradient, value, atol=1e-6, rtol=1e-5, err_msg=name)


def products(function):
    """How many of matrices, with those of the functions that it calls."""
    graph = function.get_concrete_function(NOISY, TOKENS).graph.as_graph_def()
    functions = {each.signature.name: each.node_def for each in graph.library.function}

    def of(nodes):
        called = (functions.get(node.attr['f'].func.name, []) for node in nodes)
        return sum(node.op == 'MatMul' for node in nodes) + sum(map(of, called))

    return of(graph.node)


def test_each_layer_is_computed_once_more_and_nothing_else(compiled):
    again = products(compiled(True, block=plain))
    assert again - products(compiled(False, block=plain)) == 4 * 3  # linear, in three layers


def layers(function):
    """The operations that compute a layer, forward and backward, in their order."""
    graph = function.get_concrete_function(NOISY, TOKENS).graph
    calls = [op for op in graph.get_operations() if op.type.endswith('PartitionedCall')]
    return [op for op in calls if '_layer_' in op.get_attr('f').name]


def test_what_a_layer_is_is_there_once_for_all_layers(compiled):
    functions = {op.get_attr('f').name for op in layers(compiled(False))}
    assert len(layers(compiled(False))) == 2 * 3 and len(functions) == 2  # forward and backward


def test_layers_are_computed_again_without_their_attention(compiled):
    operations = layers(compiled(True))
    functions = operations[0].graph.as_graph_def().library.function
    bodies = {function.signature.name: str(function) for function in functions}
    number = [bodies[op.get_attr('f').name].count('_softmax') for op in operations]
    first, again, backward = number[:3], number[3::2], number[4::2]
    assert min(first) > 0 and not any(again + backward)


@pytest.mark.parametrize('recompute', [False, True])
def test_the_gradient_needs_no_activation_of_the_forward_pass(compiled, recompute):
    first = layers(compiled(recompute, block=plain))[:3]
    assert [len(op.outputs) == 1 for op in first] == [recompute] * 3  # or also what is remembered
