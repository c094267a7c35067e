"""With LiteRT the server's texts are those of `gpt2 sample`, token by token."""

import numpy as np
import pytest
from served import Asked, started

from src.sampling import generation, litert, sample_config
from src.serving import turns

RANDOM = np.random.default_rng(5)
OPTIONS = [
    ({}, {}, {}),
    ({'temperature': 0}, {'temperature': 0}, {}),
    ({'top_k': 5}, {'top_k': 5}, {}),
    ({'top_p': 0.6, 'temperature': 0.8}, {'top_p': 0.6, 'temperature': 0.8}, {}),
    ({'repetition_penalty': 1.7}, {}, {'repetition_penalty': 1.7}),
    ({'logit_bias': {'4': 3, '5': -9}}, {}, {'logit_bias': '{"4": 3, "5": -9}'}),
    ({'stop': ['a', 'B']}, {}, {'stop': '["a", "B", "<|endoftext|>"]'}),
]


@pytest.fixture(scope='module')
def lm(exported):
    return litert.LiteRT(exported('float32'), threads=1)


@pytest.mark.parametrize('ours, options, config', OPTIONS)
def test_the_texts_of_the_command(lm, letters, ours, options, config):
    loaded = generation.Loaded(lm, letters)
    prompts = [letters.decode(RANDOM.integers(0, 96, n).tolist()) for n in (1, 9, 22)]
    config = {'stop': '<|endoftext|>', **config}  # at which the server ends a text
    expected = list(
        generation.generate(
            loaded, prompts, length=10, seed=3, nsamples=2,
            config=sample_config.SampleConfig(**config), **options,
        )
    )  # fmt: skip
    with started(turns.TextsInTurn(lm, 4)) as scheduler:
        asked = Asked(letters, prompts, max_tokens=10, seed=3, n=2, **ours)
        scheduler.submit(asked.texts)
        assert asked.done().text == expected


def test_what_was_wanted_and_who_came_between(lm):
    slots, tokens = turns.TextsInTurn(lm, 2), RANDOM.integers(0, 97, 12).tolist()
    whole = slots.read(0, tokens[:6], 6)
    slots.clear(0)
    last = slots.read(0, tokens[:6], 1)
    np.testing.assert_allclose(whole[-1:], last, atol=1e-5)
    assert slots.read(1, tokens[6:8], 0) is None and slots.length == [6, 2]
    both = slots.step([1, 0], tokens[8:10])
    for slot, known, row in ((0, [*tokens[:6], tokens[9]], both[1]), (1, tokens[6:9], both[0])):
        slots.clear(slot)
        np.testing.assert_allclose(slots.read(slot, known, 1)[0], row, atol=1e-5)
