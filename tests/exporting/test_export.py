"""Files for other programs: what is in them, where they lie, and what cannot be written."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import started
from conftest import ROOT

from src import model
from src.command_line import flags
from src.data import processes
from src.exporting import export
from src.model_files import checkpoint
from src.sampling import litert


def config(models_dir, **options):
    return export.ExportConfig(model_name='tiny', models_dir=str(models_dir), **options)


def files(models_dir):
    return {p.name: p.is_dir() or p.read_bytes() for p in (models_dir / 'tiny').iterdir()}


@pytest.fixture
def models_dir(shallow_models_dir):
    """A folder with the model `tiny`, of one layer."""
    return shallow_models_dir


@pytest.fixture(scope='module')
def saved_model(shallow, tmp_path_factory):
    """The model's SavedModel, written twice: the second takes the place of the first."""
    models_dir = tmp_path_factory.mktemp('models')
    shutil.copytree(shallow, models_dir / 'tiny')
    path = export.export(config(models_dir, format='savedmodel'))
    before = sorted(files(models_dir))
    assert export.export(config(models_dir, format='savedmodel')) == path
    assert sorted(files(models_dir)) == before
    return path


LOADER = """
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
tokens = np.load(sys.argv[2])
for name in ('serving_default', 'all'):
    np.save(name, loaded.signatures[name](tokens=tf.constant(tokens))['logits'])
    assert loaded.signatures[name](tokens=tokens[:1, :1])['logits'].shape[0] == 1
assert 'src' not in sys.modules
"""


def test_a_saved_model_needs_nothing_of_ours(saved_model, shallow, tmp_path):
    tokens = np.random.default_rng(0).integers(0, 97, [3, 32]).astype(np.int32)
    np.save(tmp_path / 'tokens.npy', tokens)
    subprocess.run(
        [sys.executable, '-c', LOADER, saved_model, 'tokens.npy'],
        cwd=tmp_path, check=True, timeout=120,
    )  # fmt: skip
    hparams = checkpoint.read_hparams(str(shallow))
    lm = model.GPT2(hparams, checkpoint.load(str(shallow / 'model.ckpt'), hparams))
    expected = lm(tokens)['logits'].numpy()
    assert np.allclose(np.load(tmp_path / 'all.npy'), expected, atol=1e-5)
    assert np.allclose(np.load(tmp_path / 'serving_default.npy'), expected[:, -1], atol=1e-5)


def test_the_trainer_does_not_trip_over_a_saved_model(saved_model):
    prefix = saved_model.removesuffix('-savedmodel')
    assert os.path.isfile(f'{prefix}.index') and not saved_model.startswith(f'{prefix}.')


