import numpy as np
import tensorflow as tf

from src.gradients import masks


def test_a_sign_says_what_is_not_to_be_learnt():
    window = tf.constant([[~0, 0, 5, ~50256, 7]])
    assert masks.tokens_of(window).numpy().tolist() == [[0, 0, 5, 50256, 7]]
    # Of four tokens that can be predicted three are learnt: the mean of the weights is 1
    np.testing.assert_allclose(masks.loss_weights(window), [[4 / 3, 4 / 3, 0, 4 / 3]])


def test_the_mean_is_over_all_batches():
    batches = tf.constant([[[1, 2, 3]], [[1, ~2, 3]]])
    np.testing.assert_allclose(masks.loss_weights(batches), [[[4 / 3, 4 / 3]], [[0, 4 / 3]]])


def test_texts_begin_behind_ends_and_where_the_window_does():
    tokens = tf.constant([[5, 6, 9, 7, 9, 9, 8], [9, 5, 5, 5, 5, 5, 9], [5, 6, 7, 5, 6, 7, 8]])
    starts = masks.document_starts(tokens, 9)
    assert starts.numpy().tolist() == [
        [0, 0, 0, 3, 3, 5, 6], [0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0],
    ]  # fmt: skip
    stacked = masks.document_starts(tf.stack([tokens, tokens[::-1]]), 9)
    assert np.array_equal(stacked, np.stack([starts, starts[::-1]]))


def test_the_first_token_of_a_text_is_not_predicted():
    parts = masks.parts_of(tf.constant([[5, 6, ~9, 7, 9, ~9]]), True, end=9)
    assert parts['tokens'].numpy().tolist() == [[5, 6, 9, 7, 9, 9]]
    # 6 behind 5, and 9 behind 7: two of five
    np.testing.assert_allclose(parts['weights'], [[2.5, 0, 0, 2.5, 0]])


def test_what_is_not_wanted_is_not_there():
    tokens = tf.constant([[1, 2]])
    assert masks.parts_of(tokens, False) == {'tokens': tokens}
    assert set(masks.parts_of(tokens, True)) == {'tokens', 'weights'}
    assert set(masks.parts_of(tokens, False, end=2)) == {'tokens', 'weights', 'starts'}


def test_where_nothing_is_learnt_all_weights_are_0():
    assert masks.loss_weights(tf.constant([[3, ~3, ~0]])).numpy().tolist() == [[0, 0]]
