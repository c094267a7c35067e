"""A token of one text: OpenAI's penalties, and what is likeliest."""

import math

import numpy as np
import pytest

from src.sampling import sample_numpy
from src.serving import drawing
from src.serving.completions import Settings

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.standard_normal(50).astype(np.float32)


def draw(uniform=0.0, tokens=(1, 2), begin=2, logits=LOGITS, **settings):
    settings = Settings(1, **settings)
    return drawing.draw(logits, np.array(tokens, np.int32), begin, uniform, settings)


@pytest.mark.parametrize('uniform', [0, 0.3, 0.99])
def test_without_penalties_it_is_the_draw_of_the_commands(uniform):
    expected = sample_numpy.choose(LOGITS, uniform, temperature=0.7, top_k=9, top_p=0.8)
    assert draw(uniform, temperature=0.7, top_k=9, top_p=0.8) == expected


def test_penalties_count_what_was_said_and_not_the_prompt():
    best, second = np.argsort(-LOGITS)[:2].tolist()
    gap = float(LOGITS[best] - LOGITS[second])
    for name, times in (('presence_penalty', 1), ('frequency_penalty', 3)):
        for more, expected in ((-1e-3, best), (1e-3, second)):
            options = {'temperature': 0, name: (gap + more) / times}
            assert draw(tokens=[5, best, best, best], begin=1, **options) == expected
            assert draw(tokens=[best, best, best, 5], begin=3, **options) == best
    assert draw(tokens=[5, second], begin=1, temperature=0, presence_penalty=-gap - 1e-3) == second


def test_bias_and_repetition_penalty():
    best = int(np.argmax(LOGITS))
    bias = np.zeros(50, np.float32)
    bias[7] = 100
    assert draw(temperature=0, bias=bias) == 7
    bias[7], bias[best] = 0, -np.inf
    assert draw(temperature=0, bias=bias) == np.argsort(-LOGITS)[1]
    assert draw(tokens=[best], begin=1, temperature=0, repetition_penalty=1e3) != best


def test_logits_that_are_no_numbers():
    with pytest.raises(ValueError, match='NaN'):
        draw(logits=np.array([1, math.nan], np.float32))


def test_log_softmax():
    logits = np.array([[0, math.log(3)], [1000, 0]], np.float32)
    np.testing.assert_allclose(
        drawing.log_softmax(logits), [[math.log(1 / 4), math.log(3 / 4)], [0, -1000]], atol=1e-7
    )


def test_the_likeliest_and_of_equals_the_lower():
    logs = np.array([1.0, 3, 2, 3, 2, 0])
    for number, expected in ((0, []), (1, [1]), (2, [1, 3]), (3, [1, 3, 2]), (4, [1, 3, 2, 4])):
        assert drawing.likeliest(logs, number) == expected
    assert drawing.likeliest(logs, 20) == [1, 3, 2, 4, 0, 5]
