# Each target makes what it needs: a virtual environment in .venv, renewed when the
# dependencies change.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DATA ?= ../shared/data
INSTALLED := $(VENV)/.installed

.PHONY: quickstart test test-slow test-oldest lint bench clean

quickstart: $(INSTALLED)  ## train once, compare, generate; figures in out/
	$(RUN) examples/quickstart.py

test: $(INSTALLED)  ## the default suite
	$(RUN) -m pytest -n 2

test-slow: $(INSTALLED)  ## the heavier tests
	$(RUN) -m pytest -n 2 -m slow

test-oldest:  ## the default suite with the lowest versions allowed
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip install -q -c constraints.txt -c tests/oldest.txt -e ".[dev,plot]"
	$(VENV)-oldest/bin/python -m pytest -n 2

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: $(INSTALLED)  ## MiniRocket needs the extra "bench"; it is left out without it
	$(RUN) benchmarks/training.py
	$(RUN) benchmarks/recognition.py --data $(DATA)/adl_wrist.npz $(DATA)/hapt_waist.npz
	$(RUN) benchmarks/generation.py --data $(DATA)/hapt_waist.npz

clean:
	rm -rf $(VENV) $(VENV)-oldest out

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -c constraints.txt -e ".[dev,plot]"
	touch $@
