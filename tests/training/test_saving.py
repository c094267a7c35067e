"""Which weights are saved, and which are not, when a run goes wrong."""

import json
import os
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from runs import scalars, train, weights

from src import encoder, load_dataset
from src.data import packing
from src.gradients import lora
from src.model_files import checkpoint, model_directory, rotation
from src.training import train_config, train_step

RUN = 'checkpoint/run1'
DIVERGING = {'learning_rate': 1e38, 'optimizer': 'sgd'}  # one step, and all is infinite


def whole(prefix):
    return all(np.isfinite(value).all() for value in weights(prefix).values())


def kept():
    return rotation.kept(RUN)


def test_a_diverged_run_keeps_its_good_checkpoints(place, capsys):
    train(steps=4, save_every=1)
    good = kept()
    with pytest.raises(ValueError, match='not a number in 5 steps in a row'):
        train(steps=20, save_every=1, **DIVERGING)
    assert kept()[-1] in ('model-4', 'model-5') and set(kept()) >= set(good)
    assert all(whole(f'{RUN}/{name}') for name in kept())
    assert checkpoint.load_state(model_directory.latest(RUN)) is not None
    err = capsys.readouterr().err
    assert 'is not saved: its weights are too large to compute with; the last good one is' in err


def test_weights_whose_loss_is_no_number_are_taken_back(place, capsys, monkeypatch):
    train(steps=4, save_every=1)
    compiled = train_step.compiled

    def without_a_loss(*arguments):
        step = compiled(*arguments)

        def call(batches, learning_rate):
            return float('nan'), float('nan')

        call.input_signature = step.input_signature
        return call

    monkeypatch.setattr(train_step, 'compiled', without_a_loss)
    with pytest.raises(ValueError, match='not a number in 5 steps in a row'):
        train(steps=20, save_every=5)  # before the first step that is made, and is not a number
    err = capsys.readouterr().err
    assert 'model-5 gives no loss that is a number, and is taken back; model-4 is the last' in err
    assert kept() == [f'model-{n}' for n in range(1, 5)]
    assert checkpoint.load_state(f'{RUN}/model-4') is not None


def test_the_end_of_steps_saves_no_weights_that_are_no_numbers(trained, capsys):
    train(steps=4, **DIVERGING)  # skipped steps, fewer than end a run
    assert kept() == ['model-2'] and whole(f'{RUN}/model-2')
    said = 'model-4 is not saved: its loss or gradient is not a number; the last good one is'
    assert f'{said} {RUN}/model-2\n' in capsys.readouterr().err


