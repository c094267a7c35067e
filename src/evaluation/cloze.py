"""Files of questions to a model: a context, what may follow it, and which of these is right.

choices  {"context": "The sky is", "choices": [" blue", " loud"], "answer": 0} in each line;
         the answer, counted from 0, may be left out.
lambada  LAMBADA (Paperno et al. 2016, arXiv:1606.06031): a passage in each line, as it is or as
         {"text": "…"}, whose last word is to be said. So there is a single choice.
cbt      The Children's Book Test (Hill et al. 2016, arXiv:1511.02301): numbered sentences and a
         question, "21 … XXXXX …<TAB>answer<TAB><TAB>candidate|candidate|…". The choices are
         the candidates with the rest of the sentence, as in Radford et al. 2019, section 3.2.
"""

import dataclasses
import json

import tqdm

from ..data import tables, text_files

BLANK = 'XXXXX'  # how the files of the Children's Book Test write the missing word


@dataclasses.dataclass(frozen=True)
class Question:
    """A context and its choices, each of which goes on right behind it."""

    where: str  # the file and the line, for error messages
    context: str
    choices: list
    answer: int | None


def read(path, task, encoding='utf-8'):
    """The questions of a file, a list of Question.

    Raises:
        ValueError: a line is not what `task` has, or not text in that encoding, or there is none;
            the message names file and line.
        OSError: the file cannot be read.
    """
    silent, lines = tqdm.tqdm(disable=True), []
    for name, blocks in text_files.texts_of(path, encoding, silent):
        for number, line in enumerate(tables.lines(blocks, name), 1):
            if line.strip():
                lines.append((f'{name}, line {number}', line.removesuffix('\n')))
    questions = list(TASKS[task](lines))
    if not questions:
        raise ValueError(f'{text_files.shown(path)} has no questions of --task {task}')
    return questions


def of_choices(lines):
    """(where, line), … -> Question, …"""
    for where, line in lines:
        record = _json(where, line)
        context, choices = record.get('context'), record.get('choices')
        answer = record.get('answer')
        if not (isinstance(context, str) and isinstance(choices, list) and choices) or not all(
            isinstance(choice, str) and choice for choice in choices
        ):
            raise ValueError(
                f'{where} should be {{"context": a text, "choices": [a text, …], "answer": 0}}'
            )
        if answer is not None and (type(answer) is not int or not 0 <= answer < len(choices)):
            raise ValueError(
                f'{where} has the answer {answer!r}; it must be 0 to {len(choices) - 1}, the place '
                'of a choice'
            )
        yield Question(where, context, choices, answer)


def of_lambada(lines):
    """(where, line), … -> Question, …"""
    for where, line in lines:
        text = line
        if line.startswith('{'):
            text = _json(where, line).get('text')
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f'{where} should be {{"text": a passage}}')
        text = text.rstrip()
        before = text[: -len(text.split()[-1])]
        context = before.rstrip()
        yield Question(where, context, [text[len(context) :]], 0)


def of_cbt(lines):
    """(where, line), … -> Question, …"""
    sentences = []
    for where, line in lines:
        number, _, sentence = line.partition(' ')
        if number == '1':
            sentences = []
        if '\t' not in sentence:
            sentences.append(sentence.strip())
            continue
        query, answer, _, candidates = (sentence.split('\t') + [''] * 3)[:4]
        candidates = candidates.strip().split('|')
        if query.count(BLANK) != 1 or answer not in candidates:
            raise ValueError(
                f'{where} should be a sentence with one {BLANK}, a tab, the answer, two tabs, and '
                'candidates with | between them, one of which is the answer'
            )
        before, after = ' '.join([*sentences, query.strip()]).split(BLANK)
        choices = [candidate + after for candidate in candidates]
        yield Question(where, before, choices, candidates.index(answer))


TASKS = {'choices': of_choices, 'lambada': of_lambada, 'cbt': of_cbt}


def _json(where, line):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{where} is no JSON: {error}') from None
    if not isinstance(record, dict):
        raise ValueError(f'{where} should be a JSON object')
    return record
