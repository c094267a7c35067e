"""Questions out of files in the formats in which they are published."""

import gzip
import json
import re
import tracemalloc

import pytest

from src.data import tables
from src.evaluation import cloze

CBT = """\
1 `` Well , I 'm sorry . ''
2 The Queen laughed .
3 XXXXX 's hat fell .\tKing\t\tQueen|King

1 She had a cat .
2 The cat sat on the XXXXX .\tmat\t\tcat|mat|hat
"""


def questions(tmp_path, text, task, encoding='utf-8'):
    path = tmp_path / 'questions'
    path.write_bytes(text.encode(encoding))
    read = cloze.read(str(path), task, encoding)
    assert all(each.where.startswith(f'{path}, line ') for each in read)
    return [(each.context, each.choices, each.answer) for each in read]


def test_choices(tmp_path):
    lines = [
        {'context': 'The sky is', 'choices': [' blue', ' loud'], 'answer': 0},
        {'context': '', 'choices': ['天', '\u2028'], 'note': 'kept out'},
    ]
    text = '\ufeff' + '\r\n\r\n'.join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert questions(tmp_path, text, 'choices') == [
        ('The sky is', [' blue', ' loud'], 0),
        ('', ['天', '\u2028'], None),
    ]


@pytest.mark.parametrize(
    'line',
    [
        'his palms were sweaty , and so was gabriel',
        '{"text": "his palms were sweaty , and so was gabriel"}',
        '{"text": "his palms were sweaty , and so was gabriel\\n"}',
    ],
)
def test_lambada_asks_for_the_last_word(tmp_path, line):
    expected = ('his palms were sweaty , and so was', [' gabriel'], 0)
    assert questions(tmp_path, f'{line}\n\n{line}\n', 'lambada') == [expected] * 2


@pytest.mark.parametrize(
    'text, context, word',
    [('a  b', 'a', '  b'), ('word', '', 'word'), ('a\u00a0b c\n', 'a\u00a0b', ' c')],
)
def test_nothing_of_a_passage_is_lost(tmp_path, text, context, word):
    (only,) = questions(tmp_path, json.dumps({'text': text}), 'lambada')
    assert only == (context, [word], 0)


def test_cbt_asks_for_the_word_and_the_rest_of_its_sentence(tmp_path):
    assert questions(tmp_path, CBT, 'cbt', 'latin-1') == [
        (
            "`` Well , I 'm sorry . '' The Queen laughed . ",
            ["Queen 's hat fell .", "King 's hat fell ."],
            1,
        ),
        ('She had a cat . The cat sat on the ', ['cat .', 'mat .', 'hat .'], 1),
    ]


@pytest.mark.parametrize(
    'task, text, complaint',
    [
        ('choices', '\nnothing', 'line 2 is no JSON'),
        ('choices', '[' * 100_000, 'line 1 is no JSON: maximum recursion depth'),
        ('lambada', '{"text":' * 100_000, 'line 1 is no JSON: maximum recursion depth'),
        ('choices', '[]', 'line 1 should be a JSON object'),
        ('choices', '{"context": "a", "choices": []}', 'should be {"context": a text, "choices"'),
        ('choices', '{"context": "a", "choices": [""]}', 'should be {"context": a text'),
        ('choices', '{"choices": ["a"]}', 'should be {"context": a text'),
        ('choices', '{"context": "a", "choices": ["b"], "answer": 1}', 'answer 1; it must be 0 to'),
        ('choices', '{"context": "a", "choices": ["b"], "answer": true}', 'answer True; it must'),
        ('choices', '\n \n', 'has no questions of --task choices'),
        ('lambada', 'a b\n{"txt": "a b"}', 'line 2 should be {"text": a passage}'),
        ('cbt', '1 a\n2 b\n', 'has no questions of --task cbt'),
        ('cbt', '1 a\n2 b XXXXX\tc\t\td|e\n', 'line 2 should be a sentence with one XXXXX'),
        ('cbt', '1 a\n2 b\tc\t\tc|e\n', 'line 2 should be a sentence with one XXXXX'),
        ('cbt', '2 b XXXXX\tc\n', 'line 1 should be a sentence with one XXXXX'),
    ],
)
def test_what_is_no_question_is_told_with_its_line(tmp_path, task, text, complaint):
    with pytest.raises(ValueError, match=f'^[^\n]*{re.escape(complaint)}[^\n]*$'):
        questions(tmp_path, text, task)


def test_another_encoding_is_told(tmp_path):
    with pytest.raises(ValueError, match='questions: byte 0xe4 at 0 is not utf-8'):
        (tmp_path / 'questions').write_bytes(b'\xe4 b')
        cloze.read(str(tmp_path / 'questions'), 'lambada')


def test_lines_that_would_fill_the_memory_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'LONGEST', 10**6)
    (tmp_path / 'bomb.gz').write_bytes(gzip.compress(b' ' * 10**8))
    tracemalloc.start()
    with pytest.raises(ValueError, match='bomb has a line of more than 1,000,000 characters'):
        cloze.read(str(tmp_path / 'bomb.gz'), 'lambada')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
