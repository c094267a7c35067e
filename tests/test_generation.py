import numpy as np
import pytest

from src import generation

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


@pytest.fixture
def loaded(models_dir):
    return generation.load('tiny', str(models_dir))


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
        encoder = loaded.encoder.encoder

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


def test_a_vocabulary_without_a_beginning_asks_for_a_prompt(loaded):
    del loaded.encoder.encoder['<|endoftext|>']
    with pytest.raises(ValueError, match='no <|endoftext|> to begin a text from; give a prompt'):
        texts(loaded, None)
