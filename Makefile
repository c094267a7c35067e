# make demo   install, let a small model speak, fine-tune it for a minute, and let it speak again
# make test   install what the tests need, and run them
# make lint   ruff, as the tests' settings in pyproject.toml have it

PYTHON ?= python3
export TF_CPP_MIN_LOG_LEVEL ?= 2

SPEAK = .venv/bin/python src/generate_unconditional_samples.py --prefix "The reason" \
	--include_prefix --nsamples 1 --length 120 --temperature 0.8 --top_k 40 --seed 1

.PHONY: demo test lint

demo: .venv/installed
	$(SPEAK) --model_name shakespeare
	.venv/bin/python train.py --dataset demo/kant.txt --model_name shakespeare --run_name kant \
		--restore_from fresh --seed 1 --batch_size 8 --learning_rate 0.001 --schedule cosine \
		--warmup_steps 20 --steps 300 --sample_every 0 --save_every 0
	$(SPEAK) --model_name checkpoint/kant

test: .venv/installed-test
	.venv/bin/python -m pytest

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv/installed: requirements.txt
	@echo 'Installing into .venv what requirements.txt lists; this takes a minute or two' >&2
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-test: .venv/installed tests/requirements.txt
	.venv/bin/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@
