"""A run in a notebook, through a real kernel."""

import os
import pathlib
import re
import time

import jupyter_client
import nbclient
import nbformat
import pytest
from conftest import ROOT

FINETUNE = """
import gpt2
run = gpt2.finetune('text', model_name='tiny', steps={steps}, seq_length=16, learning_rate=1e-4,
                    val_every=2, val_batch_count=2, sample_every=0, seed=1,
                    memory_saving_gradients=True)
"""
TIMEOUT = 120  # seconds


@pytest.fixture
def kernels_see_the_checkout(place, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '3')
    monkeypatch.setenv('IPYTHONDIR', str(place / 'ipython'))


def texts_of(cell, name):
    return ''.join(out.text for out in cell.outputs if out.get('name') == name)


@pytest.mark.usefixtures('kernels_see_the_checkout')
def test_a_notebook_shows_one_bar_and_a_plot_that_change_in_place(place):
    sources = [FINETUNE.format(steps=5), 'print(run)', "run.load().generate('All', length=3)"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    book = nbformat.v4.new_notebook(cells=cells)
    resources = {'metadata': {'path': str(place)}}
    nbclient.NotebookClient(book, timeout=TIMEOUT, resources=resources).execute()

    finetune, printed, generated = book.cells
    (shown,) = [out for out in finetune.outputs if out.output_type == 'display_data']
    html = shown.data['text/html']
    assert '<progress max="5" value="5">' in html and 'step 5 of 5' in html
    assert 'src="data:image/png;base64,' in html
    lines = texts_of(finetune, 'stdout').splitlines()
    assert lines[-1] == 'Saving checkpoint/run1/model-5'
    assert not [line for line in lines if re.match(r'\[\d+ \|', line)]
    assert re.search(r'loss \d\.\d+ · validation \d\.\d+, perplexity \d+\.\d', html)
    assert 'alidation' not in texts_of(finetune, 'stdout') + texts_of(finetune, 'stderr')
    assert 'retracing' not in texts_of(finetune, 'stderr')
    assert re.search(
        r'losses=\{1: .*, 5: .*\}, val_losses=\{1: .*, 2: .*, 4: ', texts_of(printed, 'stdout')
    )
    assert re.fullmatch(r"\['.+'\]", generated.outputs[-1].data['text/plain'])


def reply_to(client, asked):
    """The reply to a message; those to earlier ones, which asked whether it is ready, may come."""
    while (reply := client.get_shell_msg(timeout=TIMEOUT))['parent_header']['msg_id'] != asked:
        pass
    return reply


@pytest.mark.usefixtures('kernels_see_the_checkout')
def test_interrupting_the_kernel_saves(place):
    manager = jupyter_client.KernelManager()
    manager.start_kernel(cwd=str(place))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        asked = client.execute(FINETUNE.format(steps=0))
        end, path = time.time() + TIMEOUT, pathlib.Path('checkpoint/run1/loss.csv')
        while not path.exists() or len(path.read_text().splitlines()) < 4:
            assert time.time() < end, 'no steps'
            time.sleep(0.1)
        manager.interrupt_kernel()
        reply = reply_to(client, asked)
        assert reply['content']['status'] == 'ok', reply['content']
        asked = client.execute('', user_expressions={'run': '(run.directory, max(run.losses))'})
        content = reply_to(client, asked)['content']
        directory, last = eval(content['user_expressions']['run']['data']['text/plain'])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert os.path.exists(os.path.join(directory, f'model-{last}.index'))
