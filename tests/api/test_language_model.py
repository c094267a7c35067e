"""What a loaded model offers, beside NumPy and beside what the commands print."""

import shutil

import numpy as np
import oracle
import pytest

import src as gpt2
from src.evaluation import evaluate
from src.sampling import generation

TEXT = 'All the world is a stage, and all the men and women merely players'


@pytest.fixture(scope='module')
def loaded(shallow):
    """For all tests here: what was compiled in one serves the next."""
    return gpt2.load(str(shallow))


@pytest.fixture
def lm(place, loaded):
    return loaded


def logits_after(lm, ids):  # in NumPy
    tree = oracle.numpy_tree(lm._loaded.lm)
    return oracle.model(lm.hparams, tree, np.array([ids]))['logits'][0, -1]


@pytest.mark.parametrize('size', [2, 3, 31, 32, 33, len(TEXT)])  # the window is 32
def test_a_score_is_what_numpy_says(lm, size):
    text = TEXT[:size]
    score = lm.score(text)
    assert score.ids == lm.encode(text) and ''.join(score.texts) == text
    window = min(32, size)
    costs = oracle.brute_force(lm._loaded.lm, score.ids, window, min(16, window - 1))
    assert score.logprobs[0] is None
    np.testing.assert_allclose(score.logprobs[1:], -np.array(costs), rtol=1e-4)
    assert score.loss == pytest.approx(np.mean(costs), rel=1e-5)
    assert score.perplexity == pytest.approx(np.exp(np.mean(costs)), rel=1e-4)
    bits = np.sum(costs) / np.log(2) / (size - 1)  # each character is a byte, and a token
    assert score.bits_per_byte == pytest.approx(bits, rel=1e-5)


def test_a_score_is_what_evaluate_prints(lm, capsys):
    evaluate.evaluate(evaluate.EvaluateConfig(dataset='text', model_name='tiny'))
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    with open('text') as file:
        score = lm.score(file.read())
    assert float(printed['loss']) == pytest.approx(score.loss, rel=1e-5)
    assert float(printed['bits_per_byte']) == pytest.approx(score.bits_per_byte, rel=1e-5)
    assert int(printed['tokens']) == len(score.ids) - 1


def test_scores_of_many_lengths_are_compiled_once(lm):
    for size in (5, 9, 20):
        lm.score(TEXT[:size])
    assert lm._costs.experimental_get_tracing_count() == 1


@pytest.mark.parametrize('prompt', ['A', TEXT, None])
def test_the_next_tokens_are_what_numpy_says(lm, prompt):
    ids = lm.encode(prompt)[-32:] if prompt else [96]  # <|endoftext|>
    expected = oracle.softmax(logits_after(lm, ids))
    tokens = lm.next_tokens(prompt, 97)
    assert [token.id for token in tokens[:3]] == np.argsort(-expected)[:3].tolist()
    for token in tokens:
        assert token.probability == pytest.approx(expected[token.id], rel=1e-3)
        assert token.text == lm.decode([token.id])
    assert lm.next_tokens(prompt, 2) == tokens[:2]


def test_ids_that_the_vocabulary_has_not_are_no_next_tokens(lm, monkeypatch):
    texts = {i: text for i, text in lm._loaded.encoder.decoder.items() if i % 2}
    monkeypatch.setattr(lm._loaded.encoder, 'decoder', texts)
    tokens = lm.next_tokens('A', 97)
    assert sorted(token.id for token in tokens) == list(range(1, 97, 2))
    assert sum(token.probability for token in tokens) == pytest.approx(1)


def test_prompts_of_other_kinds(lm):
    assert lm.generate([]) == []
    assert lm.generate(('All', 'All'), length=2, seed=1) == lm.generate('All', length=2, seed=1) * 2
    for ask in (lm.generate, lm.next_tokens, lambda prompt: list(lm.stream(prompt))):
        with pytest.raises(ValueError, match='^.5. is no prompt; it must be text, or a list of'):
            ask(5)


