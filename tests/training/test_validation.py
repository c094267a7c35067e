"""What is held out, and the loss on it; runs of the trainer that validate."""

import json
import pathlib
import re
import threading

import numpy as np
import pytest
from conftest import ROOT, TEXT
from oracle import brute_force
from runs import same, scalars, train, weights

from src import encoder, load_dataset
from src.model_files import checkpoint, model_directory
from src.sampling import generation
from src.training import train_config, validation


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


def test_what_is_held_out_is_not_trained_on(place, capsys):
    half = len(TEXT) // 2
    pathlib.Path('text').write_text('a' * half + 'b' * half)
    train(steps=2, val_split=0.5, val_every=1, val_batch_count=0, combine=0, sample_every=2,
          sample_length=2, save_every=1)  # fmt: skip
    out = capsys.readouterr().out
    assert f'dataset has {half} tokens\n' in out
    sampled = re.search(r'SAMPLE 1 =+\n(.)', out)[1]
    assert sampled == 'a'  # samples begin with a token that was trained on
    before = scalars('val_loss')
    train(steps=3, val_split=0.5, val_every=1, val_batch_count=0, combine=0)
    assert f'dataset has {half} tokens\n' in capsys.readouterr().out
    assert list(scalars('val_loss')) == [1, 2, 3] and before.items() <= scalars('val_loss').items()


def test_of_a_short_text_to_validate_on_the_windows_are_named(place, capsys):
    pathlib.Path('short').write_text('Short.')
    train(steps=1, val_every=1, val_dataset='short')
    err = capsys.readouterr().err
    assert 'longest validation text has 7 tokens; validation windows have as many instead' in err
    assert 'training text' not in err


def test_what_is_trained_on_and_validated_on_is_called_short_once(place, capsys):
    pathlib.Path('text').write_text('Short.')
    train(steps=1, val_every=1)
    err = capsys.readouterr().err
    assert err.count('The longest') == 1 and 'The longest training text has 7 tokens' in err


def test_packed_windows_may_be_longer_than_those_of_validation(place, capsys):
    pathlib.Path('folder').mkdir()
    for number in range(4):
        pathlib.Path(f'folder/{number}').write_text('Short.')
    train(dataset='folder', steps=1, combine=0, pack=True, val_every=1)
    err = capsys.readouterr().err
    assert err.count('The longest') == 1 and 'The longest validation text has 6 tokens' in err


def test_characters_are_cut_where_others_cut_them(place):
    text = (ROOT / 'demo' / 'shakespeare.txt').read_text('utf-8')[:60000]
    pathlib.Path('text').write_text(text, encoding='utf-8')
    enc = encoder.get_encoder('tiny', 'models')
    chunks = load_dataset.load_dataset(enc, 'text', 50000)
    (kept,), (held_out,) = validation.split(chunks, 0.1)
    assert enc.decode(kept.tolist()) == text[:54000]
    assert enc.decode(held_out.tolist()) == text[54000:]


def losses_are(monkeypatch, losses):
    """The validations of all runs in turn find these, whatever the model says."""
    losses = iter(losses)
    monkeypatch.setattr(validation.Validation, 'loss', lambda self, stop: next(losses))


def files(directory):
    return {path.name for path in pathlib.Path(directory).iterdir()}


def test_the_best_is_a_model_of_its_own(place, monkeypatch, capsys):
    losses_are(monkeypatch, [3.0, 2.0, 2.5, np.nan, 2.0])
    train(steps=5, val_every=1, save_best=True)
    train(steps=1, run_name='one')
    assert files('checkpoint/run1/best') == {
        'checkpoint', 'counter', 'encoder.json', 'hparams.json', 'vocab.bpe', 'model-2.meta',
        'model-2.index', 'model-2.data-00000-of-00001',
    }  # fmt: skip
    assert same(weights('checkpoint/run1/best/model-2'), weights('checkpoint/one/model-1'))
    err = capsys.readouterr().err
    assert re.findall('^Saving (.*)$', err, re.MULTILINE) == [
        'checkpoint/run1/best/model-1',
        'checkpoint/run1/best/model-2',
    ]
    assert next(generation.generate(generation.load('checkpoint/run1/best'), 'The', length=2))
    train(steps=1, restore_from='fresh')
    assert 'model-2.index' in files('checkpoint/run1.1/best')
    assert not pathlib.Path('checkpoint/run1/best').exists()


