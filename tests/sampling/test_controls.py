import numpy as np
import pytest
import tensorflow as tf

from src import sample
from src.sampling import controls, sample_config

VOCAB = 12
OFF = float(tf.float32.min)


def applied(tokens, known, logits=None, **settings):
    """What is left of the logits, [batch, VOCAB], compiled as it is when sampling."""
    tokens = np.array(tokens, np.int32)
    if logits is None:
        logits = np.tile(np.linspace(-2, 2, VOCAB, dtype=np.float32), [len(tokens), 1])
    run = tf.function(controls.Controls(**settings).applied, jit_compile=True, autograph=False)
    return run(tf.constant(logits), tf.constant(tokens), tf.constant(known, tf.int32)).numpy()


def off(logits):
    return [np.flatnonzero(row == np.float32(OFF)).tolist() for row in logits]


def test_all_off_changes_nothing():
    logits = np.random.default_rng(0).normal(size=[2, VOCAB]).astype(np.float32)
    assert (applied([[1, 2], [3, 4]], [2, 1], logits) == logits).all()


def test_what_is_there_is_penalized_and_what_lies_behind_is_not():
    logits = np.array([[2.0, -2.0, 3.0, -3.0, 4.0] + [1.0] * 7] * 2, np.float32)
    tokens = [[0, 1, 1, 4], [2, 3, 9, 9]]
    result = applied(tokens, [3, 2], logits, repetition_penalty=tf.constant(2.0))
    expected = logits.copy()
    expected[0, [0, 1]] = [1, -4]
    expected[1, [2, 3]] = [1.5, -6]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize('n', [1, 2, 3, 4])
def test_no_ngram_is_repeated_as_a_loop_over_all_of_them_says(n):
    random = np.random.default_rng(n)
    tokens = random.integers(0, 3, [20, 15])
    known = random.integers(1, 16, 20)
    expected = []
    for row, length in zip(tokens.tolist(), known, strict=True):
        text = row[:length]
        there = [tuple(text[i : i + n]) for i in range(length - n + 1)]
        end = text[length - n + 1 :]
        expected.append(sorted({g[-1] for g in there if length >= n and list(g[:-1]) == end}))
    assert off(applied(tokens, known, no_repeat_ngram=n)) == expected


def test_the_last_token_of_a_banned_phrase_is_banned_behind_the_others():
    banned = tf.constant(sample_config.phrases([[7], [1, 2], [3, 1, 4]]))
    tokens = [[0, 1, 5], [3, 1, 5], [1, 3, 0], [1, 1, 2]]
    assert off(applied(tokens, [2, 2, 3, 1], banned=banned)) == [[2, 7], [2, 4, 7], [7], [2, 7]]
    assert sample_config.phrases([]) is None


def test_a_bias_is_added():
    bias = np.arange(VOCAB, dtype=np.float32)
    logits = np.ones([1, VOCAB], np.float32)
    np.testing.assert_array_equal(
        applied([[1]], [1], logits, bias=tf.constant(bias)), logits + bias
    )


def test_sampling_obeys(successor):
    def said(length, **settings):
        rows = sample.Rows(
            successor, [[3]], length, np.full([1, length], 0.5), temperature=0,
            controls=controls.Controls(**settings),
        )  # fmt: skip
        rows.grow(length)
        return rows.tokens[0].tolist()

    assert said(3) == [3, 4, 5, 6]
    assert said(2, banned=tf.constant([[5]])) == [3, 4, 0]
    assert said(51, no_repeat_ngram=1)[:51] == [*range(3, 50), 0, 1, 2, 0]
