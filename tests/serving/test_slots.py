"""A text in a slot gets what the model says, and to the last bit the same beside any others."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import recorded

from src.serving import slots

RANDOM = np.random.default_rng(7)


def test_the_numbers_of_the_model_over_its_whole_window(side_by_side):
    tokens = RANDOM.integers(0, 97, 32)
    expected = recorded()(tf.constant(tokens[None], tf.int32))['logits'][0]
    for known in (1, 3, 4, 5, 8, 9, 31, 32):
        side_by_side.clear(2)
        logits = []
        for begin in range(0, known, 4):
            piece = tokens[begin : min(begin + 4, known)].tolist()
            logits.extend(side_by_side.read([(2, piece, len(piece))])[0])
        logits.extend(side_by_side.step([2], [int(token)])[0] for token in tokens[known:])
        np.testing.assert_allclose(logits, expected, atol=2e-5)
        side_by_side.clear(2)


def test_another_model_has_another_fingerprint(side_by_side):
    before = side_by_side.fingerprint
    assert before == side_by_side.fingerprint and len(before) == 64
    weights = side_by_side.lm.params['h0']['attn']['c_attn']['b']
    kept = weights.numpy()
    weights.assign(kept + 1)
    assert side_by_side.fingerprint != before
    weights.assign(kept)
    assert side_by_side.fingerprint == before


class Reader:
    """A text whose tokens are known, which a slot reads: its prompt, then one by one."""

    def __init__(self, tokens, prompt):
        self.tokens, self.prompt, self.slot, self.logits = tokens, prompt, None, []

    @property
    def reads(self):
        return len(self.logits) < self.prompt

    @property
    def done(self):
        return len(self.logits) == len(self.tokens)


def read(side_by_side, readers):
    pieces = []
    for reader in readers:
        begin = len(reader.logits)
        piece = reader.tokens[begin : min(begin + 4, reader.prompt)]
        pieces.append((reader.slot, piece, len(piece)))
    for reader, logits in zip(readers, side_by_side.read(pieces), strict=True):
        reader.logits.extend(logits)


def grow(side_by_side, readers):
    new = [reader.tokens[len(reader.logits)] for reader in readers]
    logits = side_by_side.step([reader.slot for reader in readers], new)
    for reader, row in zip(readers, logits, strict=True):
        reader.logits.append(row)


def texts(number):
    for _ in range(number):
        tokens = RANDOM.integers(0, 97, RANDOM.integers(2, 33)).tolist()
        yield Reader(tokens, int(RANDOM.integers(1, len(tokens))))


def test_the_same_bits_whatever_else_is_running(side_by_side):
    waiting, alone = list(texts(24)), []
    for text in waiting:
        reader = Reader(text.tokens, text.prompt)
        reader.slot = int(RANDOM.integers(4))
        while not reader.done:
            (read if reader.reads else grow)(side_by_side, [reader])
        side_by_side.clear(reader.slot)
        alone.append(reader.logits)
    free, running, together = [0, 1, 2, 3], [], list(waiting)
    while waiting or running:
        if waiting and free and RANDOM.random() < 0.5:
            text = waiting.pop(0)
            text.slot = free.pop(RANDOM.integers(len(free)))
            running.append(text)
        reading = [text for text in running if text.reads and RANDOM.random() < 0.8]
        if reading:
            read(side_by_side, reading)
        grown = [text for text in running if not text.reads and RANDOM.random() < 0.8]
        RANDOM.shuffle(grown)
        if grown:
            grow(side_by_side, grown)
        for text in [text for text in running if text.done]:
            side_by_side.clear(text.slot)
            free.append(text.slot)
            running.remove(text)
    for text, logits in zip(together, alone, strict=True):
        np.testing.assert_array_equal(text.logits, logits)


@pytest.mark.parametrize('prompt', [1, 4, 7, 16, 31])
def test_what_is_copied_is_what_is_read(side_by_side, prompt):
    tokens = RANDOM.integers(0, 97, 32).tolist()
    some = [Reader(tokens, prompt) for _ in range(2)]
    for slot, reader in enumerate(some):
        reader.slot = slot
    while some[0].reads:
        read(side_by_side, some[:1])
    grow(side_by_side, some[:1])  # what comes behind the prompt is not copied
    side_by_side.copy(0, [3, 1], prompt)
    some[1].logits = some[0].logits[:prompt]
    while not some[1].done:
        grow(side_by_side, [reader for reader in some if not reader.done])
    np.testing.assert_array_equal(*(reader.logits for reader in some))
    for slot in (0, 1, 3):
        side_by_side.clear(slot)


def test_what_was_wanted_changes_no_bit(side_by_side):
    tokens = RANDOM.integers(0, 97, 9).tolist()
    for prompt in (2, 4, 9):
        last = []
        for wanted in (1, 4):
            side_by_side.clear(0)
            for begin in range(0, prompt, 4):
                piece = tokens[begin : min(begin + 4, prompt)]
                (logits,) = side_by_side.read([(0, piece, min(wanted, len(piece)))])
            last.append(logits[-1])
        np.testing.assert_array_equal(*last)
        side_by_side.clear(0)


@pytest.mark.parametrize('shape', [[2, 6], [8, 1, 6], [16, 6], [20, 1, 6], [3, 4, 6]])
def test_products_have_eight_rows_of_a_step_at_most_and_one_piece(shape):
    x, w, seen = RANDOM.normal(size=shape).astype(np.float32), RANDOM.normal(size=[6, 3]), []

    def function(x, w):
        seen.append(x.shape[0])
        return tf.constant(x.numpy() @ w)

    np.testing.assert_allclose(slots.of_rows(function, tf.constant(x), w), x @ w, rtol=1e-6)
    most = 1 if shape[1:2] == [4] else 8  # pieces of prompts have 4 tokens here
    assert sum(seen) == shape[0] and max(seen) == min(most, shape[0])


def test_numbers_of_rows_that_add_in_another_order_are_left_out(monkeypatch, capsys):
    made = slots.Slots(recorded(), 5)
    assert made.widths == [2, 4, 5] and made.reading_widths == [1, 2, 4]

    def tried(wrong):
        return lambda width, tokens: np.zeros([2, 5, 97]) + (width == wrong) * 1e-7

    monkeypatch.setattr(made, '_stepped', tried(2))
    monkeypatch.setattr(made, '_as_read', tried(1))
    made.warm_up()
    assert made.widths == [4, 5] and made.reading_widths == [2, 4] and made.length == [0] * 5
    assert capsys.readouterr().err.endswith('each step has 4 or 5 rows\n')


@pytest.mark.parametrize('rows', [1, 2, 3, 8])
def test_how_many_rows_a_step_and_a_reading_may_have(rows):
    made = slots.Slots(recorded(), rows)
    assert made.widths == {1: [2], 2: [2], 3: [2, 3], 8: [2, 4, 8]}[rows]
    assert made.reading_widths == {1: [1], 2: [1, 2], 3: [1, 2, 3], 8: [1, 2, 4]}[rows]
    assert made.pieces == made.reading_widths[-1]


@pytest.mark.parametrize('features', [1, 15, 48, 768, 1600])
def test_the_mean_of_any_number_of_features(features):
    x = RANDOM.normal(size=[3, 2, features]).astype(np.float32)
    expected = x.astype(np.float64).mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(slots.mean(tf.constant(x)), expected, rtol=1e-5, atol=1e-7)
