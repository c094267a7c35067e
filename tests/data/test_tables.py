"""Rows of tables, and lines, to texts; what cannot be read is told with its row."""

import csv
import io
import json

import pytest

from src.data import dataset_config, tables


def texts(name, text, **options):
    """The texts of a file as (prompt, rest), with nothing around them unless it is asked for."""
    options = {'start_token': '', 'end_token': '', **options}
    config = dataset_config.DatasetConfig(**options)
    in_blocks = list(tables.texts_of(name, [text], config))
    assert list(tables.texts_of(name, iter(text), config)) == in_blocks  # wherever blocks end
    return in_blocks


def rests(name, text, **options):
    return [rest for _, rest in texts(name, text, **options)]


NASTY = [
    'a,b',
    'he said "no"',
    'two\nlines\n',
    '👩‍👩‍👧‍👦 东京, 日本',
    ' \t x',
    '{title}',
    "'",
    'a\u2028b',
    '\\n',
]


@pytest.mark.parametrize('name, delimiter', [('x.csv', ','), ('x.TSV', '\t')])
def test_what_is_written_as_a_table_is_read(name, delimiter):
    file = io.StringIO(newline='')
    writer = csv.writer(file, delimiter=delimiter, lineterminator='\n')
    writer.writerow(['title', 'body'])
    for text in NASTY:
        writer.writerow([text, text[::-1]])
    assert rests(name, file.getvalue()) == NASTY
    assert rests(name, file.getvalue(), column='body') == [text[::-1] for text in NASTY]
    assert rests(name, file.getvalue(), template='<{body}|{title}>{{}}') == [
        f'<{text[::-1]}|{text}>{{}}' for text in NASTY
    ]


def test_what_is_written_as_json_lines_is_read():
    for ascii in (True, False):
        rows = [{'title': '', 'text': text} for text in NASTY]
        text = '\n'.join(json.dumps(row, ensure_ascii=ascii) for row in rows)
        assert rests('x.jsonl', text) == rests('x.jsonl', text + '\n') == NASTY


def test_tokens_are_around_each_row():
    config = dataset_config.DatasetConfig()
    rows = tables.texts_of('x.csv', ['text\none\ntwo\n'], config)
    assert list(rows) == [
        ('', '<|startoftext|>one<|endoftext|>'),
        ('', '<|startoftext|>two<|endoftext|>'),
    ]
    assert rests('x.csv', 'text\none\n', start_token='[', end_token='') == ['[one']


def test_a_template_may_break_lines():
    table = 'title,body\nA,B\n'
    assert rests('x.csv', table, template=r'{title}\n{body}') == ['A\nB']
    assert rests('x.csv', table, template='{title}\n{body}') == ['A\nB']


@pytest.mark.parametrize(
    'template, parts',
    [
        ('{a}', ([('', 'a')], '')),
        ('{a}: {b}.', ([('', 'a'), (': ', 'b')], '.')),
        ('{{x}} {a b}{c.d[0]}', ([('{x} ', 'a b'), ('', 'c.d[0]')], '')),
    ],
)
def test_templates(template, parts):
    assert tables.parsed(template) == parts


@pytest.mark.parametrize('template', ['', 'text', '{', '}', '{a', '{}', '{a:>9}', '{a!r}', '{{a}}'])
def test_templates_that_are_none(template):
    with pytest.raises(ValueError, match='--template is .* should be like'):
        tables.parsed(template)


def test_the_completion_begins_with_the_last_column():
    table = 'q,a\n1+1,2\n"Q, ",\n'
    options = {'start_token': '[', 'end_token': ']', 'loss_on': 'completion'}
    rows = texts('x.csv', table, template='{q}={a}.', **options)
    assert rows == [('[1+1=', '2.]'), ('[Q, =', '.]')]
    assert texts('x.csv', table, template='{a}', **options) == [('[', '2]')]


def test_rows_without_text_are_left_out():
    table = '\n,\ntext,topic\n\n,\none,x\n"  ",x\n""\n,x\ntwo,\n'
    assert rests('x.csv', table) == ['one', 'two']
    assert rests('x.csv', table, template='{topic}{text}') == ['xone', 'x  ', 'x', 'two']
    assert rests('x.jsonl', '\n{"text": ""}\n  \n{"text": null}\n{"text": "a"}') == ['a']


