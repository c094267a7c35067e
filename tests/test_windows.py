import numpy as np
import tensorflow as tf

from src import windows


def test_a_sign_says_what_is_not_to_be_learnt():
    window = tf.constant([[~0, 0, 5, ~50256, 7]])
    assert windows.tokens_of(window).numpy().tolist() == [[0, 0, 5, 50256, 7]]
    # Of four tokens that can be predicted three are learnt: the mean of the weights is 1
    np.testing.assert_allclose(windows.weights_of(window), [[4 / 3, 4 / 3, 0, 4 / 3]])


def test_the_mean_is_over_all_batches():
    batches = tf.constant([[[1, 2, 3]], [[1, ~2, 3]]])
    np.testing.assert_allclose(windows.weights_of(batches), [[[4 / 3, 4 / 3]], [[0, 4 / 3]]])


def test_where_nothing_is_learnt_all_weights_are_0():
    assert windows.weights_of(tf.constant([[3, ~3, ~0]])).numpy().tolist() == [[0, 0]]
