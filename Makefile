# SPDX-License-Identifier: MIT
# make demo | test | bench | check | soak   (README.md tells what each does)
SHELL := /bin/bash
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: all lib js programs demo test bench check soak lint format clean
all: lib js

# What is missing is installed when we are root, and named when we are not.
.PHONY: need-build need-test need-bench
need-build:
	@tools/need build
need-test: need-build
	@tools/need test
need-bench: need-build
	@tools/need bench

node_modules/.stamp: package-lock.json package.json
	npm ci --no-audit --no-fund
	touch $@

lib: need-build
	$(MAKE) -j$$(nproc) -C c lib

programs: need-build
	$(MAKE) -j$$(nproc) -C c all

# From nothing: what was renamed must not stay, least of all tests.
js: node_modules/.stamp
	rm -rf dist
	tsc

demo: lib js
	node dist/demo/demo.js

lint: node_modules/.stamp need-test
	biome check --error-on-warnings .
	clang-format --dry-run --Werror $$(git ls-files 'c/*.c' 'c/*.h')

format: node_modules/.stamp
	biome check --write .
	clang-format -i $$(git ls-files 'c/*.c' 'c/*.h')

test: need-test lint lib js
	tools/test

# The end-to-end tests against the address-sanitized library; threads under TSan.
check: need-test js
	tools/check

# What takes longer than a test run may.
soak: need-test programs js
	tools/soak

bench: need-bench programs js
	node dist/bench/bench.js

clean:
	rm -rf build dist