@pytest.mark.parametrize('name', ['x.csv', 'x.tsv', 'x.jsonl', 'x.txt'])
def test_an_empty_table_has_no_rows(name):
    assert rests(name, '') == rests(name, '\n\n') == []


def test_a_header_alone_has_no_rows():
    assert rests('x.csv', 'text,topic\n') == rests('x.csv', 'text,topic') == []


def test_numbers_are_taken_as_they_are_written():
    line = '{"text": 1.50, "n": 12345678901234567890}\n{"text": NaN, "n": -0}'
    assert rests('x.jsonl', line, template='{text} {n}') == ['1.50 12345678901234567890', 'NaN -0']
    assert rests('x.csv', 'text\n1.50\n') == ['1.50']


def test_lines():
    text = 'one\n\n  two \n \t\nthree\x0b\u2028\x85\r\n四'
    assert rests('x.txt', text, line_by_line=True) == [
        'one',
        '  two ',
        'three\x0b\u2028\x85\r',
        '四',
    ]


@pytest.mark.parametrize(
    'name, text, complaint',
    [
        (
            'x.csv',
            'a,b\n1,2\n\n"3\n3",4\n5\n',
            "row 5 has 1 fields, .* 2 columns, 'a', 'b'; .* '5'",
        ),
        ('x.csv', 'a\n1\n2,2\n', "row 3 has 2 fields, but there are 1 columns, 'a'"),
        ('x.csv', 'a\n1\n"2\n3\n', 'row 3 cannot be read: unexpected end of data'),
        ('x.csv', 'a\n"1" x\n', "row 2 cannot be read: ',' expected after '\"'"),
        ('x.csv', 'a,b,a\n', "two columns named 'a'"),
        ('x.tsv', 'a,b\n1,2\n3\t4\n', 'row 3 has 2 fields, but there are 1 columns'),
        (
            'x.jsonl',
            '{"text": "a"}\n\n{"text": }\n',
            r'row 3 is not JSON: Expecting value: column 10',
        ),
        ('x.jsonl', '[1]', r'row 1 is \[1\]; it must be an object, {"text": …}'),
        ('x.jsonl', '[' * 100_000, 'row 1 is not JSON: '),
        ('x.jsonl', '{"text": "a"}\n{"title": "b", "id": 1}', "row 2 .* 'text', but 'title', 'id'"),
        ('x.jsonl', '{}', "row 1 has no column 'text', but none"),
        (
            'x.jsonl',
            '{"text": ["a"]}',
            r"row 1 has \[\"a\"\] as 'text'; it must be text or a number",
        ),
        ('x.jsonl', '{"text": true}', "row 1 has true as 'text'"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_row(name, text, complaint):
    with pytest.raises(ValueError, match=rf'^{name}.*{complaint}') as error:
        texts(name, text)
    assert '\n' not in str(error.value)


def test_a_field_without_end_is_told_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(tables, 'LONGEST', 1000)
    endless = (line for line in ['text\n', 'one\n', '"'] + ['all that follows\n'] * 100)
    rows = tables.texts_of('x.csv', endless, dataset_config.DatasetConfig())
    assert next(rows)
    with pytest.raises(ValueError, match='row 3 cannot be read: field larger than field limit'):
        next(rows)
    assert next(endless)


@pytest.mark.parametrize('options', [{'column': 'c'}, {'template': '{a} {c}'}])
def test_a_column_that_is_not_there_is_told(options):
    with pytest.raises(
        ValueError, match="row 2 has no column 'c', but 'a', 'b'. Choose with --col"
    ):
        texts('x.csv', 'a,b\n1,2\n', **options)


def test_a_text_has_no_columns():
    for options in ({'column': 'a'}, {'template': '{a}'}):
        config = dataset_config.DatasetConfig(line_by_line=True, **options)
        with pytest.raises(ValueError, match='is for tables, .csv, .tsv, .jsonl; x.txt is none'):
            tables.in_rows('x.txt', config)
        assert tables.in_rows('x.CSV', config)
