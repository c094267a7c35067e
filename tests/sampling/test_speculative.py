import numpy as np
import pytest
import tensorflow as tf
from conftest import traced

from src import model, sample
from src.sampling import sample_numpy, speculative

P = np.array([0.5, 0.2, 0.1, 0.0, 0.2])
Q = np.array([0.1, 0.6, 0.0, 0.2, 0.1])
Q_THEN = np.array([0.3, 0.3, 0.1, 0.1, 0.2])
PROMPT = [3, 1, 4, 1, 5]


class Counting(tf.Module):
    """A model that counts how often it was called."""

    def __init__(self, lm):
        super().__init__()
        self.hparams, self.empty_cache, self.lm = lm.hparams, lm.empty_cache, lm
        self.calls = tf.Variable(0)

    def __call__(self, tokens, past=None):
        self.calls.assign_add(1)
        return self.lm(tokens, past)


def random_model(seed, n_vocab=7, n_ctx=32):
    hparams = model.HParams(n_vocab, n_ctx=n_ctx, n_embd=8, n_head=2, n_layer=1)
    lm = model.GPT2(hparams, model.init_params(hparams, seed=seed))
    for weight in lm.trainable_variables:
        weight.assign(weight * 4)
    return lm


@pytest.fixture(scope='module')
def large():
    return Counting(random_model(1))


@pytest.fixture(scope='module')
def other():
    """A draft that knows nothing of the large model."""
    return random_model(2)


def chi_squared(counts, probabilities):
    """Pearson's statistic, in standard deviations above its mean; certain zeros must be zeros."""
    counts, probabilities = np.ravel(counts), np.ravel(probabilities)
    assert not np.any(counts[probabilities == 0])
    counts, probabilities = counts[probabilities > 0], probabilities[probabilities > 0]
    expected = probabilities * counts.sum()
    freedom = len(counts) - 1
    return (np.sum((counts - expected) ** 2 / expected) - freedom) / np.sqrt(2 * freedom)


def rows(n, *arrays):  # [...] -> [n, places, vocab]
    return tf.constant(np.repeat(np.stack(arrays)[None], n, axis=0))


def proposals_from(n, *arrays, seed):
    """One token for each of n rows and each array of probabilities, [n, places]."""
    random = np.random.default_rng(seed)
    drawn = [sample.draw(tf.constant([q] * n), tf.constant(random.random(n))) for q in arrays]
    return tf.stack(drawn, axis=1)


def test_accepting_a_worked_example():
    # Token 1 is kept with probability 0.2 / 0.6. Where it is not, p - q leaves 0.4 0 0.1 0 0.1.
    decide, redraw = [[0.33, 0], [0.34, 0], [0.34, 0]], [[0, 0.6], [0.6, 0], [0.7, 0]]
    uniforms = tf.constant([decide, redraw], tf.float64)
    accepted, token = speculative.accept(
        rows(3, P, P), rows(3, Q), tf.constant([[1], [1], [1]]), uniforms
    )
    assert accepted.numpy().tolist() == [1, 0, 0]
    assert token.numpy().tolist() == [1, 0, 2]  # 0.6 in .5 .7 .8 .8 1; .6 and .7 in .67 .67 .83


def test_nothing_is_kept_behind_a_refusal():
    accepted, _ = speculative.accept(
        rows(1, P, P, P), rows(1, Q, Q), tf.constant([[3, 0]]), tf.zeros([2, 1, 3], tf.float64)
    )
    assert accepted.numpy().tolist() == [0]  # p has no token 3; token 0 would have been kept


def test_without_proposals_a_token_is_drawn_from_p():
    uniforms = tf.constant([[[0.0]], [[0.6]]], tf.float64)
    accepted, token = speculative.accept(
        rows(1, P), tf.zeros([1, 0, 5], tf.float64), tf.zeros([1, 0], tf.int32), uniforms
    )
    assert (accepted.numpy().tolist(), token.numpy().tolist()) == ([0], [1])


