"""Texts that are worked on together are those that each of them is alone."""

import numpy as np
import pytest
from served import Asked, started

from src import model
from src.exporting import tflite_file
from src.sampling import generation, litert, litert_slots, sample_config, sample_numpy

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
def test_the_texts_of_the_server_are_those_of_the_command(lm, letters, ours, options, config):
    loaded = generation.Loaded(lm, letters)
    prompts = [letters.decode(RANDOM.integers(0, 96, n).tolist()) for n in (1, 9, 22)]
    config = {'stop': '<|endoftext|>', **config}  # at which the server ends a text
    expected = list(
        generation.generate(
            loaded, prompts, length=10, seed=3, nsamples=2,
            config=sample_config.SampleConfig(**config), **options,
        )
    )  # fmt: skip
    with started(litert_slots.Slots(lm, 4)) as scheduler:
        asked = Asked(letters, prompts, max_tokens=10, seed=3, n=2, **ours)
        scheduler.submit(asked.texts)
        assert asked.done().text == expected


def test_what_was_wanted_and_who_came_between(lm):
    slots, tokens = litert_slots.Slots(lm, 2), RANDOM.integers(0, 97, 12).tolist()
    whole = slots.read([(0, tokens[:6], 6)])[0]
    slots.clear(0)
    last = slots.read([(0, tokens[:6], 1)])[0]
    np.testing.assert_allclose(whole[-1:], last, atol=1e-5)
    assert not len(slots.read([(1, tokens[6:8], 0)])[0]) and slots.length == [6, 2]
    both = slots.step([1, 0], tokens[8:10])
    for slot, known, row in ((0, [*tokens[:6], tokens[9]], both[1]), (1, tokens[6:9], both[0])):
        slots.clear(slot)
        np.testing.assert_allclose(slots.read([(slot, known, 1)])[0][0], row, atol=1e-5)


@pytest.fixture(scope='module', params=litert.DTYPES)
def wide(request, tmp_path_factory):
    """A model with random weights and a window of several pages."""
    hparams = model.HParams(n_vocab=97, n_ctx=200, n_embd=48, n_head=3, n_layer=2)
    shapes = model.by_name(model.parameter_shapes(hparams))
    path = tmp_path_factory.mktemp('wide') / 'm'
    weights = {name: RANDOM.normal(size=s).astype(np.float32) / 4 for name, s in shapes.items()}
    with open(path, 'wb') as file:
        tflite_file.write(file, str(path.parent), hparams, request.param, weights.__getitem__)
    return litert.LiteRT(str(path), threads=1)


def test_texts_that_join_and_leave_get_what_they_get_alone(wide):
    """Five at a time, at their own pace and in any order; who comes takes pages that are free."""
    slots, todo, running = litert_slots.Slots(wide, 5), 12, {}
    plans = []
    slots.graph.plan = lambda *sizes, plan=slots.graph.plan: plans.append(sizes) or plan(*sizes)
    while todo or running:
        for slot in set(range(5)) - set(running):
            if todo and RANDOM.random() < 0.2:
                todo -= 1
                tokens = RANDOM.integers(0, 97, RANDOM.integers(2, 200)).tolist()
                prompt = tokens[: RANDOM.integers(1, len(tokens))]
                alone = [wide.start(prompt), *map(wide.step, tokens[len(prompt) :])]
                slots.clear(slot)
                for i in range(0, len(prompt), slots.piece):
                    piece = prompt[i : i + slots.piece]
                    whole = int(i + len(piece) == len(prompt))
                    logits = slots.read([(slot, piece, whole)])[0]
                np.testing.assert_array_equal(logits[0], alone[0])
                running[slot] = tokens[len(prompt) :], iter(alone[1:])
        some = [slot for slot, (tokens, _) in running.items() if tokens and RANDOM.random() < 0.9]
        if some:
            logits = slots.step(some, [running[slot][0].pop(0) for slot in some])
            for slot, row in zip(some, logits, strict=True):
                np.testing.assert_array_equal(row, next(running[slot][1]))
        for slot in [slot for slot, (tokens, _) in running.items() if not tokens]:
            del running[slot]
    assert {width for width, *_ in plans} >= {2, 4, 5}


@pytest.mark.parametrize('prompt', [1, 63, 64, 130])
def test_what_is_copied_is_what_is_read(wide, prompt):
    slots, tokens = litert_slots.Slots(wide, 3), RANDOM.integers(0, 97, 150).tolist()
    for i in range(0, prompt, slots.piece):
        slots.read([(0, tokens[:prompt][i : i + slots.piece], 1)])
    expected = [slots.step([0], [token])[0] for token in tokens[prompt:]]
    slots.copy(0, [1, 2], prompt)
    found = [slots.step([2], [token])[0] for token in tokens[prompt:]]
    np.testing.assert_array_equal(found, expected)


def test_memory_is_planned_once_in_many_steps(wide):
    slots, plans = litert_slots.Slots(wide, 4), []
    for slot in range(4):
        slots.start(slot, [1, 2, 3])
    slots.graph.plan = lambda *sizes, plan=slots.graph.plan: plans.append(sizes) or plan(*sizes)
    for token in range(190):
        slots.step([0, 1, 2, 3], [token % 97] * 4)
    assert plans == [
        (4, 4, 64 * 4),
        (4, 4, 128 * 4),
        (4, 4, 192 * 4),
        (4, 4, 256 * 4),
    ]  # by 4 pages


@pytest.mark.parametrize('length', [3, 250])  # within the window, and beyond it
def test_a_batch_has_the_texts_of_one_after_the_other(wide, length):
    options = {'length': length, 'nsamples': 5, 'seed': 3, 'top_k': 20}
    alone = list(generation.generate_tokens(wide, [5, 6], **options))
    for batch_size in (2, 5):
        together = list(generation.generate_tokens(wide, [5, 6], batch_size=batch_size, **options))
        np.testing.assert_array_equal(together, alone)
    assert wide.slots.rows == 5


def test_a_row_that_ends_early_leaves_the_others(wide):
    contexts, uniforms = [[1], [2, 3], [4]], sample_numpy.uniforms_for(1, range(3), 9)
    alone = [
        sample_numpy.Rows(wide, [ids], 9, uniforms[i : i + 1]) for i, ids in enumerate(contexts)
    ]
    for rows in alone:
        while rows.grow(4):
            pass
    slots = litert_slots.Slots(wide, 3)
    rows = sample_numpy.Rows(wide, contexts, 9, uniforms, slots=slots)
    assert rows.grow(4) and rows.known.tolist() == [5, 6, 5]
    rows.end[0] = rows.known[0]
    assert not rows.grow(20) and rows.known.tolist() == [5, 11, 10]
    for i, known in enumerate(rows.known):
        assert rows.tokens[i, :known].tolist() == alone[i].tokens[0, :known].tolist()
