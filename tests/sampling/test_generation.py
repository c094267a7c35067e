import gc
import json
import os
import pathlib
import weakref

import numpy as np
import pytest
import tensorflow as tf
from conftest import traced

from src import generate_unconditional_samples, model, sample
from src.data import processes
from src.sampling import generation, sample_config, sample_numpy, token_logprobs

LIMITS = [
    ({'nsamples': -1}, 'nsamples is -1; it must be a whole number, 0 or more'),
    ({'nsamples': 1.5}, 'nsamples is 1.5'),
    ({'batch_size': 0}, 'batch_size is 0; it must be a whole number, 1 or more'),
    ({'length': 0}, 'length is 0'),
    ({'length': 'long'}, "length is 'long'"),
    ({'temperature': -0.1}, 'temperature is -0.1; it must be a number, 0 or more'),
    ({'temperature': float('nan')}, 'temperature is nan'),
    ({'top_k': 1.5}, 'top_k is 1.5'),
    ({'top_k': True}, 'top_k is True'),
    ({'top_p': None}, 'top_p is None'),
]


@pytest.fixture(scope='module')
def loaded(shallow):
    """For all tests here: what was compiled in one serves the next."""
    return generation.load(str(shallow))


def texts(loaded, prompt='Good', **options):
    return list(generation.generate(loaded, prompt, **options))


def test_it_says_which_checkpoint_is_loaded(models_dir, capsys):
    generation.load('tiny', str(models_dir))
    assert capsys.readouterr().err == f'Loading checkpoint {models_dir}/tiny/model.ckpt\n'


def test_a_run_directory_is_a_model(models_dir):
    path = str(models_dir / 'tiny')
    assert generation.load(path).encoder.encode('a')
    assert generation.load('tiny', str(models_dir)).lm.hparams.n_ctx == 32


def test_texts_continue_the_prompt_without_it(loaded):
    (text,) = texts(loaded, 'Good', length=5, temperature=0)
    context = loaded.encoder.encode('Good')
    for _ in range(5):  # by hand: the likeliest token, again and again
        logits = loaded.lm(np.array([context], np.int32))['logits']
        context.append(int(np.argmax(logits[0, -1])))
    assert text == loaded.encoder.decode(context[4:])


@pytest.mark.parametrize('nsamples, batch_size', [(1, 1), (1, 4), (5, 2), (4, 4), (3, 1)])
def test_there_are_as_many_as_asked_for(loaded, nsamples, batch_size):
    assert len(texts(loaded, nsamples=nsamples, batch_size=batch_size, length=2)) == nsamples


def test_the_last_batch_is_compiled_with_the_others(loaded):
    texts(loaded, nsamples=2, batch_size=2, length=2)
    before = traced(loaded.lm)
    assert len(texts(loaded, ['a', 'b'], nsamples=2, batch_size=3, length=2)) == 4
    assert traced(loaded.lm) - before == 1


def test_a_model_that_is_gone_holds_no_memory(models_dir):
    loaded = generation.load('tiny', str(models_dir))
    texts(loaded, 'The', length=2)
    weights = weakref.ref(loaded.lm.params['wte'].handle)
    del loaded
    gc.collect()
    assert weights() is None


def test_without_end_when_none_is_asked_for(loaded):
    endless = generation.generate(loaded, nsamples=0, batch_size=2, length=1)
    assert len([next(endless) for _ in range(7)]) == 7


def test_a_seed_decides_whatever_the_batches_and_the_calls_before(loaded):
    first = texts(loaded, seed=5, nsamples=4, batch_size=1, length=9)
    texts(loaded, length=3)
    assert texts(loaded, seed=5, nsamples=4, batch_size=4, length=9) == first
    assert texts(loaded, seed=5, nsamples=4, batch_size=3, length=9) == first
    assert texts(loaded, seed=6, nsamples=4, length=9) != first
    assert len(set(first)) == 4
    assert texts(loaded, nsamples=4, length=9) != texts(loaded, nsamples=4, length=9)


def test_a_longer_text_begins_with_the_shorter_one(loaded):
    (short,), (long,) = (texts(loaded, seed=1, length=length) for length in (5, 20))
    assert long.startswith(short)


@pytest.mark.parametrize('prompt, tokens', [('Good', 16), ('x' * 30, 3), ('x' * 32, 1), (None, 32)])
def test_the_length_that_nobody_gave(loaded, prompt, tokens):
    """Half the window after a prompt, all of it without one, or what is left."""
    n_prompt = len(loaded.encoder.encode(prompt)) if prompt else 1
    lengths = []

    class Counting:
        encoder, decoder = loaded.encoder.encoder, loaded.encoder.decoder

        def encode(self, text):
            return loaded.encoder.encode(text)

        def decode(self, tokens, complete=True):
            lengths.append(len(tokens))
            return ''

    texts(generation.Loaded(loaded.lm, Counting()), prompt)
    assert lengths == [tokens] and n_prompt + tokens <= 33


