"""What the walk-throughs in docs/ tell people to type works, in their order, on little text.

They are the pages whose blocks are ```sh; the other pages are test_readme.py's.
"""

import pathlib
import shlex
import subprocess

import pytest
from conftest import ROOT
from documents import PAGES, blocks, typed

WALKS = [path for path in PAGES if blocks(path, 'sh')]
FEW = '--steps 1 --batch_size 1 --seq_length 16 --val_batch_count 1'.split()
TINY = '--n_layer 1 --n_head 2 --n_embd 8 --n_ctx 65'.split()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory as the repository, with the beginnings of lines and the user's files."""
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / 'demo'
    demo.mkdir()
    lines = (ROOT / 'demo' / 'kant.txt').read_text('utf-8').split('\n')
    (demo / 'kant.txt').write_text('\n'.join(line[:9] for line in lines), 'utf-8')
    text = (ROOT / 'demo' / 'shakespeare.txt').read_text('utf-8')
    (demo / 'shakespeare.txt').write_text(text[:3000], 'utf-8')
    pathlib.Path('jokes.csv').write_text('text,topic\n' + 'A short one,life\n' * 50)
    poem = '《静夜思》\n作者：李白\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n\n'
    pathlib.Path('poems.txt').write_text(poem * 9, 'utf-8')


def test_all_walk_throughs_are_found():
    assert {path.stem for path in WALKS} >= {'jokes', 'kant', 'poems', 'shakespeare', 'summaries'}


@pytest.mark.filterwarnings("ignore:'src:RuntimeWarning")  # runpy finds what is imported
@pytest.mark.parametrize('path', WALKS, ids=lambda path: path.stem)
def test_walk_through(path, place, monkeypatch):
    for line in ''.join(blocks(path, 'sh')).splitlines():
        program, _, command = line.partition(' ')
        if program != 'python':
            subprocess.run(line, shell=True, check=True)
            continue
        script, *arguments = shlex.split(command)
        more = FEW if script == 'train.py' else []
        if '--n_layer' in arguments:
            more = more + TINY
        if script == 'src/generate_unconditional_samples.py':
            more = ['--length', '3']
        typed(monkeypatch, command, *more)