@contextlib.contextmanager
def no_file_may_outgrow(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize('dtype', litert.DTYPES)
def test_interrupted_and_full_disks_leave_what_was_there(models_dir, dtype, monkeypatch):
    (models_dir / 'tiny' / f'model.ckpt.{dtype}.tflite').write_text('before')
    before = files(models_dir)
    with no_file_may_outgrow(10_000):
        with pytest.raises(OSError, match=f'{dtype}.tflite could not be written: .*$') as error:
            export.export(config(models_dir, dtype=dtype))
        assert '\n' not in str(error.value)
    assert files(models_dir) == before

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export(config(models_dir, dtype=dtype))
    assert files(models_dir) == before


def test_what_a_killed_export_left_is_swept_up(models_dir):
    folder = models_dir / 'tiny'
    left = folder / 'exporting-model.ckpt-savedmodel-x'
    other = folder / 'exporting-model.ckpt.int8.tflite-x'  # of a file of somebody's
    left.mkdir()
    other.mkdir()
    part = folder / '.model.ckpt.float32.tflite.0123456789abcdef.part'
    part.write_text('')
    export.export(config(models_dir, format='savedmodel'))
    assert not left.exists() and other.exists() and part.exists()
    export.export(config(models_dir))
    assert not part.exists()


@pytest.mark.parametrize(
    'format, name', [('litert', '.float32.tflite'), ('savedmodel', '-savedmodel')]
)
def test_two_exports_of_one_file_do_not_meet(models_dir, format, name):
    before = files(models_dir)
    with processes.locked(str(models_dir / 'tiny' / f'.model.ckpt{name}.lock')):
        with pytest.raises(ValueError, match=f'ckpt{name} is being written by .*; wait for it'):
            export.export(config(models_dir, format=format))
    assert set(files(models_dir)) - set(before) == {f'.model.ckpt{name}.lock'}


@pytest.mark.parametrize(
    'command, complaint',
    [
        (['export', '--format', 'onnx'], "invalid choice: 'onnx'"),
        (['export', '--dtype', 'int4'], "invalid choice: 'int4'"),
        (['export', '--format', 'savedmodel', '--dtype', 'int8'], 'savedmodel is float32'),
        (['exprot'], "no command 'exprot'. Type: python -m src COMMAND; COMMAND is attention_"),
        ([], "no command ''"),
    ],
)
def test_a_mistyped_command_is_one_line(command, complaint):
    result = subprocess.run(
        [sys.executable, '-m', 'src', *command], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert complaint in result.stderr and result.stderr.count('\n') == 1


def test_a_missing_model_is_one_line(models_dir):
    with pytest.raises(
        ValueError, match=r'^There is no .*/none\. Choose one .*: tiny, shakespeare$'
    ):
        export.export(export.ExportConfig(model_name='none', models_dir=str(models_dir)))


def test_the_flags(models_dir):
    arguments = ['--model_name', 'tiny', '--models_dir', str(models_dir), '--dtype', 'int8']
    assert flags.parse(export.ExportConfig, arguments) == config(models_dir, dtype='int8')


def test_a_vocabulary_of_another_model_is_not_exported(models_dir):
    shutil.copy(ROOT / 'models' / 'shakespeare' / 'encoder.json', models_dir / 'tiny')
    with pytest.raises(ValueError, match='has 1024 tokens, .* has 97: they are of two'):
        export.export(config(models_dir))


@pytest.mark.parametrize('format', ['litert', 'savedmodel'])
def test_weights_that_are_no_numbers_are_not_exported(models_dir, monkeypatch, format):
    tensor = checkpoint._tensor

    def diverged(reader, prefix, name):
        found = tensor(reader, prefix, name)
        return np.full_like(found, np.nan) if name == 'model/wpe' else found

    monkeypatch.setattr(checkpoint, '_tensor', diverged)
    with pytest.raises(ValueError, match='model.ckpt: model/wpe has weights that are no finite'):
        export.export(config(models_dir, format=format))


def test_weights_whose_products_are_no_numbers_are_not_exported(models_dir, monkeypatch):
    tensor = checkpoint._tensor

    def diverged(reader, prefix, name):
        found = tensor(reader, prefix, name)
        large = name == 'model/h0/ln_1/g' or name.startswith('model/h0/attn/c_attn/w')
        return np.full_like(found, 1e30) if large else found

    monkeypatch.setattr(checkpoint, '_tensor', diverged)
    with pytest.raises(ValueError, match='h0/attn/c_attn/w and model/h0/ln_1 are too large for'):
        export.export(config(models_dir))


COMMAND = ['-m', 'src', 'export']
SCRIPT = ['src/exporting/export.py']


@pytest.mark.parametrize('start, format', [(COMMAND, 'litert'), (SCRIPT, 'savedmodel')])
def test_the_command_at_a_full_disk(models_dir, start, format):
    """No file may outgrow 10 KiB."""
    before = files(models_dir)
    start = [str(ROOT / word) if word.endswith('.py') else word for word in start]
    command = [sys.executable, *start, '--model_name', 'tiny', '--format', format]
    result = subprocess.run(
        ['bash', '-c', 'trap "" XFSZ; ulimit -f 10; exec "$@"', 'bash', *command],
        cwd=models_dir.parent, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    require_one_line(result)
    assert files(models_dir) == before


@pytest.mark.filterwarnings("ignore:'src:RuntimeWarning")  # runpy finds what is imported
@pytest.mark.parametrize('start, format', [(SCRIPT, 'litert'), (COMMAND, 'savedmodel')])
def test_the_other_command_at_a_full_disk(models_dir, start, format, monkeypatch, capsys):
    monkeypatch.chdir(models_dir.parent)
    before = files(models_dir)
    command = [*start, '--model_name', 'tiny', '--format', format]
    with no_file_may_outgrow(10_000):
        result = started.captured(monkeypatch, capsys, command)
    require_one_line(result)
    assert files(models_dir) == before


def require_one_line(result):
    assert result.returncode == 1
    loading, error = result.stderr.splitlines()
    assert loading.startswith('Loading') and ' could not be written: ' in error
    assert error.startswith('models/tiny/model.ckpt') and '{{' not in error
