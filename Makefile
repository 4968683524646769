# Two commands: `make run` and `make test`. Both make their virtual environment first.
# `make torture` is the long form of the tests of robustness; it takes one to two hours.

PYTHON ?= python3
VENV ?= .venv
# The version the tests run with; any torch>=2.6 works, as in `make run TORCH=torch`.
TORCH ?= torch==2.13.0

.PHONY: run test lint torture kills faults fuzz leaderboard report phi benchmark temporal-benchmark clean

run: $(VENV)/installed
	$(VENV)/bin/ckl-bench run --method taalm

test: lint
	$(VENV)/bin/ckl-bench leaderboard --check
	$(VENV)/bin/python -m pytest --durations=10

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q '$(TORCH)'
	$(VENV)/bin/python -m pip install -q -e '.[dev]'
	touch $@

torture: kills faults fuzz

kills: $(VENV)/installed
	PYTHONPATH=tests $(VENV)/bin/python -m harness.torture --kills 200
	CKL_BENCH_RECORDS=2000 $(VENV)/bin/python -m pytest tests/robustness/test_parallel.py

faults: $(VENV)/installed
	PYTHONPATH=tests $(VENV)/bin/python -m harness.faults

fuzz: $(VENV)/installed
	PYTHONPATH=tests $(VENV)/bin/python -m harness.fuzz --examples 12000

# Regenerate what is committed: the tables, the embedded benchmark, the train-attention that ships with it.
leaderboard: $(VENV)/installed
	$(VENV)/bin/ckl-bench leaderboard

report: $(VENV)/installed
	$(VENV)/bin/ckl-bench report --figures leaderboards/figures

benchmark: $(VENV)/installed
	rm -rf data/benchmarks/lama-ckl-mini
	$(VENV)/bin/ckl-bench build lama-ckl --lama data/facts --pretest-model smollm2-135m --licence Apache-2.0 \
	  --to-learn 64 --not-to-forget 64 --epochs 8 --batch-size 8 --lr 5e-4 --out data/benchmarks/lama-ckl-mini

temporal-benchmark: $(VENV)/installed
	rm -rf data/benchmarks/temporalwiki-mini
	$(VENV)/bin/python data/snapshots/render.py
	$(VENV)/bin/ckl-bench build temporalwiki --wikipedia $(wildcard data/snapshots/wiki-*-multistream.xml.bz2) \
	  --wikidata $(wildcard data/snapshots/wikidata-*.json.gz) --max-subject-share 0.02 --max-relation-share 0.1 \
	  --max-probes 120 --licence Apache-2.0 --batch-size 4 --lr 5e-4 --out data/benchmarks/temporalwiki-mini

phi: $(VENV)/installed
	$(VENV)/bin/ckl-bench train-attention --benchmark lama-ckl-mini --model smollm2-135m \
	  --out data/attention/smollm2-135m--lama-ckl-mini.safetensors
	$(VENV)/bin/ckl-bench train-attention --benchmark temporalwiki-mini --model smollm2-135m \
	  --out data/attention/smollm2-135m--temporalwiki-mini.safetensors

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
