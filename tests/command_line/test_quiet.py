"""What TensorFlow says at a start is not said, unless something is wrong."""

import os
import platform
import subprocess
import sys

import pytest
import tensorflow as tf
from conftest import ROOT

from src.command_line import quiet

COMMAND = 'gpt2.py sample --model_name shakespeare --nsamples 1 --length 2 --engine tensorflow'


@pytest.fixture
def fails(tmp_path):
    """A folder with a TensorFlow that writes what C writes, and fails."""
    (tmp_path / 'tensorflow.py').write_text(
        'import os; os.write(2, b"no such symbol\\n"); raise ImportError("broken")'
    )
    return tmp_path


def test_what_is_left_on_stderr_is_ours():
    environment = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
    result = subprocess.run(
        [sys.executable, *COMMAND.split()],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    line, *others = result.stderr.splitlines()
    assert line.startswith('Loading checkpoint ')
    if tf.__version__.startswith('2.20.'):  # tells of its first compilation, whatever is set
        assert len(others) == 2 and 'Compiled cluster using XLA!' in others[1]
    else:
        assert not others


@pytest.mark.skipif(platform.machine() not in ('x86_64', 'AMD64'), reason='oneDNN is for x86')
@pytest.mark.parametrize('said, products', [(None, '_MklMatMul'), ('0', 'MatMul')])
def test_products_are_those_of_onednn_unless_it_is_turned_off(said, products):
    code = """
from src.command_line import quiet
quiet.import_tensorflow()
import tensorflow as tf
v1 = tf.compat.v1
with tf.Graph().as_default(), v1.Session() as session:
    y = tf.matmul(*2 * [v1.placeholder(tf.float32, [64, 64])])
    options, metadata = v1.RunOptions(output_partition_graphs=True), v1.RunMetadata()
    session.run(y, {'Placeholder:0': [64 * [0.0]] * 64}, options, metadata)
print({node.op for graph in metadata.partition_graphs for node in graph.node})
"""
    environment = {k: v for k, v in os.environ.items() if k != 'TF_ENABLE_ONEDNN_OPTS'}
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env=environment | ({} if said is None else {'TF_ENABLE_ONEDNN_OPTS': said}),
    )  # fmt: skip
    assert f"'{products}'" in result.stdout, result.stderr


@pytest.mark.parametrize('closed', ['', '2>&-'])
def test_what_was_held_is_shown_where_the_import_fails(fails, closed):
    code = 'from src.command_line import quiet; quiet.import_tensorflow()'
    result = subprocess.run(
        ['bash', '-c', f'"{sys.executable}" -c "{code}" {closed}'],
        cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(fails)}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    assert closed or 'no such symbol\n' in result.stderr


def test_what_is_written_is_held_and_an_error_shows_it(monkeypatch, capfd):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    assert not quiet.has_gpu()
    with quiet.held() as written:
        os.write(2, b'from C\n')
        print('from Python', file=sys.stderr, flush=True)
    assert b'from C\n' in b''.join(written)
    quiet.show([b'from C\n'])
    assert capfd.readouterr().err.count('from C\n') == 1
    with pytest.raises(KeyboardInterrupt), quiet.held():
        os.write(2, b'and then\n')
        raise KeyboardInterrupt
    assert 'and then\n' in capfd.readouterr().err


def test_a_gpu_that_tensorflow_does_not_see_is_told(tmp_path):
    """A TensorFlow that sees no GPU, where nvidia-smi is there."""
    (tmp_path / 'tensorflow.py').write_text(
        'import os; os.write(2, b"cuInit failed\\n")\n'
        'class config:\n    list_physical_devices = staticmethod(lambda kind: [])\n'
    )
    (tmp_path / 'nvidia-smi').write_text('#!/bin/sh\n')
    (tmp_path / 'nvidia-smi').chmod(0o755)
    for hidden, told in (('0', True), ('-1', False)):
        environment = {
            **os.environ, 'PYTHONPATH': str(tmp_path), 'CUDA_VISIBLE_DEVICES': hidden,
            'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        }  # fmt: skip
        code = 'from src.command_line import quiet; quiet.import_tensorflow()'
        result = subprocess.run(
            [sys.executable, '-c', code],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ('cuInit failed\nThere is a GPU, and TensorFlow does' in result.stderr) == told
