import numpy as np
import pytest
import tensorflow as tf

from src.gradients import dropout

SEED = np.array([1, 2], np.int64)


@pytest.mark.parametrize('rate', [0.0, 0.1, 0.9])
@pytest.mark.parametrize('dtype', [tf.float32, tf.float16])
def test_the_mean_stays(rate, dtype):
    x = dropout.dropped(tf.ones([100, 1000], dtype), rate, SEED)
    x = tf.cast(x, tf.float32).numpy()
    np.testing.assert_allclose(sorted({0.0, *x.ravel()}), sorted({0.0, 1 / (1 - rate)}), rtol=1e-3)
    assert abs((x == 0).mean() - rate) < 0.004  # more than 4 standard deviations
    assert abs(x.mean() - 1) < 0.04


def test_a_seed_decides_whatever_the_dtype():
    def zeros(seed, dtype=tf.float32):
        return (dropout.dropped(tf.ones([50, 50], dtype), 0.5, seed) == 0).numpy().tolist()

    places = [dropout.seed_of(SEED, place) for place in range(3)]
    assert zeros(SEED) == zeros(SEED, tf.bfloat16)
    assert len({str(zeros(seed)) for seed in (SEED, *places)}) == 4


def test_without_a_seed_nothing_is_done():
    x = tf.ones([3])
    assert dropout.seed_of(None, 3) is None
    assert dropout.dropped(x, 0.5, None) is x
