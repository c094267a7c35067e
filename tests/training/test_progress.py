import csv
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time

import damage
import matplotlib.image
import pytest

from src.training import progress

NUMBERS = {'average': 2.5, 'learning_rate': 0.1, 'gradient_norm': 1.0}


def tell(directory, steps, first=1, last=0):
    with progress.shown(str(directory), first, last) as told:
        for step in steps:
            told.show()
            told.hide()
            told.step(step, 0.5 * step, 100, 0.5, loss=3.0 - step / 10, **NUMBERS)


def rows(directory):
    with open(directory / 'loss.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_a_run_that_goes_on_adds_to_its_file(tmp_path):
    tell(tmp_path, [1, 2])
    tell(tmp_path, [2, 3], first=2)
    assert [row['step'] for row in rows(tmp_path)] == ['1', '2', '2', '3']
    assert rows(tmp_path)[0] == {
        'step': '1', 'seconds': '0.50', 'loss': '2.9', 'average': '2.5', 'val_loss': '',
        'learning_rate': '0.1', 'gradient_norm': '1.0', 'tokens_per_second': '200.0',
    }  # fmt: skip


def test_the_curve_is_drawn(tmp_path):
    tell(tmp_path, [])
    assert not (tmp_path / 'loss.png').exists()  # nothing to draw
    tell(tmp_path, [1])
    one = matplotlib.image.imread(tmp_path / 'loss.png')
    tell(tmp_path, range(2, 9))
    assert (one != matplotlib.image.imread(tmp_path / 'loss.png')).any()


@pytest.mark.parametrize('cut', range(1, 32))
def test_a_line_that_was_cut_off_draws_no_loss(tmp_path, cut):
    tell(tmp_path, [1, 2])
    path = tmp_path / 'loss.csv'
    whole = progress.curves(path)
    path.write_bytes(path.read_bytes()[:-cut])
    torn = progress.curves(path)
    assert torn['loss'].items() <= whole['loss'].items() and torn['loss'].keys() >= {1}
    tell(tmp_path, [3], first=3)
    both = progress.curves(path)
    assert both['loss'][3] == pytest.approx(2.7) and both['loss'][1] == whole['loss'][1]
    assert {step: loss for step, loss in both['loss'].items() if step < 3}.items() <= (
        whole['loss'].items()
    )


def test_without_a_terminal_there_is_a_line_now_and_then(tmp_path, capsys, monkeypatch):
    tell(tmp_path, [1, 2], last=4)
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(progress, 'LINE_EVERY', 0)
    tell(tmp_path, [1, 2], last=4)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r'step 1 of 4: loss=2\.90, 200 tokens/s, 00:00 left', first)
    assert second.startswith('step 2 of 4: ')
    tell(tmp_path, [7])
    assert capsys.readouterr().err == 'step 7: loss=2.30, 200 tokens/s\n'


def test_on_a_terminal_there_is_a_bar_that_leaves_nothing_behind(tmp_path, monkeypatch):
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack('4H', 40, 100, 0, 0))  # rows, columns
    os.set_blocking(ours, False)
    with os.fdopen(its, 'w') as terminal:
        monkeypatch.setattr(sys, 'stderr', terminal)
        tell(tmp_path, [1, 2, 3], last=5)
        shown = os.read(ours, 100000).decode()
    os.close(ours)
    assert 'loss=2.80, 200 tokens/s' in shown
    assert re.search(r'2/5 \[\d\d:\d\d<\d\d:\d\d', shown)  # what it took < what is left
    assert not shown.rpartition('\r')[2].strip()
    assert '\n' not in shown


@pytest.mark.parametrize('name', ['loss.csv', 'loss.png'])
def test_a_file_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    tell(tmp_path, [1])
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    'content, complaint',
    [
        ('', ''),
        ('step,loss\n1,2\n', 'loss.csv is damaged: '),
        ('no numbers\n1\n', 'loss.csv is damaged: '),
    ],
)
def test_a_damaged_file_does_not_keep_a_run_from_its_end(tmp_path, capsys, content, complaint):
    (tmp_path / 'loss.csv').write_text(content)
    tell(tmp_path, [1])
    err = capsys.readouterr().err
    assert complaint in err and bool(complaint) == bool(err)
    assert (tmp_path / 'loss.csv').read_text().startswith(content)


@pytest.mark.parametrize('columns', [80, 40])
def test_on_a_terminal_the_lines_are_whole_and_alone(tmp_path, monkeypatch, columns):
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack('4H', 24, columns, 0, 0))
    os.set_blocking(ours, False)
    with os.fdopen(its, 'w') as terminal:
        monkeypatch.setattr(sys, 'stderr', terminal)
        monkeypatch.setattr(sys, 'stdout', terminal)
        with progress.shown(str(tmp_path), 1, 5) as told:
            for step in range(1, 4):
                told.show()
                time.sleep(0.15)  # longer than tqdm waits before it draws again
                told.hide()
                told.step(step, 0.5 * step, 100, 0.5, loss=3.0, **NUMBERS)
                told.line(f'[{step} | 0.50] loss=3.00 avg=2.50')
        shown = os.read(ours, 100000).decode()
    os.close(ours)
    *lines, rest = shown.replace('\x1b[A', '').split('\n')
    visible = [line.rstrip('\r').rpartition('\r')[2].rstrip() for line in lines]
    assert visible == [f'[{step} | 0.50] loss=3.00 avg=2.50' for step in (1, 2, 3)]
    assert not rest.rpartition('\r')[2].strip()
    drawn = [part.rstrip() for part in shown.replace('\n', '\r').split('\r') if 'step' in part]
    assert drawn[0].startswith('compiling:   0%')
    assert all(len(part) <= columns for part in drawn)
    assert any('2/5' in part for part in drawn)


def test_any_bit_of_the_losses_may_be_wrong(tmp_path):
    path = tmp_path / 'loss.csv'
    path.write_bytes(
        b'step,seconds,loss,average,val_loss\r\n1,0.50,3.5,3.5,\r\n2,1.00,3.4,3.45,3.6\r\n'
    )
    whole = path.read_bytes()
    versions = [*damage.flipped(whole), *damage.cut(whole)]
    found = damage.read_each(path, versions, lambda: progress.curves(str(path)))
    assert 100 < len(found) < len(versions) - 100
