# `make run` and `make test` need Python 3.11 and make; what else they use they install into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# With an older Python, pip searches for installable versions for a quarter of an hour.
IS_SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
SUITABLE_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
UNSUITABLE = kekd needs Python 3.11 or later, and '$(SUITABLE_PYTHON)' is none: give one, as in 'make run PYTHON=python3.12', after 'make clean'
SERVICES := v1/daemon.proto v1/envelope.proto
PROTOS ?= protos
PROTO_OUT ?= protos
DIST ?= dist
SCHEMA_OUT ?= schema/kekd_schema

MERMAID := 11.16.0
# pip trusts the machine's certificates too, for an index behind a proxy.
export UV_SYSTEM_CERTS := true

PYTEST = $(BIN)/pytest --numprocesses=$(shell expr $$(nproc) + 2) --dist=worksteal
CLIENT_TESTS = --numprocesses=$(shell expr $$(nproc) + 2) --dist=worksteal -p no:cacheprovider \
  -m "not ($(SLOW))" tests/integration/client tests/integration/test_tls.py tests/unit/kek \
  tests/cli/test_kekctl.py tests/cli/test_contexts.py tests/cli/test_completion.py \
  --ignore=tests/integration/client/test_instrumentation.py \
  --ignore=tests/unit/kek/test_aws_secrets.py --ignore=tests/unit/kek/test_registry_file.py
# pyenv's shims fail for the versions that aren't selected.
PYENV = $(patsubst %/bin/pyenv,%,$(shell command -v pyenv))
PYTHONS = $(shell for version in 3.12 3.13; do \
  ls -d $(PYENV)/versions/$$version.*/bin/python$$version /usr/bin/python$$version /usr/local/bin/python$$version 2>/dev/null | head -1; done)
SLOW := slow or faults or torture or systemd

.PHONY: dist test-lowest test-pythons help run check check-protos fast test test-slow test-seaweedfs test-all stress generate released-protos texts docs bench bench-quick clean

help: ## List these targets
	@sed -En 's/^([a-z-]+):.* ## (.+)/make \1\t\2/p' Makefile | expand -t 16

run: $(VENV)/run ## Start a daemon on a Unix socket and 127.0.0.1:7535
	@$(BIN)/kekd

check: $(VENV)/dev check-protos ## Run the linters and the type checker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check-protos: $(VENV)/dev ## Check the style of protos/, and that callers of the last release still work
	$(BIN)/buf lint $(PROTOS)
	$(BIN)/buf breaking $(PROTOS) --against protos/released.binpb

fast: $(VENV)/dev ## Run the unit tests, which need no daemon, socket or process
	$(PYTEST) -m "not external and not ($(SLOW))" tests/unit tests/test_architecture.py

test: check ## Run the linters, the type checker and the tests, except the slow ones
	$(PYTEST) -m "not ($(SLOW))"

test-slow: test-seaweedfs test-lowest test-pythons ## Run the tests that `make test` leaves out
	$(PYTEST) -m "$(SLOW)"

test-seaweedfs: $(VENV)/dev ## Run the tests of S3 on SeaweedFS
	$(PYTEST) -m s3 --s3-server=seaweedfs --ignore=tests/integration/test_engine_torture.py

test-lowest: $(VENV)/dev ## Run the client's tests on the lowest versions that it declares
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)-lowest
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct --editable '.[aws]' --group client-tests
	TEST_DAEMON_BIN=$(CURDIR)/$(BIN) $(VENV)-lowest/bin/pytest -W default::pytest.PytestUnraisableExceptionWarning $(CLIENT_TESTS)

test-pythons: $(VENV)/dev ## Run the client's tests on the other versions of Python that are installed
	for python in $(PYTHONS); do \
	  $(BIN)/uv venv --quiet --allow-existing --python $$python $(VENV)-pythons/$$(basename $$python) && \
	  $(BIN)/uv pip install --quiet --python $(VENV)-pythons/$$(basename $$python) --editable '.[aws]' --group client-tests && \
	  TEST_DAEMON_BIN=$(CURDIR)/$(BIN) $(VENV)-pythons/$$(basename $$python)/bin/pytest $(CLIENT_TESTS) || exit 1; \
	done

test-all: test test-slow ## Run every test

stress: $(VENV)/dev ## Run every test while other processes take nine tenths of the processors
	$(BIN)/python -m tests.stress

generate: $(VENV)/dev ## Generate the code for protos/ and schema/
	$(BIN)/python -m grpc_tools.protoc -Ikekd_proto/v1=protos/kekd/v1 \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --pyi_out=$(PROTO_OUT) --mypy_grpc_out=$(PROTO_OUT) \
	  $(SERVICES:%=kekd_proto/%)
	$(BIN)/python -m grpc_tools.protoc -Iprotos --include_imports \
	  --descriptor_set_out=$(PROTO_OUT)/kekd_proto/v1/descriptors.binpb $(SERVICES:%=kekd/%) kekd/v1/reason.proto
	$(BIN)/flatc --python --python-typing --gen-onefile -o $(SCHEMA_OUT) schema/kms_blob.fbs

released-protos: $(VENV)/dev ## Let `make check` compare protos/ with its current state, at a release
	$(BIN)/buf build protos --exclude-source-info --output protos/released.binpb

texts: $(VENV)/dev ## Collect the help and messages in tests/texts
	$(BIN)/python -m tests.texts.collect

docs: $(VENV)/dev $(VENV)/mermaid.min.js ## Build the documentation as a site in build/site
	$(BIN)/python website/build.py

bench: $(VENV)/bench ## Measure, for bench/README.md
	$(BIN)/python -m bench

bench-quick: $(VENV)/bench ## Measure the five ratios that matter, in two minutes
	$(BIN)/python -m bench quick

dist: $(VENV)/dev ## Build the wheel and the source archive in DIST, and check them
	rm -rf $(DIST)
	$(BIN)/python -m build --no-isolation --outdir $(DIST) .
	$(BIN)/twine check --strict $(DIST)/*
	$(BIN)/check-wheel-contents $(DIST)/*.whl
	$(BIN)/pyroma --min 10 $(DIST)/*.tar.gz

clean: ## Remove .venv
	rm -rf $(VENV)

# Draws the site's diagrams. The package has everything in one file.
$(VENV)/mermaid.min.js:
	@echo "installing mermaid into $(VENV)"
	@npm pack --silent --pack-destination $(VENV) mermaid@$(MERMAID) >/dev/null
	@tar --extract --to-stdout --file $(VENV)/mermaid-$(MERMAID).tgz package/dist/mermaid.min.js > $@
	@rm $(VENV)/mermaid-$(MERMAID).tgz

$(VENV)/run: EXTRAS := aws,server
$(VENV)/dev $(VENV)/bench: EXTRAS := aws,native,otel,server
$(VENV)/run $(VENV)/dev $(VENV)/bench: $(VENV)/%: pyproject.toml
	@echo "installing kekd[$(EXTRAS)] and the group $* into $(VENV)"
	$(if $(shell "$(SUITABLE_PYTHON)" -c '$(IS_SUITABLE)' 2>/dev/null && echo yes),,$(error $(UNSUITABLE)))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group $* --editable '.[$(EXTRAS)]'
	@touch $@
