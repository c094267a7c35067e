"""encode.py as a program."""

import array
import contextlib
import fcntl
import io
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
import started
from conftest import ROOT

from src.data import pickles
from src.encoding import encode, train_encoder

ENCODE = str(ROOT / 'encode.py')


@pytest.fixture
def place(tmp_path):
    """A working directory with OpenAI's vocabulary as the model 124M."""
    shutil.copytree(ROOT / 'tests' / 'vocabulary', tmp_path / 'models' / '124M')
    return tmp_path


@pytest.fixture
def small_place(tmp_path):
    """The same with a vocabulary that is read in no time."""
    (tmp_path / 'models' / '124M').mkdir(parents=True)
    for name in ('encoder.json', 'vocab.bpe'):
        shutil.copy(ROOT / 'models' / 'shakespeare' / name, tmp_path / 'models' / '124M')
    return tmp_path


def run(place, *arguments, script=ENCODE, **options):
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, **options)


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """Do in this process what `python encode.py *arguments` does."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: started.captured(monkeypatch, capfd, [ENCODE, *arguments])


def last_line(text):
    return text.strip().splitlines()[-1]


def test_what_it_prints_and_writes(place):
    (place / 'dset.txt').write_text('Hello, world.')
    result = run(place, 'dset.txt', 'out.npz')
    assert (result.returncode, result.stdout) == (0, 'Reading files\nWriting out.npz\n')
    assert last_line(result.stderr) == '5 tokens in 1 chunks'
    with np.load(place / 'out.npz') as npz:
        assert npz['arr_0'].tolist() == [15496, 11, 995, 13, 50256]


def test_flags(place, typed):
    (place / 'models' / '124M').rename(place / 'mine')
    (place / 'texts').mkdir()
    for name in 'ab':
        (place / 'texts' / name).write_text('Größe', encoding='utf-16')
    result = typed('--models_dir', '.', '--model_name', 'mine', '--combine', '8',
        '--encoding', 'utf-16', '--literal_endoftext', 'texts', 'out',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'Reading files\nWriting out\n'
    with np.load(place / 'out.npz') as npz:  # the name that numpy.savez would have given it
        size, mark = [8642, 9101, 39683, 68], [27, 91, 437, 1659, 5239, 91, 29]
        assert npz['arr_0'].tolist() == [*size, *mark, *size]


@pytest.mark.parametrize('out', ['out.npz', 'out.npy'])
def test_several_processes_write_the_same(small_place, out):
    with open(small_place / 'large.txt', 'w', encoding='utf-8') as file:
        file.writelines(f'{n}. 东京👩‍👩‍👧‍👦 end<|endoftext|>\n' for n in range(40_000))  # 3 blocks
    (small_place / 'jokes.csv').write_text('text\n"quoted\n"\n' + 'one\n' * 20_000)
    written = []
    for num_proc in '12':
        result = run(small_place, '--num_proc', num_proc, '--combine', '9', '*.*', out)
        assert result.returncode == 0, result.stderr
        arrays = np.load(small_place / out)
        written.append([arrays] if out == 'out.npy' else [arrays[name] for name in arrays.files])
        (small_place / out).unlink()
    one, two = written
    assert len(one) == len(two) and all(map(np.array_equal, one, two))


def test_special_tokens_are_behind_the_vocabulary(place, typed):
    (place / 'dset.txt').write_text('<BOS>Hello, world.[SEP] é<EOS>')
    result = typed('dset.txt', 'out.npz', '--special_tokens', '<BOS>, <EOS>,[SEP] é')
    assert result.returncode == 0, result.stderr
    with np.load(place / 'out.npz') as npz:
        assert npz['arr_0'].tolist() == [50257, 15496, 11, 995, 13, 50259, 50258, 50256]


def test_any_size_will_do_because_all_share_the_vocabulary(small_place, typed):
    (small_place / 'dset.txt').write_text('x')
    (small_place / 'models' / '124M').rename(small_place / 'models' / '355M')
    result = typed('dset.txt', 'out.npz')
    assert result.returncode == 0
    assert 'models/124M is not there; using models/355M\n' in result.stderr


def test_tensorflow_is_not_loaded(small_place):
    (small_place / 'dset.txt').write_text('x')
    (small_place / 'tensorflow.py').write_text('raise SystemExit("TensorFlow was loaded")')
    result = run(
        small_place, 'dset.txt', 'out.npz', env={**os.environ, 'PYTHONPATH': str(small_place)}
    )
    assert result.returncode == 0, result.stderr


def test_it_works_where_the_book_puts_it(small_place):
    """encode.py, load_dataset.py and models copied into src, and started there."""
    shutil.copytree(ROOT / 'src', small_place / 'src')
    shutil.copy(ENCODE, small_place / 'src')
    (small_place / 'models').rename(small_place / 'src' / 'models')
    (small_place / 'src' / 'dset.txt').write_text('Hello, world.')
    result = run(small_place / 'src', 'dset.txt', 'out.npz', script='encode.py')
    assert (result.returncode, result.stdout) == (0, 'Reading files\nWriting out.npz\n')


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        (['none.txt', 'out.npz'], 'There is no text at none.txt: no such file or pattern, or no '),
        (['empty.txt', 'out.npz'], 'There is no text in empty.txt'),
        (['latin.txt', 'out.npz'], 'latin.txt: byte 0xf6 at 2 is not utf-8'),
        (['dset.txt'], 'the following arguments are required: OUT.npz'),
        (['dset.txt', 'none/out.npz'], 'there is no folder to write none/out.npz into'),
        (['dset.txt', 'models'], 'models is a folder; name a file in it'),
        (['dset.txt', 'folder'], 'folder.npz is a folder; name a file in it'),
        (['dset.txt', ''], 'OUT.npz is an empty text; name a file'),
        (['dset.txt', 'out.npz', '--combime', '1'], 'unrecognized arguments: --combime 1'),
        (['dset.txt', 'out.npz', '--combine', '-1'], '--combine is -1; it must be 0 or more'),
        (['dset.txt', 'out.npz', '--num_proc', '0'], '--num_proc is 0; it must be 1 or more'),
        (['dset.txt', 'out.npz', '--loss_on', 'completion'], 'last column of a template'),
        (['dset.txt', 'out.npz', '--column', 'text'], '--column is for tables'),
        (['rows.csv', 'out.npy', '--num_proc', '2'], 'rows.csv: row 3 has 2 fields, but there are'),
        (['dset.txt', 'out.npz', '--encoding', 'klingon'], "There is no encoding 'klingon'"),
        (['dset.txt', 'out.npz', '--model_name', '774'], 'There is no models/774. Choose one with'),
        (
            ['dset.txt', 'out.npz', '--models_dir', 'x'],
            'There is no x/124M. Download a model: pyth',
        ),
        (['.', 'old.npz'], 'old.npz is one of the files in .; write it elsewhere'),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(small_place, typed, arguments, complaint):
    (small_place / 'dset.txt').write_text('x')
    (small_place / 'empty.txt').write_text('')
    (small_place / 'latin.txt').write_bytes('Größe'.encode('latin-1'))
    (small_place / 'old.npz').write_bytes(b'mine')
    (small_place / 'rows.csv').write_text('text\none\ntwo,three\n')
    (small_place / 'folder.npz').mkdir()
    before = sorted(os.listdir(small_place))
    result = typed(*arguments)
    assert result.returncode not in (0, None)
    assert complaint in last_line(result.stderr)
    assert 'Traceback' not in result.stderr
    assert sorted(os.listdir(small_place)) == before
    assert (small_place / 'old.npz').read_bytes() == b'mine'


@pytest.mark.parametrize('num_proc', ['1', '2'])
def test_a_full_disk_is_told_and_loses_nothing(small_place, num_proc):
    (small_place / 'dset.txt').write_text(''.join(map(chr, range(0x4E00, 0x9F00))) * 5)
    (small_place / 'out.npz').write_bytes(b'mine')
    command = (
        f'ulimit -f 100; exec {sys.executable} {ENCODE} dset.txt out.npz --num_proc {num_proc}'
    )
    result = subprocess.run(
        ['bash', '-c', command], cwd=small_place, capture_output=True, text=True
    )  # no file may outgrow 100 KiB
    assert result.returncode == 1
    assert last_line(result.stderr) == "[Errno 27] File too large: 'out.npz'"
    assert sorted(os.listdir(small_place)) == ['dset.txt', 'models', 'out.npz']
    assert (small_place / 'out.npz').read_bytes() == b'mine'


def unread_bytes(pipe):
    count = array.array('i', [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.fixture
def endless(small_place):
    """encode.py in the midst of a file that does not end."""
    os.mkfifo(small_place / 'endless')
    (small_place / 'out.npz').write_bytes(b'mine')
    started = []

    @contextlib.contextmanager
    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, ENCODE, 'endless', 'out.npz', *arguments],
            cwd=small_place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        with open(small_place / 'endless', 'wb') as pipe:
            pipe.write(b'text ' * 500_000)  # more than a block
            pipe.flush()
            assert process.stdout.readline() == 'Reading files\n'
            while unread_bytes(pipe):  # it has begun, and waits for more
                time.sleep(0.01)
            assert list(small_place.glob('.out.npz*'))
            yield process, pipe

    yield start
    for process in started:
        process.kill()


def require_nothing_lost(place, errors):
    assert 'Traceback' not in errors
    assert sorted(os.listdir(place)) == ['endless', 'models', 'out.npz']
    assert (place / 'out.npz').read_bytes() == b'mine'


@pytest.mark.parametrize('num_proc', ['1', '2'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(small_place, endless, number, num_proc):
    with endless('--num_proc', num_proc) as (process, _):
        os.killpg(process.pid, number)  # as a terminal does
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    require_nothing_lost(small_place, errors)


def children_of(process):
    """The processes that encode; another one of multiprocessing's only cleans up."""
    pids = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    return [
        int(p) for p in pids if b'spawn_main' in pathlib.Path(f'/proc/{p}/cmdline').read_bytes()
    ]


