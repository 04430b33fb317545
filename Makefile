PYTHON ?= python3
# An index of CPU-only builds saves several gigabytes: make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PROVER := .venv-halmos
PEERS := .venv-bench
RUNS ?= runs
SEEDS ?= 200
KILLS ?= 100
HISTORIES ?= 1000
# Options of the benchmark of engines: make bench BENCH=--quick
BENCH ?=
PROOFS ?= ^check_

.PHONY: run test test-long fuzz chaos bench install install-test lint contracts prove docs picture money coverage clean

run: install
	$(BIN)/fedledger demo --out $(RUNS)

test: install-test lint contracts
	$(BIN)/pytest -n 2 --dist worksteal

# What is marked as long.
test-long: install-test
	$(BIN)/pytest -n 2 --dist worksteal -m long

# Properties on random examples, ten times as many, and random histories of the ledger: others each time.
fuzz: install-test
	HYPOTHESIS_PROFILE=fuzz LEDGER_EXAMPLES=$(HISTORIES) $(BIN)/pytest -n 2 --dist worksteal -m hypothesis

chaos: install-test
	PYTHONPATH=tests $(BIN)/python -m support.killed --kills $(KILLS)
	PYTHONPATH=tests $(BIN)/python -m support.chaos --seeds $(SEEDS)

# Training rounds beside bare torch and other frameworks, which have an environment of their own.
bench: install $(PEERS)/.installed
	$(BIN)/fedledger bench engine --peers flwr,pfl $(BENCH)

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

contracts: install-test
	contracts/tools/forge fmt --check contracts
	contracts/tools/forge test
	@if [ -e contracts/tools/slither_check.py ]; then $(BIN)/python contracts/tools/slither_check.py; fi

# What holds for every input, by a prover with an environment of its own; PROOFS picks some of it.
prove: node_modules/.installed $(PROVER)/.installed
	PATH="$$PWD/contracts/tools:$$PATH" FOUNDRY_PROFILE=halmos $(PROVER)/bin/halmos \
		--forge-build-out contracts/out/halmos --match-contract 'Proof$$' --match-test '$(PROOFS)' \
		--loop 9 --solver-timeout-assertion 300000

# The tables of methods in the documents.
docs: install-test
	PYTHONPATH=tests $(BIN)/python -m support.documents

# The pictures in the README, drawn from a run of the demonstration, and of reputation models.
picture: install
	$(BIN)/fedledger demo --out $(RUNS)/picture
	$(BIN)/python benchmarks/picture.py "$$(ls -td $(RUNS)/picture/*/ | head -n 1)" docs/images/demonstration.svg
	$(BIN)/python benchmarks/trust.py docs/images/trust.png

# What attacks on the ledger move, in docs/threat-model.md.
money: install-test
	PYTHONPATH=tests $(BIN)/python -m support.money --document docs/threat-model.md

coverage: install-test
	@mkdir -p contracts/cache
	FORGE_SNAPSHOT_EMIT=false contracts/tools/forge coverage --exclude-tests --no-match-contract "BatchedGas|DirectGas" \
		--report summary --report lcov --report-file contracts/cache/lcov.info
	$(BIN)/python contracts/tools/coverage_check.py contracts/cache/lcov.info

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test node_modules/.installed

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: pyproject.toml requirements.lock $(VENV)/.venv
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --index-url $(TORCH_INDEX) "$$(grep ^torch== requirements.lock)")
	$(BIN)/pip install --quiet --constraint requirements.lock --editable .
	touch $@

# The oracles' rules need NumPy, SciPy and torch alone; what their packages ask for besides, torchvision and exact
# versions of everything, conflicts with the lock file.
$(VENV)/.installed-test: pyproject.toml requirements.lock tests/oracles.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint requirements.lock --editable ".[test]"
	$(BIN)/pip install --quiet --no-deps --requirement tests/oracles.txt
	touch $@

# The prover's pins of libraries are not those of the project.
$(PROVER)/.installed:
	$(PYTHON) -m venv $(PROVER)
	$(PROVER)/bin/pip install --quiet halmos==0.3.3
	touch $@

$(PEERS)/.installed: benchmarks/engine/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(if $(TORCH_INDEX),$(PEERS)/bin/pip install --quiet --index-url $(TORCH_INDEX) "$$(grep ^torch== $<)")
	$(PEERS)/bin/pip install --quiet --requirement $<
	touch $@

node_modules/.installed: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	touch $@

clean:
	rm -rf $(VENV) $(PROVER) $(PEERS) .venv-releases node_modules contracts/out contracts/cache build dist