def test_the_first_token_has_the_models_distribution_whatever_the_draft():
    n = 40_000
    random = np.random.default_rng(1)
    for q in (Q, P, np.eye(5)[3], np.full(5, 0.2)):
        proposed = proposals_from(n, q, seed=2)
        accepted, token = speculative.accept(
            rows(n, P, P), rows(n, q), proposed, tf.constant(random.random([2, n, 2]))
        )
        first = tf.where(accepted > 0, proposed[:, 0], token)
        assert abs(chi_squared(np.bincount(first, minlength=5), P)) < 4
        shared = np.minimum(P, q).sum()  # Leviathan et al., theorem 3.5
        assert np.mean(accepted) == pytest.approx(shared, abs=0.01)


def test_pairs_of_tokens_have_the_models_distribution():
    # The second place's probabilities follow from what stands at the first, as in a model.
    n = 100_000
    random = np.random.default_rng(3)
    p_then = random.dirichlet(np.ones(5), 5)
    proposed = proposals_from(n, Q, Q_THEN, seed=4)
    p = tf.stack(
        [tf.constant([P] * n), tf.gather(p_then, proposed[:, 0]), tf.constant([P] * n)], axis=1
    )
    accepted, token = speculative.accept(
        p, rows(n, Q, Q_THEN), proposed, tf.constant(random.random([2, n, 3]))
    )
    first = np.where(accepted > 0, proposed[:, 0], token)
    second = np.where(accepted > 1, proposed[:, 1], token)
    alone = accepted == 0  # the second is then the next call's; here it is drawn by the way
    fresh = sample.draw(tf.gather(p_then, first), tf.constant(random.random(n)))
    second = np.where(alone, fresh, second)
    counts = np.bincount(first * 5 + second, minlength=25)
    assert abs(chi_squared(counts, P[:, None] * p_then)) < 4


def test_the_test_would_notice_a_redraw_from_p():
    n = 40_000
    random = np.random.default_rng(1)
    proposed = proposals_from(n, Q, seed=2)
    kept = random.random(n) * Q[proposed[:, 0]] < P[proposed[:, 0]]
    wrong = np.where(kept, proposed[:, 0], random.choice(5, n, p=P))
    counts = np.bincount(wrong, minlength=5)
    assert chi_squared(counts, P) > 100


SETTINGS = {'temperature': 0.7, 'top_k': 4, 'top_p': 0.9}


def following(lm, contexts, **settings):  # [batch, sequence] -> [batch, vocab], in NumPy
    logits = lm(tf.constant(contexts))['logits'][:, -1]
    return speculative.probabilities(logits, **settings).numpy()


def test_texts_have_the_models_distribution(large, other):
    counts = np.zeros([7, 7])
    for seed in range(500):
        uniforms = sample_numpy.uniforms_for(seed, range(3), 2)
        found = speculative.sample_sequence(
            lm=large, draft=other, context=PROMPT, length=2, uniforms=uniforms, **SETTINGS
        )
        counts[tuple(found.tokens[len(PROMPT) :])] += 1
    (first,) = following(large, [PROMPT], **SETTINGS)
    then = following(large, [[*PROMPT, token] for token in range(7)], **SETTINGS)
    assert abs(chi_squared(counts, first[:, None] * then)) < 4


def by_the_book(lm, draft, length, uniforms, count):
    """The algorithm again without caches, token by token: the text, and what each call accepted."""
    uniforms = np.pad(uniforms, [[0, 0], [len(PROMPT), count]])
    text, accepted = list(PROMPT), []

    def draw(weights, number):
        return int(np.searchsorted(np.cumsum(weights), number * np.sum(weights), side='right'))

    while len(text) < len(PROMPT) + length:
        proposed, qs = list(text), []
        for _ in range(count):
            (q,) = following(draft, [proposed], **SETTINGS)
            qs.append(q)
            proposed.append(draw(q, uniforms[0, len(proposed)]))
        for number, q in enumerate([*qs, np.zeros(7)]):
            (p,) = following(lm, [text], **SETTINGS)
            here = len(text)
            if number < count:
                token = proposed[here]
                if uniforms[1, here] < p[token] / q[token]:
                    text.append(token)
                    continue
            text.append(draw(np.maximum(p - q, 0), uniforms[2, here]))
            accepted.append(number)
            break
    return text[: len(PROMPT) + length], accepted


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_caches_are_cut_back_to_what_was_accepted(large, other, seed):
    uniforms = sample_numpy.uniforms_for(seed, range(3), 20)
    large.calls.assign(0)
    found = speculative.sample_sequence(
        lm=large, draft=other, context=PROMPT, length=20, uniforms=uniforms, **SETTINGS
    )
    assert large.calls.numpy() == 1 + len(found.accepted)  # once for the prompt
    assert len(set(found.accepted)) > 2
    text, accepted = by_the_book(large, other, 20, uniforms, 4)
    assert found.tokens.tolist() == text
    assert found.accepted.tolist() == accepted


