# `make run` and `make test` need Python 3.11 and make; what else they use they install into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# An older one would have pip look for packages that it can install, for a quarter of an hour.
IS_SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
SUITABLE_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
UNSUITABLE = kekd needs Python 3.11 or later, and '$(SUITABLE_PYTHON)' is none: give one, as in 'make run PYTHON=python3.12', after 'make clean'
PROTO_OUT ?= protos
SCHEMA_OUT ?= schema/kekd_schema

.PHONY: run test lint generate bench clean

run: $(VENV)/run
	@$(BIN)/kekd

test: lint
	$(BIN)/pytest --numprocesses=3 --dist=worksteal

lint: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cd protos && ../$(BIN)/buf lint

generate: $(VENV)/dev
	$(BIN)/python -m grpc_tools.protoc -Ikekd_proto/v1=protos/kekd/v1 \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(PROTO_OUT) --pyi_out=$(PROTO_OUT) \
	  --grpc_python_out=$(PROTO_OUT) --mypy_grpc_out=$(PROTO_OUT) \
	  kekd_proto/v1/daemon.proto kekd_proto/v1/envelope.proto
	$(BIN)/flatc --python --python-typing --gen-onefile -o $(SCHEMA_OUT) schema/kms_blob.fbs

bench: $(VENV)/bench
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV)

$(VENV)/run $(VENV)/dev $(VENV)/bench: $(VENV)/%: pyproject.toml
	@echo "installing kekd[$*] into $(VENV)"
	$(if $(shell "$(SUITABLE_PYTHON)" -c '$(IS_SUITABLE)' 2>/dev/null && echo yes),,$(error $(UNSUITABLE)))
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[$*]'
	@touch $@