def test_texts_and_prompts_longer_than_the_window(loaded):
    assert len(texts(loaded, 'x' * 40, length=3)) == 1
    (long,), (short,) = (texts(loaded, seed=1, length=length) for length in (90, 20))
    assert long.startswith(short)


@pytest.mark.parametrize('options, complaint', LIMITS)
def test_options_out_of_range_are_told(loaded, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        texts(loaded, **options)


def test_a_vocabulary_without_a_beginning_asks_for_a_prompt(loaded, monkeypatch):
    monkeypatch.delitem(loaded.encoder.encoder, '<|endoftext|>')
    with pytest.raises(ValueError, match='no <|endoftext|> to begin a text from; give a prompt'):
        texts(loaded, None)


def test_prompts_of_all_lengths_are_continued_as_each_alone(loaded):
    prompts = ['Good', 'x' * 20, 'a']
    together = texts(loaded, prompts, nsamples=2, batch_size=4, length=9, seed=3)
    assert together == sum((texts(loaded, p, nsamples=2, length=9, seed=3) for p in prompts), [])


def config(**options):
    return sample_config.SampleConfig(**options)


@pytest.mark.parametrize('batch_size', [1, 3])
def test_a_text_ends_before_what_stops_it(loaded, batch_size):
    options = {'seed': 2, 'nsamples': 3, 'length': 60, 'batch_size': batch_size}
    whole = texts(loaded, **options)
    stop = whole[0][20:22]  # across tokens, since this model says mostly single characters
    found = texts(loaded, config=config(stop=stop), **options)
    assert found == [text[: text.find(stop)] if stop in text else text for text in whole]
    assert texts(loaded, config=config(truncate=stop), **options) == found
    both = texts(loaded, config=config(stop=json.dumps([stop, whole[0][3]])), **options)
    assert both[0] == whole[0][: min(whole[0].find(stop), whole[0].find(whole[0][3]))]


def test_what_comes_behind_the_end_is_not_computed(successor, small):
    gpt2 = generation.Loaded(successor, small)
    assert texts(gpt2, 'a', length=900, temperature=0, config=config(stop=small.decode([70 % 50])))
    assert successor.tokens_read.numpy() < 100


def test_streamed_pieces_are_the_text(loaded):
    for options in ({}, {'config': config(stop='e')}, {'config': config(include_prefix=True)}):
        for number, text in enumerate(texts(loaded, seed=3, nsamples=3, length=40, **options)):
            pieces = list(
                generation.stream(loaded, 'Good', seed=3, number=number, length=40, **options)
            )
            assert ''.join(pieces) == text
            assert all(pieces)


def test_no_piece_of_a_stream_ends_inside_of_a_character_or_of_a_stop(small):
    text = 'x大🙂 END'
    ids = small.encode(text)
    assert len(ids) > len(text)

    class Says(tf.Module):  # one token after the other, whatever it reads
        hparams = model.HParams(1024, n_ctx=64, n_embd=1, n_head=1, n_layer=1)

        def empty_cache(self, batch_size, window):
            return model.empty_cache(hparams=self.hparams, batch_size=batch_size, window=window)

        def __call__(self, tokens, past):
            (present,) = [p._replace(length=p.length + tokens.shape[1]) for p in past]
            said = tf.gather([*ids, 0, 0], tf.minimum(present.length - 1, len(ids)))
            return {'logits': 10 * tf.one_hot(said, 1024)[:, None], 'present': [present]}

    gpt2, options = generation.Loaded(Says(), small), {'temperature': 0, 'length': len(ids)}
    pieces = list(generation.stream(gpt2, 'a', **options))
    assert ''.join(pieces) == text and '大' in pieces and '🙂' in pieces
    pieces = list(generation.stream(gpt2, 'a', config=config(stop=' END'), **options))
    assert ''.join(pieces) == 'x大🙂' and not any(' ' in piece for piece in pieces)


def test_what_was_streamed_is_not_decoded_again(successor, small, monkeypatch):
    decoded, decode = [], small.decode
    monkeypatch.setattr(
        small, 'decode', lambda ids, **options: decoded.extend(ids) or decode(ids, **options)
    )
    pieces = generation.stream(generation.Loaded(successor, small), 'a', length=200, temperature=0)
    assert ''.join(pieces) and len(decoded) == 2 * 200


def test_what_shall_not_be_said_is_not_said(loaded, tmp_path):
    (said,) = texts(loaded, length=30, temperature=0)
    words = tmp_path / 'words'
    words.write_text(said[0] + '\n\n')
    for changes in ({'bad_words_file': str(words)}, {'logit_bias': json.dumps({said[0]: -1000})}):
        (text,) = texts(loaded, length=30, temperature=0, config=config(**changes))
        assert said[0] not in text
    (text,) = texts(loaded, length=6, temperature=0, config=config(no_repeat_ngram=1))
    ids = loaded.encoder.encode('Good') + loaded.encoder.encode(text)
    assert len(set(text)) == len(text) or len(set(ids)) == len(ids)


def test_the_end_of_text_is_suppressed(loaded):
    end = generation.end_of_text(loaded.encoder)
    loaded.lm.params['wte'].assign(tf.zeros([97, 24]))  # all tokens are as likely as each other
    uniforms = {'length': 300, 'seed': 1, 'nsamples': 3}
    plain = [each.ids for each in generation.samples(loaded, 'a', **uniforms)]
    assert any(end in ids for ids in plain)
    without = config(suppress_endoftext=True)
    for each in generation.samples(loaded, 'a', config=without, **uniforms):
        assert end not in each.ids


def test_logprobs_are_the_models(loaded):
    (said,) = generation.samples(loaded, 'Good', length=6, seed=1, top_k=5, temperature=0.5)
    context, total = loaded.encoder.encode('Good'), 0.0
    found = token_logprobs.of_sample(loaded, said, 2)
    for token, entry in zip(said.ids, found, strict=True):
        logits = loaded.lm(np.array([context], np.int32))['logits'][0, -1].numpy()
        logs = logits - np.log(np.sum(np.exp(logits, dtype=np.float64)))
        assert entry['id'] == token and entry['text'] == loaded.encoder.decode([token])
        np.testing.assert_allclose(entry['logprob'], logs[token], atol=1e-4)
        assert [each['id'] for each in entry['top']] == np.argsort(-logs)[:2].tolist()
        context.append(token)
        total += entry['logprob']
    assert total < 0
    with pytest.raises(ValueError, match='fit into the window of 32 tokens; this has 54'):
        token_logprobs.of_sample(loaded, generation.Sample('a', [1] * 4, [1] * 50, ''), 1)


class Thinking:
    """As a model that thinks the same of each token."""

    hparams = model.HParams(50, n_ctx=32, n_embd=1, n_head=1, n_layer=1)

    def __init__(self, logits):
        self.logits = np.array(logits, np.float32)

    def __call__(self, tokens):
        return {'logits': tf.broadcast_to(self.logits, [*tokens.shape, len(self.logits)])}


@pytest.mark.parametrize('top, expected', [(2, [3, 0]), (4, [3, 0, 1, 2]), (9, [3, 0, 1, 2, 4])])
def test_of_what_is_as_likely_the_lower_id_comes_first(small, top, expected):
    gpt2 = generation.Loaded(Thinking([1, 1, 1, 2, 0]), small)
    for entry in token_logprobs.of_sample(gpt2, generation.Sample('a', [1], [4, 1], ''), top):
        assert [each['id'] for each in entry['top']] == expected


def test_logprobs_that_memory_has_no_room_for_say_what_to_lower(small, monkeypatch):
    def fails(*_):
        raise tf.errors.ResourceExhaustedError(None, None, 'x')

    monkeypatch.setattr(Thinking, '__call__', fails)
    with pytest.raises(ValueError, match='^The memory is not enough for this; lower --batch_size'):
        token_logprobs.of_sample(
            generation.Loaded(Thinking([1]), small), generation.Sample('a', [0], [0], ''), 1
        )


@pytest.mark.parametrize('options, tokens', [({'length': 33}, 34), ({'prefix': 'x' * 40}, 41)])
def test_logprobs_of_texts_longer_than_the_window_are_refused_at_once(
    models_dir, monkeypatch, options, tokens
):
    monkeypatch.setattr(sample.Rows, 'grow', None)
    with pytest.raises(ValueError, match=f'window of 32 tokens; this has {tokens}. Give a smaller'):
        generate_unconditional_samples.sample_model(
            str(models_dir / 'tiny'), nsamples=1, out=str(models_dir / 'new'), logprobs=1, **options
        )
    assert not os.path.exists(models_dir / 'new')


def test_beams_come_best_first_and_one_is_the_greedy_text(loaded):
    (greedy,) = texts(loaded, length=8, temperature=0)
    assert texts(loaded, length=8, config=config(num_beams=1)) == [greedy]
    found = list(generation.samples(loaded, 'Good', length=8, config=config(num_beams=3)))
    sums = [
        sum(token['logprob'] for token in token_logprobs.of_sample(loaded, each, 1))
        for each in found
    ]
    assert len(found) == 3 and sums == sorted(sums, reverse=True)
    assert len(texts(loaded, length=8, nsamples=2, config=config(num_beams=3))) == 2
    with pytest.raises(ValueError, match='leave out what changes that'):
        config(num_beams=2, no_repeat_ngram=3)


def test_a_million_million_samples_begin_at_once(loaded):
    many = generation.generate(loaded, ['Good', 'a'], nsamples=10**12, length=2)
    assert len([next(many) for _ in range(3)]) == 3
    with pytest.raises(ValueError, match='10000 texts of 1000000 tokens are too many at once; low'):
        next(generation.generate(loaded, nsamples=10**12, batch_size=10**4, length=10**6))


@pytest.mark.parametrize(
    'error', [MemoryError(), tf.errors.ResourceExhaustedError(None, None, 'x')]
)
def test_too_little_memory_says_what_to_lower(loaded, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(sample.Rows, 'grow', fails)
    with pytest.raises(ValueError, match='^The memory is not enough for this; lower --batch_size'):
        texts(loaded, length=2)
    with pytest.raises(ValueError, match='^The memory is not enough for this; lower --batch_size'):
        list(generation.stream(loaded, 'Good', length=2))


def test_more_texts_than_memory_could_hold_are_refused(loaded, exported, monkeypatch):
    hparams = loaded.lm.hparams
    each = 4 * 2 * hparams.n_layer * hparams.n_embd * hparams.n_ctx  # bytes: keys and values
    monkeypatch.setattr(processes, 'available_memory', lambda: 4 * each)
    options = {'length': 100, 'nsamples': 5, 'batch_size': 5}
    with pytest.raises(ValueError, match='^5 texts of 32 tokens at once need 0.0 GB, and there'):
        texts(loaded, **options)
    assert texts(loaded, **options | {'batch_size': 4, 'length': 1})
    lite = generation.load(str(pathlib.Path(exported('float32')).parent), engine='litert')
    monkeypatch.setattr(processes, 'available_memory', lambda: 4 * 3 * each)  # it has 3 layers
    with pytest.raises(ValueError, match='^5 texts of 32 tokens at once'):
        texts(lite, **options)
    assert texts(lite, **options | {'batch_size': 4})


def test_endoftext_in_a_prompt_is_the_token_as_in_a_dataset(loaded):
    (said,) = generation.samples(loaded, 'a<|endoftext|>', length=1)
    assert said.context == [*loaded.encoder.encode('a'), generation.end_of_text(loaded.encoder)]


def test_ngrams_longer_than_any_text_forbid_nothing(loaded):
    plain = texts(loaded, seed=1, length=40)
    assert texts(loaded, seed=1, length=40, config=config(no_repeat_ngram=200)) == plain


class Slow:
    """As a model of LiteRT that says one token, and is interrupted at one of its steps."""

    hparams = model.HParams(1024, n_ctx=64, n_embd=1, n_head=1, n_layer=1)

    def __init__(self, interrupted_at):
        self.steps, self.interrupted_at = 0, interrupted_at

    def start(self, tokens):
        return self.step(tokens[-1])

    def step(self, token):
        self.steps += 1
        if self.steps == self.interrupted_at:
            raise KeyboardInterrupt
        return np.eye(1024, dtype=np.float32)[70]


def test_samples_that_are_whole_when_it_is_interrupted_are_not_lost(small, monkeypatch):
    monkeypatch.setattr(generation.backends, 'rows', sample_numpy.Rows)
    samples = generation.samples(
        generation.Loaded(Slow(interrupted_at=25), small), 'a', nsamples=9, batch_size=5, length=10
    )
    assert [len(next(samples).ids) for _ in range(2)] == [10, 10]
    with pytest.raises(KeyboardInterrupt):
        next(samples)


def test_slow_tokens_are_drawn_few_at_once_so_that_control_c_is_heard(loaded, monkeypatch):
    asked, grow = [], sample.Rows.grow
    clock = iter(range(10**6))  # each call takes a second
    monkeypatch.setattr(generation.time, 'monotonic', lambda: next(clock))
    monkeypatch.setattr(
        sample.Rows, 'grow', lambda self, number: asked.append(number) or grow(self, number)
    )
    texts(loaded, length=9, seed=1)
    assert asked[:3] == [4, 2, 1] and set(asked[3:]) == {1}
    monkeypatch.setattr(generation.time, 'monotonic', lambda: 0)
    asked.clear()
    texts(loaded, length=200, seed=1)
    assert asked == [4, 8, 16, 32, 64, 64, 64]
