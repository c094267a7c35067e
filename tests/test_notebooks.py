"""notebooks/finetune.ipynb from its first cell to its last, on a tiny model."""

import os
import pathlib

import nbclient
import nbformat
from conftest import ROOT, TEXT

# What is missing outside of Colab: an upload, and a Drive.
COLAB = f"""
import pathlib
class files:
    def upload():
        pathlib.Path('mine.txt').write_text({TEXT!r})
        return {{'mine.txt': b''}}
class drive:
    def mount(path):
        assert path == '/content/drive'
"""
CHOSEN = {
    "MODEL = '124M'": "MODEL = 'tiny'",
    'STEPS = 1000': 'STEPS = 4',
    'DRIVE = False': 'DRIVE = True',
    'LENGTH = 100': 'LENGTH = 9',
    "PROMPT = 'The secret of life'": "PROMPT = 'All'",
    'gpt2.download(MODEL);': '',  # it is there; test_download.py has a server
}


def executed(place, chosen):
    """The cells, with other values in their forms."""
    book = nbformat.read(ROOT / 'notebooks' / 'finetune.ipynb', as_version=4)
    source = [cell.source for cell in book.cells]
    for value, other in chosen.items():
        assert sum(value in text for text in source) == 1, value
        source = [text.replace(value, other) for text in source]
    for cell, text in zip(book.cells, source, strict=True):
        cell.source = text
    resources = {'metadata': {'path': str(place)}}
    return nbclient.NotebookClient(book, timeout=120, resources=resources).execute().cells


def said(cell):
    return ''.join(out.text for out in cell.outputs if out.get('name') == 'stdout')


def test_a_text_is_uploaded_learnt_spoken_and_kept_and_the_run_goes_on(place, monkeypatch):
    (place / 'colab' / 'google').mkdir(parents=True)
    (place / 'colab' / 'google' / 'colab.py').write_text(COLAB)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), str(place / 'colab')]))
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '3')
    monkeypatch.setenv('IPYTHONDIR', str(place / 'ipython'))
    drive = place / 'drive'
    chosen = {**CHOSEN, "'/content/drive/MyDrive'": repr(str(drive))}
    *_, finetune, speak, keep = executed(place, chosen)
    assert 'step 4 of 4' in str(finetune.outputs) and 'image/png' in str(finetune.outputs)
    texts = said(speak).split('\n' + 40 * '=' + '\n')
    assert len(texts) == 4 and all(len(text) >= 12 for text in texts[:3])
    assert all(text.startswith('All') for text in texts[:3])
    kept = drive / 'checkpoint' / 'run1'
    assert said(keep) == f'Kept in {kept}\n'
    assert pathlib.Path(kept, 'model-4.index').exists()

    os.rename(place / 'checkpoint', place / 'of the machine before')
    _, _, choose, finetune, _, keep = executed(place, {**chosen, 'STEPS = 4': 'STEPS = 6'})
    assert f'The run of {kept} goes on\n' in said(choose)
    assert 'step 6 of 6' in str(finetune.outputs)
    assert sorted(path.name for path in drive.glob('checkpoint/*')) == ['run1']
    assert pathlib.Path(kept, 'model-6.index').exists()
