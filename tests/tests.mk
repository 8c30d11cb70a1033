# Tests: how they are built and run. tests/README.md explains them.
#
# One unit test:       make build/tests/unit/test_conf && build/tests/unit/test_conf
# While others' folders do not compile, link a test with some folders only:
#                      make ONLY="lib/base lib/conf" build/tests/unit/test_conf

UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(BUILD)/%)
POSIX_BIN := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/posix/*.c))
BENCH_BIN := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c)) $(BUILD)/tests/bench/empty.so

# Everything of lib/ and daemon/ but main(), as an archive: a test is linked with the objects it needs and theirs. Files of
# shim/ that are pure are there too (shim/*.c would replace the test program's own libc calls).
ONLY ?=
UNIT_PURE := $(wildcard shim/pure_*.c)
UNIT_LIB_SRC := $(LIB_SRC) $(NET_SRC) $(DAEMON_LIB) $(UNIT_PURE)
ifneq ($(ONLY),)
UNIT_LIB_SRC := $(wildcard $(addsuffix /*.c,$(ONLY)))
UNIT_LIB := $(BUILD)/libunit-only.a
$(UNIT_LIB): .FORCE
else
UNIT_LIB := $(BUILD)/libunit.a
endif
UNIT_OBJ := $(UNIT_LIB_SRC:%.c=$(BUILD)/obj/%.o)

$(UNIT_LIB): $(UNIT_OBJ)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $(UNIT_OBJ)

# The tests themselves are quickly built rather than quick; what they are linked with is as ever.
UNIT_FAST := $(if $(SANITIZE),-O0) $(if $(shell command -v ld.gold),-fuse-ld=gold)

$(UNIT_BIN): $(BUILD)/tests/unit/%: tests/unit/%.c $(UNIT_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(SAN) $(PKG_CFLAGS) $(UNIT_CFLAGS) $(UNIT_FAST) -pthread -MMD -MP -MF $@.d -o $@ $< $(UNIT_LIB) -lcmocka $(PKG_LIBS) -ldl

# Programs that run on a plain folder and below a mapping: no sanitizer, nothing of prelux in them.
$(POSIX_BIN) $(filter-out %/route %/fetch %.so,$(BENCH_BIN)): $(BUILD)/%: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) -O1 -g -MMD -MP -MF $@.d -o $@ $< -pthread -ldl -lrt

# route() is inside the library: its bench is linked with the library's own objects.
$(BUILD)/tests/bench/route: tests/bench/route.c $(SHIM_OBJ)
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -D_FILE_OFFSET_BITS=64,$(BASE)) -O2 -g -o $@ $^ -ldl

$(BUILD)/tests/bench/fetch: tests/bench/fetch.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) -O2 -g -MMD -MP -MF $@.d -o $@ $< -pthread $(shell pkg-config --cflags --libs libcurl)

# What any preload costs a program's start.
$(BUILD)/tests/bench/empty.so:
	@mkdir -p $(@D)
	$(Q)$(CC) -shared -fPIC -o $@ -xc /dev/null

# Fault sweeps: what is preloaded into preluxd, never sanitized, and a program below a mapping.
FAULT_BIN := $(BUILD)/tests/fault/inject.so $(BUILD)/tests/fault/work
$(BUILD)/tests/fault/inject.so: tests/fault/inject.c tests/fault/board.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -D_FILE_OFFSET_BITS=64,$(BASE)) -O1 -g -fPIC -shared -MMD -MP -MF $@.d -o $@ $< -ldl

$(BUILD)/tests/fault/work: tests/fault/work.c tests/fault/gate.c tests/fault/gate.h tests/fault/board.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) -O1 -g -o $@ $(filter %.c,$^)

# Fuzzers. With gcc all of them are in one program, tests/fuzz/main.c runs them; FUZZ=1 CC=clang makes one program of each, with libFuzzer.
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_NAMES := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
FUZZ_RIG := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard tests/fuzz/rig*.c))
FUZZ_OBJ := $(FUZZ_SRC:%.c=$(BUILD)/obj/%.o)
FUZZ_WRAP := -Wl,--wrap=prelux_net_call,--wrap=prelux_net_backoff,--wrap=clock_nanosleep,--wrap=prelux_alluxio_resolve
FUZZ_LINK = $(CC) $(CFLAGS) $(SAN) -pthread $(FUZZ_WRAP) -o $@ $^ $(PKG_LIBS) -ldl
ifeq ($(FUZZ),1)
SAN += -fsanitize=fuzzer-no-link
FUZZ_BIN := $(FUZZ_NAMES:%=$(BUILD)/tests/fuzz/fuzz_%)
$(FUZZ_BIN): $(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_RIG) $(UNIT_LIB)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_LINK) -fsanitize=fuzzer
else
FUZZ_BIN := $(BUILD)/tests/fuzz/fuzz
$(FUZZ_OBJ): $(BUILD)/obj/tests/fuzz/fuzz_%.o: tests/fuzz/fuzz_%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(SAN) $(PKG_CFLAGS) -DLLVMFuzzerTestOneInput=fuzz_$* -pthread -MMD -MP -c $< -o $@
$(BUILD)/obj/tests/fuzz/main.o: tests/fuzz/main.c $(FUZZ_SRC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(SAN) -DFUZZ_TARGETS="$(foreach name,$(FUZZ_NAMES),X($(name)))" -MMD -MP -c $< -o $@
$(FUZZ_BIN): $(BUILD)/obj/tests/fuzz/main.o $(FUZZ_OBJ) $(FUZZ_RIG) $(UNIT_LIB)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_LINK)
endif

unit-programs: $(UNIT_BIN)
fuzzers: $(FUZZ_BIN)
tools: $(filter-out $(BUILD)/tests/unit/test_%,$(UNIT_BIN)) $(POSIX_BIN) $(FAULT_BIN)
posix-programs: $(POSIX_BIN)
bench-programs: $(BENCH_BIN)

check: deps  ## run all tests (STAGES="unit posix" for some); the last line sums up
	$(Q)$(PYTHON) tests/run.py $(STAGES)

unit: $(UNIT_BIN)  ## unit tests only
	$(Q)$(PYTHON) tests/run.py unit

demo:  ## see it work: a folder and an HTTP server read by unmodified programs
	@sh .ci/deps.sh demo
	$(Q)$(MAKE) --no-print-directory all
	$(Q)PRELUX_BUILD=$(BUILD) bash tests/demo/demo.sh

bench: all bench-programs  ## measure beside peers, which it installs; JSON to build/bench.json, plot to build/bench.svg
	@sh .ci/deps.sh bench
	$(Q)$(PYTHON) -m tests.servers.versitygw --install
	$(Q)$(PYTHON) -m tests.servers.pythons --install alluxiofs
	$(Q)$(PYTHON) tests/bench/bench.py --build $(BUILD) --json $(BUILD)/bench.json --svg $(BUILD)/bench.svg

FULL_WRITING := $(addprefix tests/integration/test_write_,crash.py power.py outage.py full_disk.py two_nodes.py namespace.py memory.py)
full: all tools  ## crowds at the promised sizes (1,000,000 names, 20,000,000 look-ups), writing tortured (1,000 kills, every power cut): an hour, figures printed
	$(Q)FULL=1 PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/integration/test_crowds.py -k "very_many or lookups"
	$(Q)FULL=1 PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -s -p no:cacheprovider $(FULL_WRITING)
	$(Q)FULL=1 PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -p no:cacheprovider tests/posix/test_storm.py tests/integration/test_cpython.py
	$(Q)FULL=1 PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/reach/test_packages.py -k by_apt
	@sh .ci/deps.sh full
	$(Q)$(PYTHON) -m tests.servers.pythons --install learning tfrecord
	$(Q)PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_write_programs.py tests/integration/test_migrating_azfuse.py -k torch
	$(Q)PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_runtimes.py -k "ffmpeg or PyTorch or Hugging or tfrecord"
	$(Q)$(MAKE) --no-print-directory BUILD=build-asan SANITIZE=address,undefined all tools unit-programs
	$(Q)PRELUX_BUILD=build-asan $(PYTHON) -m pytest -q -p no:cacheprovider $(wildcard tests/integration/test_alluxio_proxy_*.py) tests/integration/test_cluster.py
	$(Q)FULL=1 PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_contract_names.py -k killed_at
	$(Q)FULL=1 PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_walks_ahead.py -k million
	$(Q)FULL=1 TESTS='-m "asan and waits"' $(PYTHON) tests/run.py integration-asan integration-tsan
	$(Q)$(PYTHON) -m tests.servers.pythons --install ray
	$(Q)PRELUX_BUILD=$(BUILD) $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_migrating_arrow.py

torture: all tools  ## hours: faults, models, kills, fuzzers (STAGES="fuzz" for some, SECONDS=N each); goes on where it was; docs/TRUST.md
	@sh .ci/deps.sh torture
	$(Q)PRELUX_BUILD=$(BUILD) $(PYTHON) -m tests.torture $(if $(STAGES),--stage $(STAGES)) $(if $(SECONDS),--seconds $(SECONDS))

coverage: deps  ## line coverage of unit, posix and integration tests, by gcov
	$(Q)PRELUX_BUILD=build-cov $(PYTHON) tests/run.py --coverage meta unit posix integration; status=$$?; \
	  $(PYTHON) tests/coverage.py build-cov && exit $$status

LINT_SRC := $(wildcard lib/*/*.c daemon/*.c cli/*.c deep/*.c shim/*.c)
lint:  ## clang-tidy and cppcheck over lib/ daemon/ cli/ deep/ shim/
	$(Q)PKG_CFLAGS="$(PKG_CFLAGS)" sh .ci/lint.sh $(LINT_SRC)

.PHONY: check unit demo bench full torture coverage lint unit-programs fuzzers tools posix-programs bench-programs .FORCE
