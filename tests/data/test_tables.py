"""Rows of tables, and lines, to texts; what cannot be read is told with its row."""

import csv
import io
import itertools
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


@pytest.mark.parametrize('delimiter', [';', '\t', '|'])
def test_the_delimiter_is_found_and_told(delimiter, capsys):
    table = 'id;text;note\n1;hello, there;\n2;"bye; now";x\n'.replace(';', delimiter)
    second = f'bye{delimiter} now'
    assert rests('x.csv', table, column='text') == ['hello, there', second]
    assert rests('x.csv', table) == ['hello, there', second]  # and not the IDs
    rows = rests('x.csv', table.replace('\n', '\r\n'), template='{id}:{note}')
    assert rows == ['1:', '2:x'] or delimiter and rows == ['1:\r', '2:x\r']
    names = {';': 'semicolons', '\t': 'tabs', '|': 'vertical bars'}
    assert (
        f"x.csv: row 1 names its columns, 'id', 'text', 'note'; fields are separated by "
        f"{names[delimiter]}; 'text' is read. If row 1 is a text: --no_header\n"
    ) in capsys.readouterr().err


def test_the_delimiter_may_be_said():
    table = 'a | b;c | d\n1 | 2;3 | 4\n'
    assert rests('x.csv', table, delimiter=';', column='c | d') == ['3 | 4']
    for wrong in ('', ';;', '"', '\n'):
        with pytest.raises(ValueError, match='--delimiter is .*; it must be one character'):
            dataset_config.DatasetConfig(delimiter=wrong)


def test_excel_says_what_its_delimiter_is():
    for line in ('sep=;\n', '"sep=;"\n'):
        assert rests('x.csv', line + 'text;topic\none, two;x\n') == ['one, two']
        assert rests('x.csv', line + 'text\none\n') == ['one']
    assert rests('x.csv', 'sep=,\ntext,topic\none;two,x\n') == ['one;two']
    assert rests('x.csv', 'sep=;\ntext;topic\none, two;x\n', delimiter=';') == ['one, two']
    assert rests('x.csv', 'sep=;\none; two\n', delimiter=',') == ['one; two']


@pytest.mark.parametrize(
    'name, text, expected',
    [
        ('x.csv', 'text\na; b\nc; d\n', ['a; b', 'c; d']),
        ('x.csv', 'text\na; b\nc\n', ['a; b', 'c']),
        ('x.csv', 'text;x,topic\na;b,1\nc,2\n', ['a;b', 'c']),
        ('x.csv', '"a; b"\n"c; d"\n', ['c; d']),
        ('x.csv', 'Once; upon a time there was a little girl who lived in a village near\nx; y\n',
         ['x; y']),
        ('x.tsv', 'text\tn\na, b\t1\nc, d\t2\n', ['a, b', 'c, d']),
        ('x.tsv', 'text,n\na,1\n', ['a']),
    ],
)  # fmt: skip
def test_a_delimiter_is_not_found_where_there_is_doubt(name, text, expected):
    assert rests(name, text) == expected


def test_a_table_may_have_no_header(capsys):
    table = 'Why did the hen cross\nA cow says moo\nTwo ducks walk\n'
    assert rests('x.csv', table, no_header=True) == table.splitlines()
    assert (
        "x.csv: no row names its columns, which are '1'; '1' is read\n" in capsys.readouterr().err
    )
    assert rests('x.csv', table) == table.splitlines()[1:]
    assert capsys.readouterr().err.startswith(
        "x.csv: row 1 names its columns, 'Why did the hen cross'; 'Why did the hen cross' is read. "
        'If row 1 is a text: --no_header\n'
    )
    table = '1,one,x\n2,two,y\n'
    assert rests('x.csv', table, no_header=True) == ['one', 'two']
    assert rests('x.csv', table, no_header=True, column='3') == ['x', 'y']
    assert rests('x.csv', table, no_header=True, template='{3}{1}') == ['x1', 'y2']
    assert rests('x.csv', table.replace(',', ';'), no_header=True) == ['one', 'two']
    assert rests('x.csv', 'one\n', no_header=True) == ['one']


def test_a_blank_first_line_is_a_header_that_was_left_out():
    assert rests('x.csv', '\none\ntwo\n') == rests('x.csv', ' \none\ntwo\n') == ['one', 'two']
    assert rests('x.csv', '\none\ntwo\n', column='one') == ['two']


@pytest.mark.parametrize(
    'header, row, column',
    [
        ('ID,Joke', '1,ha', 'Joke'), ('n,Joke', '17,ha', 'Joke'), (',Joke', '0,ha', 'Joke'),
        ('post_id,Joke', 'a3x,ha', 'Joke'), ('Joke,n', 'ha,1', 'Joke'), ('n,m', '1,2', 'n'),
        ('id', 'x', 'id'), ('n,id', '1,2', 'n'), ('paid,Joke', 'no,ha', 'paid'),
    ],
)  # fmt: skip
def test_ids_are_not_read(header, row, column):
    names, values = header.split(','), row.split(',')
    assert rests('x.csv', f'{header}\n{row}\n{row}\n') == [values[names.index(column)]] * 2


