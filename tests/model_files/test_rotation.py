"""Which files of a run's directory stay, whatever happens while it saves."""

import os
import pathlib
import shutil

import pytest
import tensorflow as tf
from conftest import ROOT
from test_checkpoint import HPARAMS, numbered, same, save

from src.model_files import checkpoint, model_directory, rotation

THEIRS = {
    'model-1.zip': b'1', 'model-1.notes.txt': b'2', 'state-1.txt': b'3', 'checkpoint.new': b'4',
    'model-1.int8.tflite': b'5', 'model-x.index': b'6', 'saving-12345678': b'7',
}  # fmt: skip
CHECKPOINT = {'index', 'meta', 'data-00000-of-00001'}


@pytest.fixture
def model_dir(models_dir):
    return models_dir / 'tiny'


@pytest.fixture
def run(tmp_path):
    path = tmp_path / 'run'
    path.mkdir()
    return path


def ours(run):
    """The names of all files of checkpoints and states, without extensions."""
    names = {path.name.partition('.')[0] for path in run.iterdir()}
    return {name for name in names if name.startswith(('model-', 'state-', 'saving-', '.ch'))}


def test_what_is_not_ours_outlives_any_number_of_saves(run, model_dir):
    for name, content in THEIRS.items():
        (run / name).write_bytes(content)
    for folder in ('saving-grace', 'model-2.backup', 'model-2.index.d'):
        (run / folder).mkdir()
        (run / folder / 'file').touch()
    for counter in range(1, 10):
        save(run, counter, model_dir)
    assert {name: (run / name).read_bytes() for name in THEIRS} == THEIRS
    assert (run / 'saving-grace' / 'file').exists() and (run / 'model-2.backup' / 'file').exists()
    assert rotation.kept(run) == [f'model-{n}' for n in range(5, 10)]
    assert {path.suffix[1:] for path in run.glob('model-4.*')} == set()
    assert not list(run.glob('model-4.index')) and list(run.glob('state-*.index')) == [
        run / 'state-9.index'
    ]


def test_one_that_is_protected_stays(run, model_dir):
    for counter in range(1, 4):
        save(run, counter, model_dir)
    rotation.rotate(run, keep=1, protected=['model-1'])
    assert rotation.kept(run) == ['model-1', 'model-3']
    assert ours(run) == {'model-1', 'model-3', 'state-3'}
    assert same(checkpoint.load(str(run / 'model-1'), HPARAMS), numbered(1))


def test_the_last_one_is_withdrawn_and_the_state_before_it_is_there(run, model_dir):
    files = {n: (model_dir / n).read_bytes() for n in model_directory.ARCHITECTURE}
    for counter in (1, 2):
        state = {'state': tf.constant(counter)}
        checkpoint.save(str(run), counter, numbered(counter), state, files, keep=None)
    assert rotation.withdraw(run, 'model-2') == 'model-1'
    prefix = model_directory.latest(run)
    assert prefix == str(run / 'model-1')
    assert checkpoint.load_state(prefix) == {'state': 1}
    assert ours(run) == {'model-1', 'state-1'}
    assert rotation.withdraw(run, 'model-1') is None
    assert model_directory.latest(run) == prefix  # there is no other one


@pytest.fixture
def quick(monkeypatch):
    """The graph takes longer to make than all else, and does not matter here."""
    monkeypatch.setattr(checkpoint, '_meta_graph', lambda shapes: b'a graph')


class Killed(BaseException):
    pass


def _trace(run, model_dir, counter, stop):
    """Save, and raise Killed before the call number `stop` that changes a name."""
    count = 0
    kept = {name: getattr(os, name) for name in ('replace', 'remove')}
    rmtree = shutil.rmtree

    def counted(name):
        def function(*arguments, **options):
            nonlocal count
            if count == stop:
                raise Killed
            count += 1
            return kept[name](*arguments, **options)

        return function

    def no_cleaning(path, *arguments, **options):  # a process that is killed does none
        if stop is None:
            rmtree(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in kept:
            patch.setattr(os, name, counted(name))
        patch.setattr(shutil, 'rmtree', no_cleaning)
        try:
            save(run, counter, model_dir)
        except Killed:
            pass
    return range(count)


@pytest.mark.parametrize('again', [False, True], ids=['another', 'the same again'])
def test_killed_anywhere_the_next_save_leaves_what_checkpoint_names_alone(
    tmp_path, model_dir, quick, again
):
    counter = 6 if again else 7
    template = tmp_path / 'template'
    for each in range(1, 7):
        save(template, each, model_dir)
    shutil.copytree(template, tmp_path / 'counted')
    number = len(_trace(tmp_path / 'counted', model_dir, counter, None))
    assert number > 8
    for stop in range(number):
        run = tmp_path / f'run{stop}'
        shutil.copytree(template, run)
        _trace(run, model_dir, counter, stop)
        prefix = model_directory.latest(run)
        latest = checkpoint.load(prefix, HPARAMS)
        assert same(latest, numbered(6)) or same(latest, numbered(counter))
        save(run, 20, model_dir)
        kept = rotation.kept(run)
        assert ours(run) == {*kept, 'state-20'}, stop
        assert kept[-1] == 'model-20' and len(kept) == 5
        shutil.rmtree(run)


def test_a_first_save_that_was_cut_off_leaves_nothing_of_its_model(tmp_path, model_dir, quick):
    number = len(_trace(tmp_path / 'counted', model_dir, 1, None))
    shutil.copytree(ROOT / 'models' / 'shakespeare', tmp_path / 'other')
    for stop in range(1, number):
        run = tmp_path / f'run{stop}'
        _trace(run, tmp_path / 'other', 1, stop)
        if model_directory.latest(run):
            continue
        save(run, 1, model_dir)
        for name in model_directory.ARCHITECTURE:
            assert (run / name).read_bytes() == (pathlib.Path(model_dir) / name).read_bytes(), stop
