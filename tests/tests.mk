# Test targets; included by the Makefile.  A test is a file: add it and it runs.
#   tests/{unit,kernel,golden,fault}/test_*.c   cmocka programs, linked with everything but main.o
#   tests/{scenario,golden,arch}/test_*.py      Python 3 standard-library unittest; BERTH and BUILD are in the environment
#   tests/tool/*.c                              programs that scenarios and benches drive
#   tests/fuzz/fuzz_*.c                         LLVMFuzzerTestOneInput; corpus in tests/fuzz/corpus/NAME/, replayed by check
TESTC   := $(wildcard tests/unit/test_*.c tests/kernel/test_*.c tests/golden/test_*.c tests/fault/test_*.c)
# tests/arch reads source text and links roles: once, in the ordinary build, is enough.
# ThreadSanitizer has nothing to find where there is one thread, and takes its time to say so.  (strace -f tells: no CLONE_THREAD.)
ALONE   := $(foreach t,answer api_doc attn base bench_stats chat chat_lines cli_args config draft_pace file gguf% guard hparams \
             httpd_parse ipc jinja json kv markdown matmul memory oci_% panels prepare quants registry rows sampler settings sha256 \
             tar tok tokenizer tokenizer_bad weights,tests/unit/test_$t.c tests/golden/test_$t.c tests/kernel/test_$t.c) \
           $(foreach t,cli_pages lock,tests/scenario/test_$t.py)
TESTC   := $(if $(filter thread,$(SAN)),$(filter-out $(ALONE),$(TESTC)),$(TESTC))
TESTPY  := $(wildcard tests/scenario/test_*.py tests/golden/test_*.py) $(if $(SAN),,$(wildcard tests/arch/test_*.py))
TESTPY  := $(if $(filter thread,$(SAN)),$(filter-out $(ALONE),$(TESTPY)),$(TESTPY))
FUZZC   := $(wildcard tests/fuzz/fuzz_*.c)
TESTBIN := $(TESTC:%.c=$(BUILD)/%)
REPLAY  := $(if $(filter thread,$(SAN)),,$(FUZZC:%.c=$(BUILD)/%))
ONLY    ?=

$(BUILD)/libberth.a: $(OBJ)
	$(Q)rm -f $@; ar rcs $@ $^