def test_a_process_that_is_killed_ends_it(small_place, endless):
    with endless('--num_proc', '2') as (process, pipe):
        while not (children := children_of(process)):
            time.sleep(0.01)
        os.kill(children[0], signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                pipe.write(b'text ' * 500_000)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert last_line(errors).startswith(
        'One of the processes was ended from outside. If the memory'
    )
    require_nothing_lost(small_place, errors)


def test_two_with_one_output_do_not_spoil_it(small_place, endless):
    (small_place / 'dset.txt').write_text('x')
    with endless() as (process, _):
        result = run(small_place, 'dset.txt', 'out.npz')
        assert result.returncode == 1
        assert last_line(result.stderr).startswith(
            f'out.npz is being written by process {process.pid} on '
        )
        process.kill()
        process.communicate()
    assert len(os.listdir(small_place)) == 6  # with its lock, and what it had written
    assert run(small_place, 'dset.txt', 'out.npz').returncode == 0
    assert sorted(os.listdir(small_place)) == ['dset.txt', 'endless', 'models', 'out.npz']


def test_processes_end_with_one_that_is_killed(small_place, endless):
    with endless('--num_proc', '2') as (process, pipe):
        while len(children := children_of(process)) < 1:
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=20)  # ends when nobody has its stdout any more
        deadline = time.monotonic() + 20
        while any(os.path.exists(f'/proc/{pid}/fd/0') for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_brackets_of_folders_are_no_pattern(place, typed):
    folder = place / 'a [draft] b'
    folder.mkdir()
    (folder / 'one.txt').write_text('Hello, world.')
    result = typed('a [draft] b/*.txt', 'out.npz')
    assert result.returncode == 0, result.stderr
    with np.load(place / 'out.npz') as npz:
        assert npz['arr_0'].tolist() == [15496, 11, 995, 13, 50256]


def test_what_is_read_of_a_table_is_told(place, typed):
    (place / 'x.csv').write_text('id;text\n1;hello there\n2;bye now\n')
    result = typed('x.csv', 'out.npz')
    assert result.stdout == 'Reading files\nWriting out.npz\n'
    told = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    assert (
        "x.csv: row 1 names its columns, 'id', 'text'; fields are separated by semicolons; 'text' "
        'is read. If row 1 is a text: --no_header'
    ) in told
    assert '2 rows are read' in told
    assert told[-1] == '20 tokens in 1 chunks'


def test_a_bin_for_nanogpt(place):
    for name, text in (('a.txt', 'Hello, world.'), ('b.txt', 'Hello'), ('c.txt', ' world')):
        (place / name).write_text(text)
    encode.encode(config(place, '*.txt', 'out.bin', combine=6))
    end = 50256  # between documents, as nanoGPT's data/openwebtext/prepare.py has it
    ids = np.fromfile(place / 'out.bin', np.uint16).tolist()
    assert ids == [15496, 11, 995, 13, end, 15496, end, 995]
    assert not (place / 'meta.pkl').exists()
    with pytest.raises(ValueError, match='--loss_on completion needs an .npz or .npy'):
        config(place, '*.txt', 'out.bin', loss_on='completion', template='{a} {b}')


def test_a_bin_of_characters_has_its_vocabulary_beside_it(place):
    theirs = ROOT / 'tests' / 'golden' / 'other_programs' / 'nanogpt'
    text = 'Größe: 中文!\n' + (ROOT / 'demo' / 'shakespeare.txt').read_text()[:3000]
    (place / 'text').write_text(text, 'utf-8')
    letters = str(place / 'models' / 'letters')
    options = {'texts': [str(place / 'text')], 'out': letters, 'characters': True}
    train_encoder.train(train_encoder.TrainEncoderConfig(**options))
    (place / 'val').write_text(text[-302:])
    for _ in 'twice':  # as train.bin and val.bin
        encode.encode(config(place, 'val', 'val.bin', model_name=letters, combine=0))
    assert (place / 'val.bin').read_bytes() == (theirs / 'val.bin').read_bytes()
    meta, recorded = (
        pickles.load(io.BytesIO((folder / 'meta.pkl').read_bytes()), 'x')
        for folder in (place, theirs)
    )
    assert meta == recorded
    (place / 'meta.pkl').write_bytes(pickle.dumps({'stoi': {'e': 0}}))
    with pytest.raises(ValueError, match="meta.pkl is of another vocabulary .* 'e' is 0 there"):
        encode.encode(config(place, 'val', 'val.bin', model_name=letters))


def config(place, path, out, **options):
    options = {'models_dir': str(place / 'models'), **options}
    return encode.EncodeConfig(path=str(place / path), out_npz=str(place / out), **options)
