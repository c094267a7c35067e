"""A .gguf of ours in llama.cpp: the ids of nasty strings, and texts of 64 tokens."""

import json
import sys

import pytest
from conftest import ROOT
from conversions import RECORDED, converted

from src.sampling import generation


def test_its_ids_and_texts_are_ours(small):
    recorded = json.loads((RECORDED / 'llama.json').read_text('utf-8'))
    assert len(recorded['strings']) == 22 and len(recorded['texts']) == 5
    for text, ids in recorded['strings']:
        ours = small.encode(text)
        assert ours == ids, text
    loaded = generation.load('shakespeare', str(ROOT / 'models'), engine='tensorflow')
    for prompt, tokens in recorded['texts']:
        (text,) = generation.generate_tokens(loaded.lm, prompt, length=64, temperature=0)
        assert text[len(prompt) :].tolist() == tokens


def test_it_reads_the_file_that_is_written_today(tmp_path, monkeypatch):
    pytest.importorskip('llama_cpp', reason='llama.cpp is missing: pip install llama-cpp-python')
    monkeypatch.syspath_prepend(str(RECORDED))
    import record_llama

    path = converted(str(ROOT / 'models' / 'shakespeare'), tmp_path / 'x.gguf')
    recorded = json.loads((RECORDED / 'llama.json').read_text('utf-8'))
    assert record_llama.record(str(path)) == recorded
    del sys.modules['record_llama']
