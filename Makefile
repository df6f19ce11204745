PYTHON ?= python3
VENV ?= .venv
EXTRA ?= dev
BIN = $(VENV)/bin
OLDEST = .venv-oldest-sdk
FREE_THREADED = .venv-free-threaded
FREE_THREADED_PYTHON ?= python3.14t
WITHOUT_SERVERS = --backends=memory,sqlite,sqlite-memory
# As many processes as cores, and three at least, for they often wait; all tests of a server in one of them.
PARALLEL = -n $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores > 3 ? cores : 3))) --dist loadgroup
SOURCES = pyproject.toml README.md LICENSE $(shell find sessions sql -type f -not -name '*.pyc')

# Each process of the tests would compile all of them again.
unexport PYTHONDONTWRITEBYTECODE

# hatchling dates what it packs by a constant then: the same bytes from a checkout and from an sdist, whenever it is.
unexport SOURCE_DATE_EPOCH

.PHONY: help demo test test-fast test-faults test-cluster test-matrix test-oldest-sdk test-free-threaded coverage lint typecheck wheel bench

help: ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/wheel ## an agent with a memory, in two processes; URL=... for a server of yours
	$(BIN)/python tests/examples/agent_script.py $(if $(URL),--url '$(URL)')

test: $(VENV)/wheel ## every test but those of clusters, on the built wheel; servers by Docker or SESSIONS_TEST_*_URL
	$(BIN)/pytest $(PARALLEL) --ignore=tests/cluster $(ARGS)

test-fast: $(VENV)/wheel ## what needs no server and takes no time
	$(BIN)/pytest $(WITHOUT_SERVERS) -n auto --dist worksteal -m 'not slow' --ignore=tests/faults $(ARGS)

test-faults: $(VENV)/wheel ## the fault suite alone: servers killed, connections cut
	$(BIN)/pytest tests/faults $(ARGS)

test-cluster: $(VENV)/wheel ## clusters of MariaDB, MySQL and PostgreSQL in containers, servers killed; minutes
	$(BIN)/pytest $(PARALLEL:loadgroup=loadfile) tests/cluster $(ARGS)

test-matrix: $(VENV)/wheel ## the contract, the plans and the round trips on the oldest servers that we support
	env -u SESSIONS_TEST_POSTGRESQL_URL -u SESSIONS_TEST_MARIADB_URL \
	    SESSIONS_TEST_POSTGRESQL_IMAGE=postgres:15 SESSIONS_TEST_MARIADB_IMAGE=mariadb:10.11 $(BIN)/pytest $(PARALLEL) \
	    --backends=postgresql,mariadb -m "not slow" --ignore=tests/contract/test_settings.py tests/contract tests/test_plans.py \
	    tests/test_round_trips.py $(ARGS)

test-oldest-sdk: ## the SDK's adapter on the oldest OpenAI Agents SDK that we support
	$(MAKE) --no-print-directory $(OLDEST)/wheel VENV=$(OLDEST) EXTRA=test
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check 'openai-agents==0.18.3'
	$(OLDEST)/bin/pytest $(WITHOUT_SERVERS) tests/openai_agents tests/interop $(ARGS)

# Without psycopg's binary, which has no wheel for it: its Python part looks for a libpq of the system.
test-free-threaded: wheel ## the contract, the faults and the threads on FREE_THREADED_PYTHON, python3.14t
	$(FREE_THREADED_PYTHON) -c 'import sys; assert not sys._is_gil_enabled(), sys.version'
	$(FREE_THREADED_PYTHON) -m venv $(FREE_THREADED)
	$(FREE_THREADED)/bin/pip install --quiet --no-compile --disable-pip-version-check psycopg 'pymysql[rsa]' msgspec aiosqlite dbutils \
	    hypothesis 'openai-agents[encrypt,sqlalchemy]' psycopg-pool pytest pytest-xdist testcontainers
	$(FREE_THREADED)/bin/pip install --quiet --no-deps --force-reinstall dist/*.whl
	$(FREE_THREADED)/bin/pytest $(PARALLEL) tests/contract tests/faults tests/openai_agents tests/test_threads_and_fork.py $(ARGS)

coverage: $(VENV)/wheel ## every test, and which lines they reach
	$(BIN)/coverage erase
	$(BIN)/coverage run $(BIN)/pytest --ignore=tests/cluster $(ARGS)
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report

lint: $(VENV)/dependencies ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/dependencies ## mypy --strict, and pyright over what users write
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

wheel: $(VENV)/wheel ## build the wheel and the sdist into dist/
	rm -rf dist && cp -r $(VENV)/dist dist

bench: $(VENV)/wheel ## the benchmarks
	$(BIN)/python tests/benchmarks $(ARGS)

# The two stamps: what we need is installed; what we built is installed.
$(VENV)/dependencies: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check '.[$(EXTRA)]'
	@touch $@

$(VENV)/wheel: $(VENV)/dependencies $(SOURCES)
	rm -rf $(VENV)/dist && $(BIN)/pyproject-build --no-isolation --outdir $(VENV)/dist . >$(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }
	$(BIN)/pip install --quiet --no-deps --force-reinstall $(VENV)/dist/*.whl
	@touch $@
