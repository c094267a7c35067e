import numpy as np
import pytest
import tensorflow as tf

from src import sample
from src.sampling import sample_numpy


def both(logits, uniforms, temperature, top_k, top_p):
    """What sample.choose and its twin choose, as two lists."""
    theirs = sample.choose(
        tf.constant(logits), tf.constant(uniforms, tf.float64),
        temperature=None if temperature is None else tf.constant(temperature, tf.float32),
        top_k=top_k, top_p=None if top_p is None else tf.constant(top_p, tf.float32),
    )  # fmt: skip
    options = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
    ours = [sample_numpy.choose(*row, **options) for row in zip(logits, uniforms, strict=True)]
    return theirs.numpy().tolist(), ours


@pytest.mark.parametrize('temperature', [None, 1e-300, 1e-40, 0.1, 0.7, 1, 3])
@pytest.mark.parametrize('top_k', [0, 1, 5, 40, 200, 5000])
@pytest.mark.parametrize('top_p', [None, 1e-40, 1e-6, 0.5, 0.9, 0.999])
def test_the_same_tokens_from_the_same_numbers(temperature, top_k, top_p):
    random = np.random.default_rng(top_k)
    logits = random.normal(0, 4, [200, 200]).astype(np.float32)
    theirs, ours = both(logits, random.random(200), temperature, top_k, top_p)
    assert ours == theirs
    if temperature and temperature < 1e-20 or top_p == 1e-40:  # as good as none
        assert ours == logits.argmax(axis=1).tolist()


def test_what_is_banned_is_no_token_at_any_temperature():
    logits = np.float32([[1, sample_numpy.LOWEST, 2, sample_numpy.LOWEST]])
    for uniform in np.linspace(0, 1, 11, endpoint=False):
        theirs, ours = both(logits, [uniform], 0.1, 0, None)
        assert ours == theirs and ours[0] in (0, 2)


@pytest.mark.parametrize('top_k', [0, 1, 3])
def test_equal_logits_stay_together(top_k):
    logits = np.tile(np.float32([1, 2, 2, 0, 2]), [101, 1])
    theirs, ours = both(logits, np.linspace(0, 1, 101, endpoint=False), 1, top_k, None)
    assert ours == theirs
    assert set(ours) == ({1, 2, 4} if top_k else {0, 1, 2, 3, 4})


@pytest.mark.parametrize('vocab', [1, 2, 31, 33, 64, 1000])
@pytest.mark.parametrize('decimals', [0, 6])  # with many equal ones, and with few
def test_the_k_likeliest_are_those_that_sorting_finds(vocab, decimals):
    logits = np.random.default_rng(vocab).normal(0, 3, vocab).round(decimals).astype(np.float32)
    for k in range(1, vocab + 1):
        expected = np.flatnonzero(logits >= sorted(logits)[-k])
        assert sample_numpy.top_k_tokens(logits, k).tolist() == expected.tolist()


@pytest.mark.parametrize('uniform', [0.0, 1 - 2**-24, 1 - 2**-53])
def test_the_ends_of_the_numbers_give_the_ends_of_what_is_kept(uniform):
    logits = np.float32([[-1e9, 0, 1, -1e9, 2, -1e9]])
    theirs, ours = both(logits, [uniform], 1, 0, None)
    assert ours == theirs == [1 if uniform == 0 else 4]


def test_a_worked_example():
    logits = np.log(np.float32([0.1, 0.2, 0.3, 0.4]))
    draw = {u: sample_numpy.choose(logits, u, temperature=1, top_k=0, top_p=None)
            for u in (0.05, 0.15, 0.31, 0.59, 0.61, 0.99)}  # fmt: skip
    assert list(draw.values()) == [0, 1, 2, 2, 3, 3]


def test_the_numbers_of_a_row_do_not_depend_on_the_other_rows():
    alone = [sample_numpy.uniforms_for(7, [row], 5)[0].tolist() for row in range(4)]
    assert sample_numpy.uniforms_for(7, range(4), 5).tolist() == alone
    assert sample_numpy.uniforms_for(7, [2], 9)[0, :5].tolist() == alone[2]
    assert len({tuple(row) for row in alone}) == 4
    assert (
        sample_numpy.uniforms_for(None, [0], 5).tolist()
        != sample_numpy.uniforms_for(None, [0], 5).tolist()
    )