def test_the_best_of_a_run_that_was_never_saved_is_kept(place, monkeypatch):
    losses_are(monkeypatch, [3.0])
    train(steps=1, val_every=1, save_best=True)
    pathlib.Path('checkpoint/run1/checkpoint').unlink()
    train(steps=1)
    assert model_directory.latest('checkpoint/run1.1/best') == 'checkpoint/run1.1/best/model-1'


def test_adapters_are_merged_into_the_best(place, monkeypatch):
    losses_are(monkeypatch, [3.0, 2.0])
    train(steps=2, val_every=2, save_best=True, lora_rank=2, learning_rate=0.1)
    train(steps=1, run_name='one', lora_rank=2, learning_rate=0.1)
    assert same(weights('checkpoint/run1/best/model-2'), weights('checkpoint/one/model-1'))


def test_patience_ends_the_run_saved(place, monkeypatch, capsys):
    losses_are(monkeypatch, [3.0, 2.0, 2.1, 2.0, 1.9, 1.9, 2.0, 2.1, 2.2])
    train(steps=100, val_every=2, patience=3)
    out, err = capsys.readouterr()
    assert out.endswith('Saving checkpoint/run1/model-14\n') and 'interrupted' not in out
    assert list(scalars('val_loss')) == [1, 2, 4, 6, 8, 10, 12, 14]
    assert err.endswith(
        'The validation loss was 1.90 at best, and not lower in the last 3 validations; '
        'stopping after this step\n'
    )


def test_the_best_and_the_patience_are_resumed(place, monkeypatch):
    losses_are(monkeypatch, [3.0, 2.0, 2.5, 2.1, 1.5, 1.6, 1.6])
    flags = {'val_every': 1, 'patience': 3, 'save_best': True}
    train(steps=3, **flags)
    train(steps=5, **flags)
    assert 'model-5.index' in files('checkpoint/run1/best')
    train(steps=7, **flags)
    assert model_directory.latest('checkpoint/run1') == 'checkpoint/run1/model-7'
    losses_are(monkeypatch, [1.5, 9.0])
    train(steps=16, **flags)
    assert model_directory.latest('checkpoint/run1') == 'checkpoint/run1/model-8'


def test_a_checkpoint_on_the_way_knows_of_its_validation(place, monkeypatch):
    losses_are(monkeypatch, [3.0, 2.0])
    train(steps=3, val_every=2, save_every=2, save_best=True)
    state = checkpoint.load_state('checkpoint/run1/model-3')
    assert json.loads(state['numbers'])['validation'] == [2.0, 0]


def test_a_full_disk_keeps_no_run_from_its_end(place, monkeypatch, capsys):
    losses_are(monkeypatch, [3.0, 2.0])
    save = checkpoint.save

    def full(directory, *others, **options):
        if directory.endswith('best'):
            raise OSError(28, 'No space left on device')
        save(directory, *others, **options)

    monkeypatch.setattr(checkpoint, 'save', full)
    train(steps=2, val_every=2, save_best=True)
    assert capsys.readouterr().err.count('No space left on device. Training goes on\n') == 2


@pytest.mark.parametrize(
    'flags, complaint',
    [
        ({'val_split': 1.0}, '--val_split is 1.0; it must be 0 or more, and less than 1'),
        ({'val_split': -0.1}, '--val_split is -0.1; it must be 0 or more, and less than 1'),
        ({'val_split': 0.1, 'val_dataset': 'x'}, 'leave out one of them'),
        ({'save_best': True}, '--save_best goes by the validation loss; give --val_every as well'),
        ({'patience': 3}, '--patience goes by the validation loss; give --val_every as well'),
        ({'patience': -1, 'val_every': 1}, '--patience is -1; it must be 0 or more'),
        ({'val_batch_count': -1}, '--val_batch_count is -1; it must be 0 or more'),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, complaint):
    with pytest.raises(ValueError, match=f'^[^\n]*{re.escape(complaint)}$'):
        train_config.TrainConfig(dataset='x', **flags)
