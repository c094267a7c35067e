import functools

import numpy as np
import pytest
import tensorflow as tf
from conftest import recorded, traced

from src import sample
from src.sampling import sample_numpy

OFF = tf.float32.min


@pytest.fixture(scope='module')
def tiny():
    """For all tests here: what was compiled in one serves the next."""
    return recorded()


def kept(logits):
    return (np.asarray(logits) > -1e9).tolist()


def test_top_k_keeps_what_both_originals_keep(golden):
    recorded = golden('golden_sampling.npz')
    logits = tf.constant(recorded['logits'])
    for k, openai, shepperd in zip(
        recorded['ks'], recorded['openai_top_k'], recorded['shepperd_top_k'], strict=True
    ):
        assert kept(sample.top_k_logits(logits, int(k))) == kept(openai) == kept(shepperd)


def test_top_p_keeps_what_shepperds_keeps_and_openais_is_one_token_short(golden):
    recorded = golden('golden_sampling.npz')
    logits = tf.constant(recorded['logits'])
    shorter = 0
    for p, openai, shepperd in zip(
        recorded['ps'], recorded['openai_top_p'], recorded['shepperd_top_p'], strict=True
    ):
        if 0 < p < 1:
            ours = kept(sample.top_p_logits(logits, tf.constant(p, tf.float32)))
            assert ours == kept(shepperd)
            shorter += np.sum(ours) > np.sum(kept(openai))
    assert shorter


@pytest.mark.parametrize(
    'p, tokens', [(0.4, 1), (0.49, 1), (0.75, 2), (0.79, 2), (0.9, 3), (0.96, 4), (0.999999, 4)]
)
def test_top_p_includes_the_token_that_crosses_p(p, tokens):
    logits = tf.math.log([[0.05, 0.3, 0.5, 0.15]])
    order = [2, 1, 3, 0]
    expected = [i in order[:tokens] for i in range(4)]
    assert kept(sample.top_p_logits(logits, tf.constant(p)))[0] == expected


def test_top_p_works_on_each_row_of_a_batch():
    logits = tf.math.log([[0.9, 0.05, 0.05], [0.1, 0.5, 0.4]])
    assert kept(sample.top_p_logits(logits, tf.constant(0.8))) == [
        [True, False, False],
        [False, True, True],
    ]


def test_top_k_comes_before_top_p():
    # Of .4 .3 .2 .1 the first two are left, as .57 .43: they reach .5 with one token, not two.
    logits = tf.math.log([[0.4, 0.3, 0.2, 0.1]])
    chosen = choices(logits, temperature=1, top_k=2, top_p=0.5)
    assert set(chosen) == {0}
    assert set(choices(logits, temperature=1, top_k=0, top_p=0.5)) == {0, 1}


def choices(logits, n=20000, *, temperature, top_k=0, top_p=None):
    """Tokens drawn at n evenly spaced numbers in [0, 1)."""
    rows = tf.repeat(logits, n, axis=0)
    uniforms = tf.constant((np.arange(n) + 0.5) / n)
    return sample.choose(rows, uniforms, temperature=temperature, top_k=top_k, top_p=top_p).numpy()


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_their_probabilities(temperature):
    logits = np.array([[1.0, -2.0, 0.5, 3.0, -30.0]], np.float32)
    counts = np.bincount(choices(tf.constant(logits), temperature=temperature), minlength=5)
    expected = np.exp(logits[0] / temperature)
    expected *= 20000 / expected.sum()
    np.testing.assert_allclose(counts, expected, atol=1.01)  # evenly spaced: at most one off


def test_what_is_cut_off_is_never_drawn_at_any_temperature():
    logits = tf.constant([[50.0, 49.0, -50.0, 49.5]])
    for temperature in (1e-8, 1e-3, 1.0, 1e3):
        assert set(choices(logits, temperature=temperature, top_k=2)) <= {0, 3}


