"""The small model in models/shakespeare is what its README says."""

import hashlib
import re

import numpy as np
from conftest import ROOT

from src.evaluation import evaluate
from src.sampling import generation

README = (ROOT / 'models' / 'shakespeare' / 'README.md').read_text('utf-8')


def test_it_is_the_file_that_its_readme_names():
    (path,) = (ROOT / 'models' / 'shakespeare').glob('*.data-00000-of-00001')
    assert hashlib.sha256(path.read_bytes()).hexdigest() in README


def test_it_predicts_what_was_held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = generation.load('shakespeare')
    text = (ROOT / 'demo' / 'shakespeare.txt').read_text('utf-8')
    ids = loaded.encoder.encode_to_numpy(text)
    ids = ids[int(len(ids) * 0.9) :]
    costs = evaluate.costs_of(loaded.lm, [ids], 255)
    told = float(re.search(r'validation loss is ([\d.]+)', README)[1])
    assert abs(np.mean(costs) - told) < 0.01
