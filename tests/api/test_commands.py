"""The commands as functions; docs/python.md, all of it."""

import functools
import http.server
import pathlib
import re
import shutil
import threading

import numpy as np
import pytest
from conftest import GOLDEN, ROOT

import src as gpt2
from src.model_files import download, fetching

QUICK = {'seq_length': 16, 'sample_every': 0, 'memory_saving_gradients': True}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that has the recorded model as 124M."""
    folder = tmp_path / 'served' / 'models' / '124M'
    shutil.copytree(GOLDEN / 'openai_checkpoint', folder)
    monkeypatch.setattr(download, 'SHA256', {})
    monkeypatch.setattr(download, 'DATA_SIZES', {})
    monkeypatch.setattr(fetching, 'WAITS', ())
    monkeypatch.delenv('http_proxy', raising=False)
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / 'served')
    )
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(download, 'BASE_URL', f'http://127.0.0.1:{server.server_port}/')
        yield folder
        server.shutdown()


def test_all_examples_of_the_document(server, place, capsys):
    shutil.copy('text', 'dset.txt')
    document = (ROOT / 'docs' / 'python.md').read_text('utf-8')
    examples = re.findall(r'^```python\n(.*?)^```', document, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 6
    names = {'QUICK': QUICK}
    for example in examples:
        example = example.replace('import gpt2', 'import src as gpt2')
        example = example.replace('length=40', 'length=3').replace('[500]', '[2]')
        example = example.replace('steps=500', 'steps=2, **QUICK')
        exec(example, names)
    printed = capsys.readouterr().out
    for comment in re.findall(r'^ +print\(error\)  # (.*)$', document, re.MULTILINE):
        assert comment in printed
    assert pathlib.Path('models/124M/model.ckpt.index').exists()
    assert len(names['texts']) == 3 and len(set(names['texts'])) == 3
    assert re.search(r'^checkpoint/poems \d', printed, re.MULTILINE)


def test_what_is_not_there_cannot_be_downloaded(server, place):
    with pytest.raises(OSError, match='There is no http://127.*/models/9M/.* the models are'):
        gpt2.download('9M')
    with pytest.raises(ValueError, match="'../x' is not the name of a model"):
        gpt2.download('../x')


def test_a_run_is_what_its_files_say(place):
    run = gpt2.finetune(
        'text', model_name='tiny', run_name='r', steps=3, learning_rate=1e-3, seed=1, val_every=2,
        val_batch_count=1, **QUICK,
    )  # fmt: skip
    assert run.directory == 'checkpoint/r'
    assert list(run.losses) == [1, 2, 3] and list(run.val_losses) == [1, 2]
    again = gpt2.finetune('text', model_name='tiny', run_name='r', steps=4, **QUICK)
    assert list(again.losses) == [1, 2, 3, 4]
    assert {step: again.losses[step] for step in (1, 2, 3)} == run.losses
    lm, tiny = run.load(), gpt2.load('tiny')  # both at once
    assert lm.score('All the world').loss != tiny.score('All the world').loss
    assert np.isfinite(lm.score('All the world').loss)


def test_a_dry_run_makes_nothing(place, capsys):
    run = gpt2.finetune('text', model_name='tiny', dry_run=True)
    assert (run.losses, run.val_losses) == ({}, {}) and not pathlib.Path('checkpoint').exists()
    assert 'GB in all' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, complaint',
    [
        (
            {'optimizer': 'adamax'},
            'it must be one of adam, adamw, muon, adafactor, sgd. Did you mean',
        ),
        ({'step': 3}, "there is no option 'step'. Did you mean steps?"),
        ({'steps': 'ten'}, "--steps is 'ten'; it must be a whole number"),
        ({'steps': -1}, '--steps is -1; it must be 0 or more'),
        ({'learning_rate': 0}, '--learning_rate is 0; it must be above 0'),
        ({'pack': 'yes'}, "--pack is 'yes'; it must be True or False"),
        ({'model_name': 'none'}, 'There is no models/none'),
        ({'dataset': 'none'}, 'There is no text at none'),
        ({'dataset': None}, '--dataset is None; it must be text'),
        ({'top_p': 90}, '--top_p is 90; it must be 0 to 1'),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(place, options, complaint):
    with pytest.raises(ValueError) as error:
        gpt2.finetune(**{'dataset': 'text', 'model_name': 'tiny', **options})
    assert complaint in str(error.value) and '\n' not in str(error.value)
    assert not pathlib.Path('checkpoint').exists()


def test_a_dataset_that_cannot_be_written_is_told_at_once(place):
    with pytest.raises(ValueError, match='--num_proc is 0; it must be 1 or more'):
        gpt2.encode_dataset('text', 'out.npz', model_name='tiny', num_proc=0)
    with pytest.raises(ValueError, match='there is no folder to write none/out.npz into'):
        gpt2.encode_dataset('text', 'none/out.npz', model_name='tiny')
