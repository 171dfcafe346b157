# The project's commands. What takes more than a line to do is in scripts/ or the lakehouse CLI.
# No command needs anything installed but Python 3.11 to 3.13 and make.

.DEFAULT_GOAL := help
.PHONY: help run run-cloud run-sources test test-fast coverage conformance-cloud conformance-emr ui bench lint docs lock clean
BIN := .venv/bin

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "make %-15s %s\n", $$1, $$2 }'

run: .venv/.installed ## deliver the sample data and materialize the whole lake in .lakehouse/
	@$(BIN)/lakehouse run

run-cloud: .venv-spark40/.installed ## the same as production would, on stand-ins of its services (needs Java 17)
	@$(BIN)/lakehouse rehearse

run-sources: .venv/.installed ## extract three days of the sample from stand-ins of the systems that they come from
	@$(BIN)/lakehouse rehearse --sources

test: .venv/.installed ## run every test, those on JVM Spark and in a browser included
	@scripts/test

test-fast: .venv/.installed ## run the quick tests of single parts, without a JVM and a browser (two minutes)
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not jvm and not browser and not slow" tests/unit tests/conformance

coverage: .venv/.installed ## run all tests that need neither, and say which lines none reached
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not jvm and not browser and not slow" --cov

ui: .venv/.installed ## serve the Dagster UI and its daemon on localhost, over the same lake
	@$(BIN)/lakehouse ui

conformance-emr: .venv-spark40/.installed ## run what needs PySpark 4.0, as EMR Serverless has it
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m spark40 tests/conformance tests/integration/test_emr_runner.py

conformance-cloud: .venv-spark40/.installed ## compare what run makes with what production would, each way (an hour or two, needs Java 17 and Chromium)
	@$(BIN)/python -m pytest -q -m rehearsal tests

bench: .venv/.installed ## measure the platform against its alternatives
	@$(BIN)/python -m benchmarks

lint: .venv/.installed ## check style, types, the boundary between the planes, and all contracts
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/lakehouse check

docs: .venv/.installed ## build the documentation into site/
	@$(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

lock: .venv/.installed ## resolve the dependencies anew into the requirements*.lock files
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes --all-extras pyproject.toml -o requirements.lock
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes spark_jobs/pyproject.toml requirements-spark40.in \
		-o requirements-spark40.lock
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes --constraint requirements.lock \
		spark_jobs/pyproject.toml -o requirements-jobs.lock

clean: ## remove the environment, caches and builds; the lake in .lakehouse/ stays
	@rm -rf .venv .venv-spark40 .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist site \
		test-artifacts lakehouse.egg-info platform/lakehouse.egg-info
	@find platform spark_jobs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + \
		2>/dev/null || true

.venv/.installed: requirements.lock pyproject.toml scripts/setup
	@scripts/setup

# Beside the other: one Python has one PySpark.
.venv-spark40/.installed: requirements-spark40.lock .venv/.installed
	@scripts/setup spark40