@pytest.mark.parametrize('vocab', [31, 4096, 50257])
@pytest.mark.parametrize('k', [1, 2, 40, 900])
def test_top_k_among_many_and_equal_ones(vocab, k):
    random = np.random.default_rng(k)
    spread = random.normal(0, 3, [4, vocab]).astype(np.float32)
    spread[1] = np.round(spread[1])  # hundreds are equal
    spread[2, random.random(vocab) < 0.99] = OFF
    spread[3] = np.sort(spread[3])  # the likeliest lie side by side
    found = sample.top_k_logits(tf.constant(spread), k).numpy()
    for row, logits in zip(found, spread, strict=True):
        expected = np.full(vocab, OFF)
        tokens = sample_numpy.top_k_tokens(logits, k)
        expected[tokens] = logits[tokens]
        assert np.array_equal(row, expected)


@pytest.mark.parametrize('vocab', [5, 256, 257, 50257])
def test_each_token_is_drawn_where_its_share_begins_and_ends(vocab):
    random = np.random.default_rng(vocab)
    weights = random.integers(0, 2**20, vocab).astype(np.float64)  # whose sums are exact
    weights[random.random(vocab) < 0.7] = 0
    weights[1 : vocab // 2] = 0  # many groups have nothing, and the end has not
    weights[[0, vocab // 2]] = 1
    weights[-2:] = 0
    ends = np.cumsum(weights)
    weights[vocab // 2 - 1] = 2.0 ** np.ceil(np.log2(ends[-1])) - ends[-1]  # a power of two in all
    ends = np.cumsum(weights)
    possible = np.flatnonzero(weights)
    possible = possible[random.choice(len(possible), 50)] if vocab > 300 else possible
    for number, expected in (
        ((ends - weights)[possible], possible),
        (ends[possible] - 0.5, possible),
    ):
        n = len(possible)
        found = sample.draw(tf.constant(np.tile(weights, [n, 1])), tf.constant(number / ends[-1]))
        assert found.numpy().tolist() == expected.tolist()
    for last in (1 - 2.0**-53, 1.0):
        found = sample.draw(tf.constant(weights[None]), tf.constant([last], tf.float64))
        assert int(found[0]) == np.flatnonzero(weights)[-1]


def test_the_largest_number_below_one_still_draws_a_possible_token():
    logits = tf.constant([[0.0, 1.0, OFF, OFF]])
    last = tf.constant([float(np.nextafter(np.float32(1), np.float32(0)))], tf.float64)
    token = sample.choose(logits, last, temperature=1.0, top_k=0, top_p=None)
    assert token.numpy().tolist() == [1]


def test_a_sample_is_the_context_and_what_the_model_says(successor):
    tokens = sample.sample_sequence(lm=successor, length=4, context=[[4, 5], [8, 9]], temperature=0)
    assert tokens.tolist() == [[4, 5, 6, 7, 8, 9], [8, 9, 10, 11, 12, 13]]
    tokens = sample.sample_sequence(lm=successor, length=3, start_token=7, batch_size=2, top_k=1)
    assert tokens.tolist() == [[7, 8, 9, 10]] * 2


@pytest.mark.parametrize('sequence', [1, 2, 63, 64, 65, 128, 129, 400, 519])
def test_windows_are_invisible_in_the_text(successor, sequence):
    context = [[(i * 7 + sequence) % 50 for i in range(sequence)]]
    tokens = sample.sample_sequence(lm=successor, length=150, context=context, temperature=0)
    expected = [(context[0][-1] + 1 + i) % 50 for i in range(150)]
    assert tokens[0].tolist() == context[0] + expected


def test_windows_are_powers_of_two_but_the_one_that_xla_would_leave_to_one_core():
    lengths = 1, 64, 65, 256, 257, 512, 513, 1000, 1024
    windows = [sample.window_for(length, 1024) for length in lengths]
    assert windows == [64, 64, 128, 256, 520, 520, 1024, 1024, 1024]
    assert [sample.window_for(length, 512) for length in (256, 257, 512)] == [256, 512, 512]
    assert sample.window_for(300, 400) == 400  # no room but what the model has


@pytest.mark.parametrize('sequence', [1, 3, 20])
def test_cached_sampling_is_what_the_whole_model_says(tiny, sequence):
    context = np.random.default_rng(sequence).integers(0, 97, [2, sequence])
    tokens = sample.sample_sequence(lm=tiny, length=12, context=context, temperature=0)
    for position in range(sequence, sequence + 12):
        logits = tiny(tf.constant(tokens[:, :position]))['logits'][:, -1]
        assert np.argmax(logits, -1).tolist() == tokens[:, position].tolist()


def test_behind_the_window_the_second_half_of_it_is_what_the_model_sees(tiny):
    context, n_ctx = [5, 7, 11], tiny.hparams.n_ctx
    tokens = sample.sample_sequence(lm=tiny, length=90, context=[context], temperature=0)[0]
    expected, begin = list(context), 0
    for _ in range(90):  # by hand, without a cache
        if len(expected) - begin > n_ctx:
            begin = len(expected) - n_ctx // 2
        logits = tiny(tf.constant([expected[begin:]]))['logits'][0, -1]
        expected.append(int(np.argmax(logits)))
    assert tokens.tolist() == expected


def test_a_prompt_may_be_longer_than_the_window(tiny):
    context = np.random.default_rng(0).integers(0, 97, 50).tolist()
    tokens = sample.sample_sequence(lm=tiny, length=5, context=[context], temperature=0)[0]
    seen = sample.sample_sequence(lm=tiny, length=5, context=[context[-16:]], temperature=0)[0]
    assert tokens.tolist() == context + seen[16:].tolist()


@pytest.mark.parametrize('temperature', [0, 1])
@pytest.mark.parametrize('number', [1, 7, 100])
def test_rows_of_all_lengths_are_what_they_are_alone(tiny, temperature, number):
    random = np.random.default_rng(4)
    contexts = [random.integers(0, 97, n).tolist() for n in (1, 30, 5, 12)]
    lengths = [40, 3, 17, 28]

    def grown(rows, number):
        some = [contexts[row] for row in rows]
        uniforms = [sample_numpy.uniforms_for(9, [row], lengths[row])[0] for row in rows]
        together = sample.Rows(
            tiny, some, [lengths[row] for row in rows], uniforms, temperature=temperature
        )
        while together.grow(number):
            pass
        return [together.tokens[i, : together.known[i]].tolist() for i in range(len(rows))]

    assert grown(range(4), number) == [grown([row], 1000)[0] for row in range(4)]


def test_a_row_that_is_ended_stays_as_it_is(successor):
    rows = sample.Rows(successor, [[1], [2, 3]], 20, np.zeros([2, 20]), temperature=0)
    assert rows.grow(3)
    rows.end[0] = rows.known[0]
    assert rows.grow(5) and not rows.grow(100)
    assert rows.known.tolist() == [4, 22]
    assert rows.tokens[0, :4].tolist() == [1, 2, 3, 4]
    assert rows.tokens[1, :22].tolist() == list(range(2, 24))


def test_sixty_prompts_of_all_lengths_are_compiled_a_few_times(successor):
    for length in range(1, 61):
        sample.sample_sequence(lm=successor, length=30, context=[[1] * length])
    assert traced(successor) <= 3  # reading in a window of 64, continuing in 64 and in 128


@pytest.mark.parametrize('batch, read', [(1, 64), (2, 32), (8, 16), (100, 16)])
def test_many_short_prompts_are_not_filled_up_to_a_window(successor, batch, read):
    context = [[row % 50] * 15 for row in range(batch)]
    sample.sample_sequence(lm=successor, length=1, context=context)
    # The last token of each prompt is read by the step.
    assert int(successor.tokens_read) == batch * (read + 1)


def test_the_prompt_of_several_samples_is_read_once(tiny, successor):
    sample.sample_sequence(lm=successor, length=1, context=[[1] * 100] * 8)
    assert int(successor.tokens_read) == 128 + 8
    uniforms = np.random.default_rng(5).random([3, 30])
    of = functools.partial(sample.sample_sequence, lm=tiny, length=30)
    together = of(context=[[5, 7, 11]] * 3, uniforms=uniforms)
    alone = [of(context=[[5, 7, 11]], uniforms=uniforms[row : row + 1])[0] for row in range(3)]
    assert together.tolist() == np.stack(alone).tolist() and len({*map(tuple, together)}) == 3