# Helpers shared by C tests: tests/support/*.c, all but what is for bench_kernels alone.
SUPPORT := $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/amx_timed_avx512vnni.c $(if $(filter x86_64,$(ARCH)),,%_avx512vnni.c),\
             $(wildcard tests/support/*.c)))
# The API's own tests have a runner that plays, in place of daemon/runner's.
$(BUILD)/tests/unit/test_api_http: $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/played/*.c))
$(TESTBIN): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT) $(BUILD)/libberth.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka $(LIBS)
$(REPLAY): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libberth.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# Programs that scenarios drive: tests/tool/*.c
TOOLBIN := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/tool/*.c))
$(TOOLBIN): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libberth.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# Vocabularies lie compressed in the repository.
VOCAB   := $(patsubst tests/data/vocab/%.xz,$(BUILD)/vocab/%,$(wildcard tests/data/vocab/*.xz))
$(VOCAB): $(BUILD)/vocab/%: tests/data/vocab/%.xz
	$(Q)mkdir -p $(@D); python3 -c 'import lzma, sys; sys.stdout.buffer.write(lzma.open("$<").read())' > $@.tmp && mv $@.tmp $@

tests: all $(TESTBIN) $(TOOLBIN) $(REPLAY) $(VOCAB)
# make check ONLY=gguf runs the tests whose path contains "gguf".
check: tests
	$(Q)BERTH=$(abspath $(BUILD)/berth) BUILD=$(abspath $(BUILD)) \
	  BERTH_TEST_SLOW=$(if $(SAN),10,1) python3 tests/run.py --only '$(ONLY)' $(TESTPY) $(TESTBIN) $(REPLAY)

# The kernels of another processor, on this one: cross-compiled, run by an emulator (dev/packages.sh, ARM_PACKAGES).
ARMCC   ?= aarch64-linux-gnu-gcc
ARMRUN  ?= qemu-aarch64 -cpu max
ARMOBJ  := $(filter $(BUILD)/src/worker/kernel/% $(BUILD)/src/lib/base/%,$(OBJ)) \
           $(foreach f,cpu memory file,$(BUILD)/src/lib/sys/$f.o)
$(BUILD)/run/%: $(BUILD)/tests/kernel/%.o $(ARMOBJ)
	$(Q)mkdir -p $(@D); $(CC) -static -o $@.elf $^ -lm -pthread && \
	  printf '#!/bin/sh\nexec $(ARMRUN) %s "$$@"\n' $(abspath $@).elf > $@ && chmod +x $@
# The engine on them, from the file's rows and from prepared weights.
ARMUNIT := prepared
ARMENG  := $(filter $(BUILD)/src/worker/engine/% $(BUILD)/src/worker/model/gguf% $(BUILD)/src/worker/model/hparams%,$(OBJ)) \
           $(foreach f,ipc/frame ipc/gen sys/model_files,$(BUILD)/src/lib/$f.o) \
           $(foreach f,engine_run gguf_build tiny_model,$(BUILD)/tests/support/$f.o)
$(BUILD)/run/%: $(BUILD)/tests/unit/%.o $(ARMENG) $(ARMOBJ)
	$(Q)mkdir -p $(@D); $(CC) -static -o $@.elf $^ -lm -pthread && \
	  printf '#!/bin/sh\nexec $(ARMRUN) %s "$$@"\n' $(abspath $@).elf > $@ && chmod +x $@
arm-run: $(patsubst tests/kernel/%.c,$(BUILD)/run/%,$(wildcard tests/kernel/test_*.c)) $(ARMUNIT:%=$(BUILD)/run/test_%)
	$(Q)BERTH_TEST_SLOW=20 python3 tests/run.py --only '$(ONLY)' $^
check-arm:
	$(Q)$(MAKE) CC=$(ARMCC) BUILD=build-arm SAN= CFLAGS='-O2 -Itests/arm' arm-run

# Coverage-guided: make fuzz FUZZ=gguf SECONDS=600 (clang; own build folder, with ASan and UBSan).
FUZZ    ?=
SECONDS ?= 60
fuzz:
	$(Q)for f in $(FUZZC); do n=$$(basename $$f .c); case $$n in *$(FUZZ)*) dev/fuzz $$n $(SECONDS) || exit 1;; esac; done
# Speed, not correctness: tests/*/bench_*.c, and tests/bench/*.py of the whole program.  make bench ONLY=kernels
BENCHC  := $(wildcard tests/*/bench_*.c)
BENCHBIN := $(BENCHC:%.c=$(BUILD)/%)
$(BENCHBIN): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/support/http_client.o $(BUILD)/libberth.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
# Fixed registers are gcc's; a sanitizer's checks would be measured along.
$(BUILD)/tests/kernel/bench_kernels: \
  $(if $(filter x86_64,$(ARCH)),$(if $(SAN)$(findstring clang,$(CC)),,$(BUILD)/tests/support/amx_timed_avx512vnni.o))
BENCHPY := $(wildcard tests/bench/*.py)
bench: all $(BENCHBIN) $(TOOLBIN)
	$(Q)export BERTH=$(abspath $(BUILD)/berth) BUILD=$(abspath $(BUILD)); \
	  for b in $(BENCHBIN) $(BENCHPY); do case $$b in *$(ONLY)*) case $$b in *.py) python3 $$b;; *) $$b;; esac || exit 1;; esac; done
# An hour of everything at once, with workers killed under way: make soak MINUTES=60
MINUTES ?= 10
soak: all
	$(Q)BERTH=$(abspath $(BUILD)/berth) BUILD=$(abspath $(BUILD)) BERTH_TEST_SLOW=$(if $(SAN),10,1) \
	  python3 tests/soak/soak.py --minutes $(MINUTES)
.PHONY: tests soak check-arm arm-run
