"""What is held out, and the loss on it; runs of the trainer that validate."""

import pathlib
import re
import threading

import numpy as np
import pytest
from conftest import ROOT
from test_likelihood import brute_force
from test_training import TEXT, place, scalars, train  # noqa: F401

from src import encoder, load_dataset, train_config, validation


def chunks_of(*sizes):
    edges = np.cumsum([0, *sizes])
    return [np.arange(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


@pytest.mark.parametrize(
    'sizes, fraction, train_sizes, held_sizes',
    [
        ([10], 0.1, [9], []),  # refused below: a single token predicts nothing
        ([100], 0.1, [90], [10]),
        ([1115394], 0.1, [1003854], [111540]),  # Shakespeare's plays, as nanoGPT cuts them
        ([50, 30, 20], 0.2, [50, 30], [20]),
        ([50, 30, 20], 0.4, [50, 10], [20, 20]),
        ([4, 4, 4, 4], 0.875, [2], [2, 4, 4, 4]),
        ([7], 0.5, [3], [4]),
    ],
)
def test_the_last_tokens_are_held_out(sizes, fraction, train_sizes, held_sizes):
    chunks = chunks_of(*sizes)
    if not held_sizes:
        with pytest.raises(ValueError, match='--val_split 0.1 leaves no two tokens .* held out'):
            validation.split(chunks, fraction)
        return
    kept, held_out = validation.split(chunks, fraction)
    assert [len(chunk) for chunk in kept] == train_sizes
    assert [len(chunk) for chunk in held_out] == held_sizes
    np.testing.assert_array_equal(np.concatenate(kept + held_out), np.concatenate(chunks))


@pytest.mark.parametrize('size, fraction', [(5, 0.8), (0, 0.5), (1, 0.5)])
def test_nothing_to_train_on_is_told(size, fraction):
    with pytest.raises(ValueError, match='leaves no two tokens in a row to train on'):
        validation.split(chunks_of(size), fraction)


def all_of(lm, chunks, **flags):
    config = train_config.TrainConfig(dataset='none', val_batch_count=0, **flags)
    sampler = load_dataset.Sampler(chunks, seed=1)
    return validation.Validation(lm, config, sampler, 16).loss(threading.Event())


@pytest.mark.parametrize('val_batch_size', [1, 2, 7])
def test_the_full_split_is_the_mean_over_all_of_its_tokens(tiny, val_batch_size):
    random = np.random.default_rng(1)
    chunks = [random.integers(0, 97, size) for size in (40, 2, 17)]
    costs = [cost for chunk in chunks for cost in brute_force(tiny, chunk, 16, 15)]
    loss = all_of(tiny, chunks, val_batch_size=val_batch_size)
    assert loss == pytest.approx(np.mean(costs), rel=1e-6)


def test_a_sum_that_is_stopped_is_none(tiny):
    stop = threading.Event()
    stop.set()
    config = train_config.TrainConfig(dataset='none', val_batch_count=0)
    sampler = load_dataset.Sampler(chunks_of(50), seed=1)
    assert validation.Validation(tiny, config, sampler, 16).loss(stop) is None


def test_what_is_held_out_is_not_trained_on(place, capsys):  # noqa: F811
    half = len(TEXT) // 2
    pathlib.Path('text').write_text('a' * half + 'b' * half)
    train(steps=2, val_split=0.5, val_every=1, val_batch_count=0, combine=0, sample_every=2,
          sample_length=2, save_every=1)  # fmt: skip
    out = capsys.readouterr().out
    assert f'dataset has {half} tokens\n' in out
    sampled = re.search(r'SAMPLE 1 =+\n(.)', out)[1]
    assert sampled == 'a'  # samples begin with a token that was trained on
    before = scalars('val_loss')
    train(steps=1, val_split=0.5, val_every=1, val_batch_count=0, combine=0)
    assert f'dataset has {half} tokens\n' in capsys.readouterr().out
    assert list(scalars('val_loss')) == [1, 2, 3] and before.items() <= scalars('val_loss').items()


def test_characters_are_cut_where_others_cut_them(place):  # noqa: F811
    text = (ROOT / 'demo' / 'shakespeare.txt').read_text('utf-8')[:60000]
    pathlib.Path('text').write_text(text, encoding='utf-8')
    enc = encoder.get_encoder('tiny', 'models')
    chunks = load_dataset.load_dataset(enc, 'text', 50000)
    (kept,), (held_out,) = validation.split(chunks, 0.1)
    assert enc.decode(kept.tolist()) == text[:54000]
    assert enc.decode(held_out.tolist()) == text[54000:]


@pytest.mark.parametrize(
    'flags, complaint',
    [
        ({'val_split': 1.0}, '--val_split is 1.0; it must be 0 or more, and less than 1'),
        ({'val_split': -0.1}, '--val_split is -0.1; it must be 0 or more, and less than 1'),
        ({'val_split': 0.1, 'val_dataset': 'x'}, 'leave out one of them'),
        ({'val_batch_count': -1}, '--val_batch_count is -1; it must be 0 or more'),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, complaint):
    with pytest.raises(ValueError, match=f'^[^\n]*{re.escape(complaint)}$'):
        train_config.TrainConfig(dataset='x', **flags)
