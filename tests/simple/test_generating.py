"""Texts, beside what gpt-2-simple 0.8.1 said on TensorFlow 2.21, of the same models."""

import os
import pathlib

import pytest
from conftest import ROOT

from src.sampling import generation
from src.simple import generating, session


@pytest.fixture(scope='module')
def tiny_session(tmp_path_factory):
    """A session with the recorded model, compiled once; nobody may change it."""
    sess = session.start_tf_sess()
    session.load_gpt2(sess, model_name='openai_checkpoint', model_dir=str(ROOT / 'tests/golden'))
    return sess


GREEDY = 'All the!llAL11111SSSS_1SS______'  # 7 tokens, and 24

# What it printed, with top_k 1.
RECORDED = [
    ({'length': 5}, '_____\n'),
    ({'length': 31}, '_____cccccccccccccccccccccccccc\n'),
    ({'length': 1, 'prefix': 'All the'}, 'All the!\n'),
    ({'length': 10, 'prefix': 'All the'}, 'All the!llAL11111\n'),
    ({'length': 24, 'prefix': 'All the'}, f'{GREEDY}\n'),
    ({'length': 10, 'prefix': 'All the', 'truncate': 'AL'}, 'All the!ll\n'),
    ({'length': 10, 'prefix': 'All the', 'truncate': 'zz'}, 'All the!llAL11111\n'),
    ({'length': 10, 'prefix': 'All the', 'truncate': 'AL', 'include_prefix': False}, '!ll\n'),
    ({'length': 5, 'prefix': '\nAll'}, 'Allfffff\n'),
    ({'length': 5, 'prefix': '', 'nsamples': 2}, f'_____\n{"=" * 20}\n' * 2),
    ({'length': 5, 'nsamples': 2, 'batch_size': 2}, f'_____\n{"=" * 20}\n' * 2),
    ({'length': 5, 'nsamples': 2, 'batch_size': None, 'sample_delim': '--'}, '_____\n--' * 2),
    ({'length': 5, 'sample_delim': '--'}, '_____\n'),
]
# What it left undone, by the table of docs/gpt_2_simple.md.
RIGHT = [
    ({'length': 10, 'prefix': 'All the', 'truncate': 'zz', 'include_prefix': False}, '!llAL11111'),
    ({'length': 10, 'prefix': 'All the', 'include_prefix': False}, '!llAL11111'),
    ({'length': 3, 'prefix': 'All the', 'truncate': 'l'}, 'All the!'),  # it said A
    ({'length': 3, 'prefix': 'All', 'nsamples': 0}, ''),
]


@pytest.mark.parametrize('options, printed', RECORDED)
def test_what_gpt_2_simple_says(tiny_session, options, printed, capsys, tmp_path):
    assert generating.generate(tiny_session, top_k=1, **options) is None
    assert capsys.readouterr().out == printed
    path = tmp_path / 'texts.txt'
    path.write_text('what was there, and is longer than the texts are' * 9)
    generating.generate_to_file(tiny_session, top_k=1, destination_path=path, **options)
    assert path.read_text('utf-8') == printed
    texts = generating.generate(tiny_session, top_k=1, return_as_list=True, **options)
    assert texts == [printed.split('\n')[0]] * options.get('nsamples', 1)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('options, text', RIGHT)
def test_what_is_right_here(tiny_session, options, text):
    texts = generating.generate(tiny_session, top_k=1, return_as_list=True, **options)
    assert texts == [text] * options.get('nsamples', 1)


def test_the_prefix_of_many_bytes_is_printed_as_it_is():
    sess = session.start_tf_sess()
    session.load_gpt2(sess, model_name='shakespeare', model_dir=str(ROOT / 'models'))
    (text,) = generating.generate(sess, prefix='é', top_k=1, length=5, return_as_list=True)
    assert text.startswith('é') and len(text) > 1  # it had two U+FFFD for é


def test_the_window_has_room_for_the_prefix_and_one_less(tiny_session, capsys):
    def tokens(**options):
        (text,) = generating.generate(tiny_session, top_k=1, return_as_list=True, **options)
        return len(tiny_session.loaded().encoder.encode(text))

    assert tokens() == tokens(prefix='All the') == tokens(prefix='A' * 30) == 31
    assert capsys.readouterr().err == ''  # the default means as many as there are
    assert tokens(prefix='All the', length=25) == 31
    assert capsys.readouterr().err == 'length is 25; there is room for 24 tokens\n'
    with pytest.raises(ValueError, match='^The prefix is 31 tokens; .*, it may be 30 at most$'):
        tokens(prefix='A' * 31)


def test_a_seed_means_the_same_texts_in_each_call(tiny_session):
    options = {'length': 8, 'nsamples': 4, 'return_as_list': True}
    texts = generating.generate(tiny_session, seed=7, **options)
    assert texts == generating.generate(tiny_session, seed=7, **options)
    assert len(set(texts)) == 4 and texts != generating.generate(tiny_session, seed=8, **options)


def test_top_p_overrides_top_k_and_the_temperature_is_070(tiny_session, monkeypatch):
    given = []
    monkeypatch.setattr(generation, 'generate', lambda *_, **options: given.append(options) or [])
    generating.generate(tiny_session, top_k=5, top_p=0.5)
    generating.generate(tiny_session, top_k=5)
    assert [(each['top_k'], each['top_p']) for each in given] == [(0, 0.5), (5, 0.0)]
    assert all(each['temperature'] == 0.7 for each in given)


@pytest.mark.parametrize(
    'options, complaint',
    [
        (
            {'nsamples': 3, 'batch_size': 2},
            'nsamples is 3, batch_size is 2: .* a multiple of batch',
        ),
        ({'temperature': -1}, 'temperature is -1; it must be a number, 0 or more'),
        ({'length': 0}, 'length is 0; it must be a whole number, 1 or more'),
        ({'top_p': 2}, 'top_p is 2; it must be a number, 0 to 1'),
        ({'prefix': ['All']}, r"prefix is \['All'\]; it must be text"),
        ({'prefix': 'All é'}, "The vocabulary has no token 'é'"),
        ({'destination_path': os.curdir}, r'\. is a folder; name a file in it'),
    ],
)
def test_mistakes_are_told_in_one_line(tiny_session, options, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path('texts.txt').write_text('mine')
    with pytest.raises(ValueError, match=f'^{complaint}') as error:
        generating.generate(tiny_session, **{'destination_path': 'texts.txt', **options})
    assert '\n' not in str(error.value)
    assert pathlib.Path('texts.txt').read_text() == 'mine'


def test_a_file_in_no_folder(tiny_session):
    with pytest.raises(FileNotFoundError, match='^there is no folder to write no/texts.txt into'):
        generating.generate_to_file(tiny_session, destination_path='no/texts.txt')


def test_programs_that_expect_an_assertion_go_on(tiny_session):
    with pytest.raises(AssertionError):
        generating.generate(tiny_session, nsamples=3, batch_size=2)


def test_another_model_than_the_sessions_is_told(tiny_session, capsys):
    options = {'length': 1, 'return_as_list': True}
    generating.generate(tiny_session, **options)  # run1, by default
    named = {'model_name': 'openai_checkpoint', 'model_dir': str(ROOT / 'tests' / 'golden')}
    generating.generate(tiny_session, **named, **options)
    assert capsys.readouterr().err == ''
    generating.generate(tiny_session, run_name='poems', **options)
    said = capsys.readouterr().err
    assert 'openai_checkpoint, which speaks, and not checkpoint/poems; gpt2.load_gpt2' in said