def is_greedy(lm, tokens, sequence):
    """Whether all tokens behind `sequence` are the likeliest, by the whole model."""
    logits = lm(tf.constant([tokens[:-1]]))['logits'][0]
    return np.argmax(logits, axis=-1)[sequence - 1 :].tolist() == tokens[sequence:].tolist()


@pytest.mark.parametrize('length', [1, 2, 3, 20])
def test_at_temperature_zero_it_is_the_models_greedy_text(large, other, length):
    found = speculative.sample_sequence(
        lm=large, draft=other, context=PROMPT, length=length, temperature=0
    )
    assert len(found.tokens) == len(PROMPT) + length
    assert is_greedy(large, found.tokens, len(PROMPT))


def test_a_draft_like_the_model_is_always_accepted(large):
    large.calls.assign(0)
    draft = random_model(1)
    found = speculative.sample_sequence(
        lm=large, draft=draft, context=PROMPT, length=20, **SETTINGS
    )
    assert found.accepted.tolist() == [4] * 4  # and a token behind each four: 4 * 5 = 20
    assert large.calls.numpy() == 1 + 4


def test_a_longer_text_begins_with_the_shorter_one(large, other):
    texts = [
        speculative.sample_sequence(
            lm=large,
            draft=other,
            context=PROMPT,
            length=length,
            uniforms=sample_numpy.uniforms_for(7, range(3), length),
            **SETTINGS,
        ).tokens.tolist()
        for length in (6, 15)
    ]
    assert texts[0] == texts[1][: len(texts[0])]


def test_windows_are_invisible_and_few():
    # From a window of 64 to one of 80, where the draft's ends; the model goes on alone to 100.
    lm, draft = random_model(1, n_ctx=100), random_model(2, n_ctx=80)
    for sequence in (1, 2, 30, 60, 81, 100):
        found = speculative.sample_sequence(
            lm=lm,
            draft=draft,
            context=[i % 7 for i in range(sequence)],
            length=101 - sequence,
            temperature=0,
        )
        assert is_greedy(lm, found.tokens, sequence)
        assert not found.accepted[-20:].any()
    # Reading in 64, and by the model in 100; going on in 64 and 80, and alone in 100.
    assert traced(lm) + traced(draft) <= 2 + 1 + 3


def test_what_goes_beyond_the_window_is_refused(large, other):
    with pytest.raises(ValueError, match='length can be at most 32'):
        speculative.sample_sequence(lm=large, draft=other, context=[1], length=33)
    with pytest.raises(ValueError, match='window of 32: give a shorter context'):
        speculative.sample_sequence(lm=large, draft=other, context=[1] * 40, length=1)


def test_what_makes_no_sense_is_refused(large):
    small = random_model(1, n_vocab=6)
    with pytest.raises(ValueError, match='The draft has 6 tokens and the model 7'):
        speculative.sample_sequence(lm=large, draft=small, context=[1], length=1)
    with pytest.raises(ValueError, match='no context'):
        speculative.sample_sequence(lm=large, draft=large, context=[], length=1)
    with pytest.raises(ValueError, match='length is 0'):
        speculative.sample_sequence(lm=large, draft=large, context=[1], length=0)
    with pytest.raises(ValueError, match='draft_tokens 0'):
        speculative.sample_sequence(lm=large, draft=large, context=[1], length=1, draft_tokens=0)