def test_old_checkpoints_that_cannot_be_removed_do_not_end_the_run(place, capsys, monkeypatch):
    rotate, calls = rotation.rotate, []

    def full(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(28, 'No space left on device')
        rotate(*arguments, **options)

    monkeypatch.setattr(rotation, 'rotate', full)
    train(steps=9, save_every=1)
    assert 'No space left on device. Training goes on\n' in capsys.readouterr().err
    assert kept() == [f'model-{n}' for n in (5, 6, 7, 8, 9)] and len(scalars('loss')) == 9


def test_the_newest_that_validated_is_not_rotated_away(place):
    train(steps=11, save_every=1, val_every=4, val_batch_count=1, save_best=True)
    assert kept() == [f'model-{n}' for n in (7, 8, 9, 10, 11)]
    train(steps=15, save_every=1, val_every=100, val_batch_count=1, save_best=True)
    assert kept() == [f'model-{n}' for n in (11, 12, 13, 14, 15)]  # this process knows of none
    train(steps=23, save_every=1, val_every=16, val_batch_count=1, save_best=True)
    assert kept() == [f'model-{n}' for n in (16, 19, 20, 21, 22, 23)]


def test_how_many_checkpoints_stay_and_where(place, capsys):
    def kept():
        return rotation.kept('runs/run1')

    train(steps=5, save_every=1, checkpoint_dir='runs', max_checkpoints=2, print_every=2)
    assert kept() == ['model-4', 'model-5']
    assert len(pathlib.Path('runs/run1/loss.csv').read_text().splitlines()) == 1 + 5
    assert re.findall(r'^\[(\d+) ', capsys.readouterr().out, re.MULTILINE) == ['2', '4']
    goes_on = {'save_every': 1, 'checkpoint_dir': 'runs', 'max_checkpoints': 1}
    train(steps=8, keep_earlier=True, **goes_on)
    assert kept() == ['model-4', 'model-5', 'model-8']
    train(steps=9, **goes_on)
    assert kept() == ['model-9']
    assert not os.path.exists('checkpoint') and not os.path.exists('runs/.run1.lock')
    train(steps=2, keep_earlier=True, restore_from='fresh', **goes_on)
    assert kept() == ['model-2'] and rotation.kept('runs/run1.1') == ['model-9']


@pytest.mark.parametrize(
    'before, after',
    [
        ({'optimizer': 'sgd'}, {'optimizer': 'adam'}),
        ({'lora_rank': 2}, {}),
        ({}, {'lora_rank': 2}),
    ],
)
def test_an_optimizer_that_starts_anew_corrects_its_bias(place, capsys, before, after):
    """The first steps are as large as those of a run that begins from the same weights."""
    common = {'learning_rate': 1e-3, 'seed': 3}
    train(steps=30, run_name='a', **common, **before)
    train(steps=31, run_name='a', **common, **after)
    assert 'its optimizer starts anew' in capsys.readouterr().err
    train(steps=1, run_name='b', restore_from='checkpoint/a/model-30', **common, **after)

    def change(run, last):
        start = weights('checkpoint/a/model-30')
        end = weights(f'checkpoint/{run}/model-{last}')
        return np.sqrt(sum(np.square(end[name] - start[name]).sum() for name in start))

    assert change('a', 31) == pytest.approx(change('b', 1), rel=0.3)


def test_a_run_is_resumed_at_the_step_before_which_it_was_saved(place, capsys):
    train(steps=7, save_every=3, run_name='whole')
    train(steps=7, save_every=3)
    names = [name for name in kept() if name != 'model-7']
    rotation.point_to(RUN, names)  # as if it had been killed in step 7
    state = json.loads(checkpoint.load_state('checkpoint/whole/model-7')['numbers'])
    assert state['counter'] == 8 and names[-1] == 'model-6'


def test_steps_are_those_of_the_whole_run(place, capsys):
    flags = {'schedule': 'cosine', 'learning_rate': 1e-3}
    train(steps=8, run_name='whole', **flags)
    train(steps=8, **flags)
    train(steps=8, **flags)
    assert list(scalars('learning_rate')) == list(range(1, 9))
    assert scalars('learning_rate') == scalars('learning_rate', 'whole')
    out, err = capsys.readouterr()
    assert 'The run has made its 8 steps; it goes on with more --steps\n' in err
    train(steps=10)
    err = capsys.readouterr().err
    assert 'continuing at step 9 of 10\n' in err
    assert list(scalars('loss')) == list(range(1, 11))


def test_another_dataset_is_said(trained, capsys):
    pathlib.Path('other').write_text('Quite another text. ' * 40)
    train(steps=3, dataset='other')
    assert 'The dataset is another one than before, or read otherwise\n' in capsys.readouterr().err
    train(steps=4, dataset='other')
    assert 'another one' not in capsys.readouterr().err


def test_epochs_are_steps(place, capsys):
    tokens = len(pathlib.Path('text').read_text()) + 1  # and the end of it
    train(steps=0, epochs=0.5)
    steps = int(np.ceil(0.5 * tokens / 32))  # of two windows of 16 tokens
    assert list(scalars('loss')) == list(range(1, steps + 1))
    assert f'0.5 epochs are {steps} steps of 2 windows of 16 tokens\n' in capsys.readouterr().err


def test_epochs_of_packed_texts_have_each_text_once(place, capsys):
    pathlib.Path('text').write_text('<|endoftext|>'.join(f'{n} is a number' for n in range(40)))
    train(steps=0, epochs=2, pack=True, seq_length=32, batch_size=1)
    last = max(scalars('loss'))
    state = json.loads(checkpoint.load_state(f'{RUN}/model-{last}')['numbers'])['sampler']
    chunks = load_dataset.load_dataset(encoder.get_encoder('tiny', 'models'), 'text', 50000)
    (end,) = encoder.get_encoder('tiny', 'models').encode_to_numpy('<|endoftext|>')
    sampler = packing.PackedSampler(chunks, end, seed=1)
    while sampler.epoch < 2:  # the generator counts an epoch when it is asked for the next window
        before = sampler.state()
        sampler.sample(32)
    assert state == before


def test_a_state_that_is_damaged_is_named(place):
    train(steps=1)
    tensors = checkpoint.load_state(f'{RUN}/model-1')
    checkpoint._write(f'{RUN}/state-1', {**tensors, 'numbers': tf.constant('{}')})
    with pytest.raises(ValueError, match='state that lies beside .*model-1 is damaged') as error:
        train(steps=2)
    assert '\n' not in str(error.value)


CHANGES = [
    {'seed': 'x'}, {'seed': [1]}, {'seed': 2**63}, {'counter': -1}, {'updates': 1.5},
    {'avg_loss': [0.0]}, {'avg_loss': ['a', 'b']}, {'avg_loss': [10**400, 1.0]},
    {'validation': [None, 0]}, {'sampler': {'seed': 1, 'epoch': -1, 'drawn': 0}},
    {'sampler': {'seed': 1, 'epoch': 0, 'drawn': 'x'}}, {'sampler': None},
]  # fmt: skip
TEXTS = ['null', '[]', '{"seed": "x"}', '"', '{"seed": 1}', '[' * 100_000]


@pytest.mark.parametrize('changes', [*CHANGES, *TEXTS], ids=lambda changes: str(changes)[:30])
def test_numbers_that_no_state_has_are_told(tiny, changes):
    config = train_config.TrainConfig(dataset='none', pack=True)
    state = train_step.TrainState(tiny, config, [np.arange(50, dtype=np.uint16)], end=3)
    tensors = state.tensors()
    state.restore(tensors, 'model-1')
    if isinstance(changes, dict):
        changes = json.dumps({**json.loads(tensors['numbers']), **changes})
    with pytest.raises(ValueError, match='state that lies beside model-1 is damaged') as error:
        state.restore({**tensors, 'numbers': changes}, 'model-1')
    assert '\n' not in str(error.value)


def test_adapters_suffix_is_one_that_rotation_knows():
    assert rotation.EXTENSIONS.count('adapters') == 1 and lora.SUFFIX == '.adapters.npz'
