import numpy as np
import pytest
import tensorflow as tf

from src import model
from src.gradients import lean_attention

N_HEAD, FEATURES = 3, 12


def plain(c, n_head):
    """By the functions of model.attn."""
    q, k, v = (model.split_heads(part, n_head) for part in tf.split(c, 3, axis=2))
    return model.merge_heads(model.multihead_attn(q, k, v, 0))


def value_and_gradient(function, c):
    with tf.GradientTape() as tape:
        tape.watch(c)
        a = function(c)
        loss = tf.reduce_sum(tf.cast(a, tf.float32) * tf.cos(tf.range(FEATURES, dtype=tf.float32)))
    return a, tape.gradient(loss, c)


@pytest.mark.parametrize('dtype, tolerance', [(tf.float32, 1e-5), (tf.bfloat16, 0.05)])
@pytest.mark.parametrize('window', [1, 4, 5, 16, 19])
@pytest.mark.parametrize('compiled', [False, True])
def test_it_is_the_models_attention_with_its_gradient(
    monkeypatch, window, dtype, tolerance, compiled
):
    monkeypatch.setattr(lean_attention, 'SLICE', 4)
    random = np.random.default_rng(window)
    c = tf.constant(random.normal(size=[2, window, 3 * FEATURES]), tf.float32)

    def run(c):
        return value_and_gradient(lambda c: lean_attention.attention(c, N_HEAD)[0], c)

    found = (tf.function(run, autograph=False) if compiled else run)(tf.cast(c, dtype))
    right = value_and_gradient(lambda c: plain(c, N_HEAD), c)
    for value, expected in zip(found, right, strict=True):
        assert value.dtype == dtype
        np.testing.assert_allclose(tf.cast(value, tf.float32), expected, atol=tolerance)


@pytest.mark.parametrize('begins', [[0], [0, 1, 2], [0, 3, 8, 9], [0, 15], [0, 4, 6]])
def test_texts_in_one_window_are_as_if_alone(monkeypatch, begins):
    monkeypatch.setattr(lean_attention, 'SLICE', 4)
    ends = [*begins[1:], 16]
    c = tf.constant(np.random.default_rng(0).normal(size=[2, 16, 3 * FEATURES]), tf.float32)
    starts = np.repeat(begins, np.subtract(ends, begins))
    starts = tf.constant([starts, np.zeros(16, int)], tf.int32)  # the second window is one text

    def alone(c):
        parts = [plain(c[:1, start:end], N_HEAD) for start, end in zip(begins, ends, strict=True)]
        return tf.concat([tf.concat(parts, axis=1), plain(c[1:], N_HEAD)], axis=0)

    found = value_and_gradient(lambda c: lean_attention.attention(c, N_HEAD, starts)[0], c)
    for value, expected in zip(found, value_and_gradient(alone, c), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_the_gradient_uses_no_weights_of_the_forward_pass(monkeypatch):
    monkeypatch.setattr(lean_attention, 'SLICE', 4)

    @tf.function(autograph=False)
    def run(c):
        return value_and_gradient(lambda c: lean_attention.attention(c, N_HEAD)[0], c)

    graph = run.get_concrete_function(tf.zeros([1, 16, 3 * FEATURES])).graph
    calls = [op for op in graph.get_operations() if '_softmax' in str(op.node_def.attr['f'])]
    assert [op.outputs[0].shape[2:] for op in calls] == [(4, 4), (8, 4), (12, 4), (16, 4)]
    for op in calls:
        (use,) = op.outputs[0].consumers()
        assert use.type == 'BatchMatMulV2'