def test_quotes_may_be_only_quotes():
    table = 'text\tn\n"No", he said\t1\nA 2" pipe\t2\n"\t3\n'
    assert rests('x.tsv', table, quoting='none') == ['"No", he said', 'A 2" pipe', '"']
    with pytest.raises(ValueError, match='row 2 cannot be read: .* only characters there: --quo'):
        rests('x.tsv', table)


def test_how_many_rows_there_are_is_told(capsys):
    told, config = tables.Told(), dataset_config.DatasetConfig()
    for number in range(9):
        text = f'text,t{number % 7}\n' + 'one,\n,x\n' * number
        list(tables.texts_of(f'{number}.csv', [text], config, told))
    list(tables.texts_of('x.jsonl', ['{"text": "a"}\n'], config, told))
    told.end()
    *ways, alone, rows = capsys.readouterr().err.splitlines()
    assert [way.partition(':')[0] for way in ways] == ['0.csv', '1.csv', '2.csv', '3.csv', '4.csv']
    assert alone.startswith('1 of 10 tables have names of columns alone, as 0.csv. If these are te')
    assert rows == '37 rows are read, of 10 tables; 36 without text are left out'


ARRAY = '[{"text": "one"},\n {"text": "two\\n", "n": [1, {}]}, "three", {"text": 1.50}, ""]'


@pytest.mark.parametrize('space', ['', ' ', '\n\n'])
def test_json_may_be_an_array(space):
    expected = ['one', 'two\n', 'three', '1.50']
    assert rests('x.json', space + ARRAY + space) == expected
    lines = '{"text": "one"}\n{"text": "two\\n"}\n"three"\n{"text": 1.50}\n' + space
    for name in ('x.json', 'x.ndjson', 'x.jsonl', 'x.JSON'):
        assert rests(name, lines) == expected
    assert rests('x.json', '{\n  "text":\n  "one"\n}{"text": "two"}') == ['one', 'two']
    assert rests('x.json', '[{"q": "a", "b": 2}]', template='{q}{b}') == ['a2']
    assert rests('x.json', '') == rests('x.json', '[]') == rests('x.json', ' ') == []


@pytest.mark.parametrize(
    'text, complaint',
    [
        ('[{"text": "a"}, 1]', 'row 2 is 1; it must be an object'),
        (
            '[{"text": "a"}, {"txt": "b"}]',
            "row 2 has no column 'text', but 'txt'. .* or name it .t",
        ),
        ('[{"text": "a"}', 'is cut off: its array has no end behind row 1'),
        ('[{"text": "a"}, {"te', 'row 2 is not JSON: Unterminated string'),
        ('{"text": "a"} x', 'row 2 is not JSON: Expecting value'),
        ('["a"] "b"', 'row 2 is not JSON: there is more behind the array'),
        ('[' * 100_000, 'row 1 is not JSON: maximum recursion'),
        ('{"a":' * 100_000, 'row 1 is not JSON: maximum recursion'),
        ('[\x1b[2J', 'row 1 is not JSON'),
        ('[["\x1b[2J"]]', 'row 1 is not JSON: Invalid control character'),
        ('[["\x85"]]', r'row 1 is \["\\x85"\]; it must be'),
    ],
)
def test_json_that_is_none_is_told(text, complaint):
    with pytest.raises(ValueError, match=f'^x.json.*{complaint}') as error:
        texts('x.json', text)
    assert '\n' not in str(error.value) and '\x1b' not in str(error.value)


def test_an_array_is_read_piece_by_piece():
    taken = []
    blocks = (taken.append(n) or ('[' if not n else '"some text", ') for n in itertools.count())
    rows = tables.texts_of('x.json', blocks, dataset_config.DatasetConfig())
    assert [next(rows) for _ in range(50)] and len(taken) < 60


@pytest.mark.parametrize('name', ['x.txt', 'x.csv', 'x.jsonl', 'x.json'])
def test_a_line_without_end_is_told_before_it_fills_the_memory(monkeypatch, name):
    monkeypatch.setattr(tables, 'LONGEST', 10**5)
    taken = []
    bomb = itertools.chain(['"'], (taken.append(n) or ' ' * 1000 for n in range(10**4)))
    config = dataset_config.DatasetConfig(line_by_line=True)
    with pytest.raises(ValueError, match='x.* has a line of more than 100,000 char|x.json: row 1'):
        list(tables.texts_of(name, bomb, config))
    assert len(taken) < 300
