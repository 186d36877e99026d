# make quickstart   set up .venv and train on the bundled digits
# make test         set up .venv and run the default tests
# make test-slow    run the slow tests; PART=k/n runs one of n parts
# make lint         check the style
# make docs         renew the generated parts of README.md, docs/ and results/
# make check-docs   fail if a generated part is out of date
# make site         build the documentation site into site/; fails at a broken link
# make bench        run all benchmarks into docs/benchmarks.md: half an hour on an otherwise idle machine

PYTHON ?= python3
RUN = .venv/bin/python
PART ?= 0/1

.PHONY: setup quickstart test test-slow lint bench docs check-docs site clean

setup: .venv/ready

# uv is several times faster where it is installed. The import checks that torch and torchvision fit together.
.venv/ready: pyproject.toml setup.py
	@if command -v uv >/dev/null; then \
		uv venv -q --allow-existing .venv && uv pip install -q --python $(RUN) -e '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check -e '.[dev]'; \
	fi
	@$(RUN) -c "import torch, torchvision; print('torch', torch.__version__, 'torchvision', torchvision.__version__)"
	@$(RUN) train.py --list models > /dev/null
	@touch $@

quickstart: setup
	$(RUN) train.py --config configs/quickstart.yaml

test: setup
	$(RUN) -m pytest

test-slow: setup
	$(RUN) -m pytest -m "slow and not gpu" --part $(PART)

lint: setup
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

bench: .venv/bench
	$(RUN) -m scripts.bench

site: .venv/site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build -q

# The packages of an optional group of pyproject.toml, installed once.
.venv/bench .venv/site: .venv/ready
	@if command -v uv >/dev/null; then uv pip install -q --python $(RUN) -e '.[$(@F)]'; \
	else .venv/bin/pip install -q --disable-pip-version-check -e '.[$(@F)]'; fi
	@touch $@

docs: setup
	$(RUN) -m scripts.docs

check-docs: setup
	$(RUN) -m scripts.docs --check

clean:
	rm -rf .venv
