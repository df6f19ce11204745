PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
OLDEST = .venv-oldest-sdk
SOURCES = pyproject.toml README.md LICENSE $(shell find sessions sql -type f -not -name '*.pyc')

.PHONY: help demo test test-fast test-faults test-oldest-sdk coverage lint typecheck wheel bench

help: ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/wheel ## an agent with a memory, in two processes; URL=... for a server of yours
	$(BIN)/python tests/examples/agent_script.py $(if $(URL),--url '$(URL)')

test: $(VENV)/wheel ## every test, on the built wheel; servers by Docker or SESSIONS_TEST_*_URL
	$(BIN)/pytest $(ARGS)

test-fast: $(VENV)/wheel ## what needs no server and takes no time
	$(BIN)/pytest --backends=memory,sqlite,sqlite-memory -m 'not slow' --ignore=tests/faults $(ARGS)

test-faults: $(VENV)/wheel ## the fault suite alone: servers killed, connections cut
	$(BIN)/pytest tests/faults $(ARGS)

test-oldest-sdk: ## the SDK's adapter on the oldest OpenAI Agents SDK that we support
	$(MAKE) --no-print-directory $(OLDEST)/wheel VENV=$(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check 'openai-agents==0.18.3'
	$(OLDEST)/bin/pytest --backends=memory,sqlite,sqlite-memory tests/openai_agents tests/interop $(ARGS)

coverage: $(VENV)/wheel ## every test, and which lines they reach
	$(BIN)/coverage erase
	$(BIN)/coverage run $(BIN)/pytest $(ARGS)
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report

lint: $(VENV)/dependencies ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/dependencies ## mypy --strict
	$(BIN)/mypy

wheel: $(VENV)/wheel ## build the wheel and the sdist into dist/

bench: $(VENV)/wheel ## the benchmarks
	$(BIN)/python tests/benchmarks $(ARGS)

# The two stamps: what we need is installed; what we built is installed.
$(VENV)/dependencies: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check '.[dev]'
	@touch $@

$(VENV)/wheel: $(VENV)/dependencies $(SOURCES)
	rm -rf dist && $(BIN)/pyproject-build --no-isolation . >$(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }
	$(BIN)/pip install --quiet --no-deps --force-reinstall dist/*.whl
	@touch $@