def test_texts_are_those_of_generation(lm):
    options = {'length': 9, 'seed': 3, 'nsamples': 3, 'top_k': 20}
    texts = list(generation.generate(generation.load('tiny'), 'All', **options))
    assert lm.generate('All', **options) == texts
    assert lm.generate(['All', 'All'], **options) == texts * 2
    assert ''.join(lm.stream('All', length=9, seed=3, top_k=20)) == texts[0]
    (whole,) = lm.generate('All', length=9, seed=3, top_k=20, include_prefix=True)
    assert whole == 'All' + texts[0]
    (cut,) = lm.generate('All', length=9, seed=3, top_k=20, stop=['\n', texts[0][4]])
    assert cut == texts[0].partition(texts[0][4])[0]


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'truncat': 'x'}, "there is no option 'truncat'. Did you mean truncate?"),
        ({'top_p': 90}, 'top_p is 90; it must be a number, 0 to 1'),
        ({'top_p': float('nan')}, 'top_p is nan; it must be'),
        ({'temperature': 'hot'}, "temperature is 'hot'; it must be a number, 0 or more"),
        ({'temperature': True}, 'temperature is True; it must be a number'),
        ({'length': 0}, 'length is 0; it must be a whole number, 1 or more'),
        ({'top_k': 2.5}, 'top_k is 2.5; it must be a whole number'),
        ({'seed': -1}, 'seed is -1; it must be a whole number, 0 or more'),
        ({'nsamples': 0}, 'nsamples is 0'),
        ({'batch_size': 0}, 'batch_size is 0; it must be a whole number, 1 or more'),
        ({'include_prefix': 'no'}, "include_prefix is 'no'; it must be True or False"),
        ({'stop': 5}, 'stop is 5; it must be text'),
        ({'repetition_penalty': 0}, 'repetition_penalty is 0; it must be 0.001 or more'),
        ({'logit_bias': '{"a"'}, 'logit_bias is {"a", which is not JSON'),
        ({'prompt': ''}, 'The prompt is empty'),
    ],
)
def test_what_cannot_be_is_refused_when_the_call_is_made(lm, options, complaint):
    prompt = options.pop('prompt', 'All')
    with pytest.raises(ValueError) as error:
        lm.generate(prompt, **options)
    assert complaint in str(error.value) and '\n' not in str(error.value)
    if not options.keys() & {'nsamples', 'batch_size'}:
        with pytest.raises(ValueError) as error:
            lm.stream(prompt, **options)  # nothing is asked of it
        assert complaint in str(error.value)


def test_stream_is_of_one_text(lm):
    with pytest.raises(ValueError, match='leave out nsamples'):
        lm.stream('All', nsamples=2)


def test_a_score_needs_two_tokens(lm):
    for text in ('', 'A'):
        with pytest.raises(ValueError, match='nothing predicts the first'):
            lm.score(text)


def test_inside_is_what_numpy_says(lm):
    text = TEXT[:20] + '<|endoftext|>' + TEXT[:11]  # the window is 32
    inside = lm.inside(text)
    assert inside.ids == [*lm.encode(TEXT[:20]), 96, *lm.encode(TEXT[:11])]
    assert ''.join(inside.texts) == text
    assert inside.attentions.shape == (1, 3, 32, 32)  # [layer, head, dst, src]
    assert inside.hidden_states.shape == (2, 32, 24) and inside.logits.shape == (2, 32, 97)
    tree = oracle.numpy_tree(lm._loaded.lm)
    read = tree['wte'][inside.ids] + tree['wpe']
    np.testing.assert_allclose(inside.hidden_states[0], read, atol=1e-5)
    np.testing.assert_allclose(
        inside.logits[0], oracle.norm(read, tree['ln_f']) @ tree['wte'].T, rtol=1e-3, atol=1e-4
    )
    expected = oracle.model(lm.hparams, tree, np.array([inside.ids]))['logits'][0]
    np.testing.assert_allclose(inside.logits[1], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(inside.attentions.sum(axis=-1), 1, rtol=1e-5)
    assert all(array.dtype == np.float32 for array in inside[2:])


def test_embeddings_do_not_depend_on_the_other_texts(lm):
    texts = [TEXT[:size] for size in (9, 1, 32)]
    tree = oracle.numpy_tree(lm._loaded.lm)
    for pooling in ('mean', 'last'):
        vectors = lm.embed(texts, pooling)
        assert vectors.shape == (3, 24) and vectors.dtype == np.float32
        for text, vector in zip(texts, vectors, strict=True):
            np.testing.assert_allclose(lm.embed(text, pooling), vector, atol=1e-5)
            h = oracle.norm(lm.inside(text).hidden_states[-1], tree['ln_f'])
            expected = h.mean(axis=0) if pooling == 'mean' else h[-1]
            np.testing.assert_allclose(vector, expected, atol=1e-4)
    np.testing.assert_array_equal(lm.embed(texts), lm.embed(texts, 'mean'))
    assert lm.embed([]).shape == (0, 24)


def test_a_look_inside_is_at_a_text_that_fits_the_window(lm):
    for text, size in (('', 0), (TEXT[:33], 33)):
        for look in (lm.inside, lm.embed, lambda text: lm.embed(['A', text])):
            with pytest.raises(ValueError, match=f'is {size} tokens; the window of this model'):
                look(text)
    with pytest.raises(ValueError, match="pooling is 'max'; it must be mean or last"):
        lm.embed('A', 'max')


def test_litert_does_what_it_can(exported, models_dir):
    shutil.copy(exported('float32'), models_dir / 'tiny')
    fast, lm = (gpt2.load(str(models_dir / 'tiny'), engine=e) for e in ('litert', 'tensorflow'))
    assert fast.hparams.n_ctx == 32
    assert fast.generate('All', length=5, seed=1) == lm.generate('All', length=5, seed=1)
    for token, other in zip(fast.next_tokens('All', 5), lm.next_tokens('All', 5), strict=True):
        assert token.id == other.id
        assert token.probability == pytest.approx(other.probability, rel=1e-3)
    with pytest.raises(ValueError, match='score is for the engine tensorflow'):
        fast.score('All')
    with pytest.raises(ValueError, match='inside is for the engine tensorflow'):
        fast.inside('All')
    with pytest.raises(ValueError, match='embed is for the engine tensorflow'):
        fast.embed('All')
