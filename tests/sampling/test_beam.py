import itertools

import numpy as np
import pytest
import tensorflow as tf
from conftest import traced

from src import model, sample
from src.sampling import beam


@pytest.fixture(scope='module')
def five():
    """A random model with five tokens, so sure of itself that the greedy way may be wrong."""
    hparams = model.HParams(5, n_ctx=32, n_embd=8, n_head=2, n_layer=1)
    lm = model.GPT2(hparams, model.init_params(hparams, seed=18))
    for weight in lm.trainable_variables:
        weight.assign(weight * 8)
    return lm


def scores_of(lm, context, continuations):
    """Sums of the log-softmax by the whole model, in double precision."""
    tokens = np.array([context + list(tokens) for tokens in continuations])
    logits = lm(tf.constant(tokens))['logits'].numpy().astype(np.float64)[:, len(context) - 1 : -1]
    steps = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    chosen = np.take_along_axis(steps, tokens[:, len(context) :, None], axis=-1)
    return np.sum(chosen, axis=(1, 2))


def every_continuation(lm, context, length, end=None):
    """All of them, best first, and their scores."""
    found = {}
    whole = list(itertools.product(range(5), repeat=length))
    for size in range(1, length + 1):
        some = [t[:size] for t in whole if size == length or t[size - 1] == end]
        some = sorted({t for t in some if end not in t[:-1]})
        if some:
            found.update(zip(some, scores_of(lm, context, some), strict=True))
    best = sorted(found, key=found.get, reverse=True)
    return [list(tokens) for tokens in best], [found[tokens] for tokens in best]


CONTEXTS = [[1], [4, 2, 3], [i * 3 % 5 for i in range(20)]]


@pytest.mark.parametrize('context', CONTEXTS)
def test_one_beam_is_the_greedy_sample(five, context):
    (found,) = beam.beam_search(five, context, length=12, num_beams=1)
    greedy = sample.sample_sequence(lm=five, context=[context], length=12, temperature=0)
    assert context + found.tokens == greedy[0].tolist()


@pytest.mark.parametrize('context', CONTEXTS)
@pytest.mark.parametrize('end', [None, 2])
def test_scores_are_those_of_the_whole_model(five, context, end):
    found = beam.beam_search(five, context, length=12, num_beams=4, end=end)
    assert len({tuple(tokens) for tokens, _ in found}) == 4
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
    for tokens, score in found:
        assert score == pytest.approx(scores_of(five, context, [tokens])[0], abs=1e-4)
    (greedy,) = beam.beam_search(five, context, length=12, num_beams=1, end=end)
    assert found[0].score >= greedy.score - 1e-5  # no law of beam search, but so it is for these


@pytest.mark.parametrize('end', [None, 2])
@pytest.mark.parametrize('context', [[0], [4, 2, 3]])
def test_with_room_for_all_prefixes_nothing_better_exists(five, context, end):
    # With every beginning of length 3 pursued, 5 * 5 * 5, no continuation of 4 can be missed.
    tokens, scores = every_continuation(five, context, 4, end)
    found = beam.beam_search(five, context, length=4, num_beams=125, end=end)
    assert found[0].tokens == tokens[0]
    assert len({tuple(b.tokens) for b in found}) == min(125, len(tokens))
    np.testing.assert_allclose([b.score for b in found], scores[:125], atol=1e-4)


def test_the_test_would_notice_a_greedy_search(five):
    (greedy,) = beam.beam_search(five, [0], length=4, num_beams=1)
    assert greedy.score < every_continuation(five, [0], 4)[1][0] - 0.1


def test_there_are_no_more_beams_than_continuations(five):
    found = beam.beam_search(five, [0], length=2, num_beams=40)
    assert sorted(b.tokens for b in found) == [[i, j] for i in range(5) for j in range(5)]
    assert sum(np.exp(b.score) for b in found) == pytest.approx(1, abs=1e-5)


def test_a_step_keeps_the_best_of_all_successors():
    scores, parents, last = beam.best(
        np.array([-1.0, -2.0]),
        np.array([[-0.5, -3.0], [-0.1, -1.9]]),
        np.array([[7, 8], [9, 7]]),
    )
    assert scores.tolist() == [-1.5, -2.1]  # of -1.5 -4.0 and -2.1 -3.9
    assert parents.tolist() == [0, 1]
    assert last.tolist() == [7, 9]


def test_what_has_ended_stays_and_reads_nothing_more(successor):
    (found,) = beam.beam_search(successor, [4], length=20, num_beams=1, end=7)
    assert found.tokens == [5, 6, 7]
    assert successor.tokens_read.numpy() == 3
    ended = beam.beam_search(successor, [4], length=4, num_beams=3, end=7)
    assert ended[0].tokens == [5, 6, 7]
    assert ended[0].score == pytest.approx(found.score)  # it has lost nothing by the fourth step


def test_a_context_that_holds_the_end_is_continued(successor):
    (found,) = beam.beam_search(successor, [7, 4], length=2, num_beams=1, end=7)
    assert found.tokens == [5, 6]


def test_windows_are_invisible_in_the_text_and_few(successor):
    for sequence in (1, 2, 30, 63, 64, 65):
        context = [(i * 7 + sequence) % 50 for i in range(sequence)]
        (best, _) = beam.beam_search(successor, context, length=63, num_beams=2)
        assert best.tokens == [(context[-1] + 1 + i) % 50 for i in range(63)]
    assert traced(successor) <= 4  # reading and a step, in a window of 64 and in one of 128


def test_the_window_may_be_filled_and_one_token_more(five):
    assert len(beam.beam_search(five, [1], length=32, num_beams=2)[0].tokens) == 32
    with pytest.raises(ValueError, match='length can be at most 32'):
        beam.beam_search(five, [1], length=33, num_beams=2)
    with pytest.raises(
        ValueError, match='40 tokens of context .* window of 32: give a shorter context'
    ):
        beam.beam_search(five, [1] * 40, length=1, num_beams=2)


def test_what_makes_no_sense_is_refused(five):
    with pytest.raises(ValueError, match='no context'):
        beam.beam_search(five, [], length=1, num_beams=1)
    with pytest.raises(ValueError, match='length is 0'):
        beam.beam_search(five, [1], length=0, num_beams=1)
    with pytest.raises(ValueError, match='num_beams 0'):
        beam.beam_search(five, [1], length=1, num_beams=0)
