"""What samples copied is found, in any script, and nothing else."""

import random
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from src.evaluation import check_overlap

BEFORE = 'Call me Ishmael. Some years ago, never mind how long precisely.\n'
CHINESE = '床前明月光，疑是地上霜。举头望明月，低头思故乡。'


def words(number, seed, script='abcdefghij'):
    """So many words of five letters each, in an order of their own."""
    choose = random.Random(seed)
    return [''.join(choose.choices(script, k=5)) for _ in range(number)]


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def check(samples, dataset, **options):
        for name, text in (('samples', samples), ('dataset', dataset)):
            if isinstance(text, str):
                (tmp_path / name).write_bytes(text.encode(options.get('encoding', 'utf-8')))
            else:
                options[name] = text[0]
        options = {'samples': 'samples', 'dataset': 'dataset', **options}
        check_overlap.check(check_overlap.OverlapConfig(**options))
        return capsys.readouterr().out.splitlines()

    return check


def test_a_copied_span_is_found_with_its_places(check):
    copied = ' '.join(words(50, seed=1))
    samples = ' '.join([*words(30, seed=2), copied, *words(20, seed=3)])
    dataset = BEFORE + ' '.join([*words(400, 4), copied.replace(' ', '\n  '), *words(400, 5)])
    count, four, eight, thirteen, span = check(samples, dataset)
    assert count == 'words 100'
    assert four == '4-grams 47 of 97 (48.5%)'
    assert eight == '8-grams 43 of 93 (46.2%)'
    assert thirteen == '13-grams 38 of 88 (43.2%)'
    start = dataset.index(copied.split()[0])
    assert span == (
        f'50 words, {len(copied)} characters, at {samples.index(copied)} in samples and at {start} '
        f'in dataset: {copied[:40]} … {copied[-40:]}'
    )


@pytest.mark.parametrize(
    'samples, dataset',
    [
        (' '.join(words(100, 1)), ' '.join(words(5000, 2))),
        ('The same words, but in another order.', 'In another words same but order the,.'),
        (CHINESE, CHINESE[::-1]),
        ('🙂🙃' * 9, '🙂' * 9 + '🙃' * 9),
        ('one two three', 'one two three'),  # shorter than any n-gram
    ],
)
def test_different_texts_have_nothing_in_common(check, samples, dataset):
    _, *shares = check(samples, dataset)
    assert [re.sub(r'of \d+', 'of', share) for share in shares] == [
        f'{size}-grams 0 of (0.0%)' for size in check_overlap.SIZES
    ]


@pytest.mark.parametrize(
    'text', [BEFORE * 3, CHINESE, 'กขคงจฉชซฌญฎฏฐ', 'नमस्ते दुनिया ' * 20, '🙂 1\r\n2é' * 9]
)
def test_a_text_has_all_of_itself(check, text):
    _, *shares, span = check(text, text)
    assert [re.fullmatch(r'(\d+)-grams (\d+) of \2 \(100.0%\)', share)[1] for share in shares] == [
        '4', '8', '13'
    ]  # fmt: skip
    length = len(text.replace('\r\n', '\n').strip())
    assert f' {length} characters, at 0 in samples and at 0 in dataset: ' in span


def test_scripts_without_spaces_are_compared_by_characters(check):
    samples = '我喜欢“床前明月光，疑是地上霜”这句。'
    count, four, *_, span = check(samples, '李白\n' + CHINESE)
    assert count == f'words {len(samples)}'
    assert four == '4-grams 8 of 16 (50.0%)'
    assert span == '11 words, 11 characters, at 4 in samples and at 3 in dataset: ' + CHINESE[:11]


def test_nothing_goes_across_samples_texts_or_files(check, tmp_path):
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a').write_text('a b c d e f<|endoftext|>g h i j k l')
    (tmp_path / 'texts' / 'b').write_text('m n o p q r')
    header = '=' * 40 + ' SAMPLE 2 ' + '=' * 40
    samples = '======== SAMPLE 1 ========\na b c d e f g h i\n'
    samples += f'{header}\nk l m n o<|endoftext|>p q r\n'
    count, four, eight, _, span = check(samples, ['texts'])
    assert count == 'words 17'
    assert four == '4-grams 3 of 8 (37.5%)'
    assert eight == '8-grams 0 of 2 (0.0%)'
    assert span.startswith('6 words, 11 characters, at 27 in samples and at 0 in texts/a: a b c d')


def test_the_same_copy_is_shown_once_and_the_longest_first(check):
    copies = [' '.join(words(size, seed=size)) for size in range(4, 18)]
    dataset = ' . '.join(copies)
    samples = ' ; '.join(copies * 2)
    shown = [line for line in check(samples, dataset) if ' characters, ' in line]
    assert [int(line.split()[0]) for line in shown] == list(range(17, 7, -1))


def test_an_npz_is_read_with_the_models_vocabulary(check, models_dir, small, tmp_path):
    ids = small.encode_to_numpy(BEFORE * 2)
    np.savez(tmp_path / 'out.npz', ids, ids[:9])
    models = str(ROOT / 'models')
    options = {'model_name': 'shakespeare', 'models_dir': models}
    *_, span = check(BEFORE, ['out.npz'], **options)
    assert f'at 0 in samples and at {0} in out.npz' in span
    with pytest.raises(ValueError, match='Encode the text with this --model_name'):
        check(BEFORE, ['out.npz'], model_name='tiny', models_dir=str(models_dir))


@pytest.mark.parametrize('samples', ['', '<|endoftext|>', ' \n'])
def test_no_samples_are_told(check, samples):
    with pytest.raises(ValueError, match='^There is no text in samples$'):
        check(samples, BEFORE)


def test_what_cannot_be_read_is_told(check, tmp_path):
    (tmp_path / 'samples').write_bytes(b'\xe4 b')
    with pytest.raises(ValueError, match='^There is no text at none: no such file'):
        check(['samples'], ['none'], encoding='latin-1')
    with pytest.raises(ValueError, match='samples: byte 0xe4 at 0 is not utf-8'):
        check(['samples'], BEFORE)


def test_the_command(tmp_path):
    (tmp_path / 'samples').write_text(BEFORE)
    (tmp_path / 'dataset').write_text('Nothing of the kind.')
    result = subprocess.run(
        [sys.executable, '-m', 'src', 'check_overlap', tmp_path / 'samples', tmp_path / 'dataset'],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.splitlines() == [
        'words 14', '4-grams 0 of 11 (0.0%)', '8-grams 0 of 7 (0.0%)', '13-grams 0 of 2 (0.0%)'
    ]  # fmt: skip


def test_what_is_shown_gives_a_terminal_no_orders(check, tmp_path):
    text = BEFORE + 'one \x1b[2J two \x9b31m three four five'
    (tmp_path / 'a\x1b[2J').write_text(text)
    *_, span = check(text, ['a\x1b[2J'])
    assert '\x1b' not in span and '\x9b' not in span
    assert r'at 0 in samples and at 0 in a\x1b[2J: ' in span and r'two \x9b31m three' in span
