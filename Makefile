# berth: one Makefile.  make | check | fuzz | bench | install | info; SAN=address|undefined|thread, V=1, BUILD=dir.
CC      ?= cc
BUILD   ?= build
PREFIX  ?= /usr/local
VERSION := $(shell sed -n 's/^\#\# \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
# Of the manual pages; SOURCE_DATE_EPOCH where a build must repeat.
DATE    := $(shell date -u $(if $(SOURCE_DATE_EPOCH),-d @$(SOURCE_DATE_EPOCH),-r CHANGELOG.md) +%Y-%m-%d)
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)

PKGS    := libssl libcrypto jansson libseccomp libutf8proc libpcre2-8 zlib libzstd
# A sanitizer's checks, optimised and described variable by variable, cost gcc twice to thrice the time of what it would do without.
CFLAGS  ?= $(if $(SAN),-O1 -g1,-O2 -g)
WARN    := -Wall -Wextra -Wvla -Wformat=2 -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith \
           -Wwrite-strings -Wundef
# What a sanitizer adds, and what is not optimised, hides from gcc that a variable was set and how long a string is.
WARN    += $(if $(findstring clang,$(CC)),,-Wshadow=local $(if $(SAN),-Wno-maybe-uninitialized -Wno-format-truncation)) \
           $(if $(WERROR),-Werror)
# Same answers everywhere: no contraction to FMA where the source does not ask for it.
BASE    := -std=gnu11 -Isrc -I. -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fvisibility=hidden -pthread \
           -fstack-protector-strong $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) \
           $(shell pkg-config --cflags $(PKGS))
LIBS    := $(shell pkg-config --libs $(PKGS)) -ldl -lm -pthread
comma   := ,
ifneq ($(SAN),)
BUILD   := build-$(SAN)
BASE    += -fsanitize=$(if $(filter address,$(SAN)),address$(comma)undefined,$(SAN)) -fno-sanitize-recover=all \
           -fno-omit-frame-pointer -DBERTH_SAN=1
LIBS    += -fsanitize=$(if $(filter address,$(SAN)),address$(comma)undefined,$(SAN))
endif

ARCH    := $(shell $(CC) -dumpmachine | cut -d- -f1)
KERNDIR := $(if $(filter x86_64,$(ARCH)),x86,$(if $(filter aarch64,$(ARCH)),arm,none))
SRC     := $(filter-out src/worker/kernel/x86/% src/worker/kernel/arm/%,$(wildcard src/*/*.c src/*/*/*.c src/*/*/*/*.c)) \
           $(wildcard src/worker/kernel/$(KERNDIR)/*.c src/worker/kernel/$(KERNDIR)/*/*.c)
OBJ     := $(SRC:%.c=$(BUILD)/%.o)
MAINOBJ := $(BUILD)/src/main.o
DEP      = $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# Flags by file name's ending: a kernel file is compiled for its own instruction set and no other.  Lines for debuggers,
# but no variables: of everything inlined these took half of gcc's time.
isa = $(if $(findstring /kernel/$(KERNDIR)/,$1),-g1 $(if $(filter -O0,$(CFLAGS)),-O2))\
      $(if $(filter %_avx2.c,$1),-mavx2 -mfma -mf16c)\
      $(if $(filter %_avxvnni.c,$1),-mavx2 -mfma -mf16c -mavxvnni)\
      $(if $(filter %_avx512.c,$1),-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq)\
      $(if $(filter %_avx512vnni.c,$1),-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni)\
      $(if $(filter %_avx512bf16.c,$1),-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16)\
      $(if $(filter %_amx.c,$1),-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprfchw -mamx-tile -mamx-bf16 -mtune=sapphirerapids)\
      $(if $(filter %/amx_timed_avx512vnni.c,$1),-g1 -mprfchw -mtune=sapphirerapids $(addprefix -ffixed-xmm,26 27 28 29 30 31))\
      $(if $(filter %_dotprod.c,$1),-march=armv8.2-a+dotprod)\
      $(if $(filter %_i8mm.c,$1),-march=armv8.2-a+dotprod+i8mm)$(kernsan)
# Unrolled kernels with every check in line take gcc minutes; by calls they are as strict.
kernsan = $(if $(filter address,$(SAN)),$(if $(findstring clang,$(CC)),,$(if $(findstring /kernel/$(KERNDIR)/,$<)$(findstring amx_emulated,$<),\
      --param asan-instrumentation-with-call-threshold=64)))

all: $(BUILD)/berth
$(BUILD)/berth: $(OBJ) $(MAINOBJ)
	$(Q)echo "  LINK $@"; $(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/%.o: %.c Makefile
	$(Q)mkdir -p $(@D); $(if $(filter 1,$(V)),,echo "  CC   $<";) \
	$(CC) $(BASE) $(CFLAGS) $(WARN) $(call isa,$<) -DBERTH_VERSION='"$(VERSION)"' -DBERTH_DATE='"$(DATE)"' -MMD -MP -c -o $@ $<
# A kernel that this machine cannot run, no test can run here either: sanitized builds, which are for tests, have a trap in its place.
ifneq ($(and $(SAN),$(filter x86_64,$(ARCH))),)
CPUINFO := $(shell sed -n '/^flags/{p;q}' /proc/cpuinfo 2>/dev/null)
LACKS   := $(if $(CPUINFO),$(foreach f,avx2/avx2 avxvnni/avx_vnni avx512/avx512bw avx512vnni/avx512_vnni avx512bf16/avx512_bf16 amx/amx_int8,\
             $(if $(filter $(notdir $f),$(CPUINFO)),,$(patsubst %/,%,$(dir $f)))))
UNRUN   := $(foreach f,$(LACKS),$(filter %_$f.c,$(SRC) $(wildcard tests/support/amx_emulated_*.c)))
$(UNRUN:%.c=$(BUILD)/%.o): Makefile
	$(Q)mkdir -p $(@D); echo 'void $(patsubst amx_emulated_%,amx_emulated,$(basename $(@F)))_fill(void) { __builtin_trap(); }' | \
	  $(CC) -x c -c -o $@ -
endif
-include $(DEP)

include tests/tests.mk

install: $(BUILD)/berth
	install -D -m 755 $(BUILD)/berth $(DESTDIR)$(PREFIX)/bin/berth
	# docker looks for its plugins in /usr/local/lib and /usr/lib; the name makes the program one.
	install -d $(DESTDIR)$(PREFIX)/lib/docker/cli-plugins
	ln -sf ../../../bin/berth $(DESTDIR)$(PREFIX)/lib/docker/cli-plugins/docker-model
	ln -sf berth $(DESTDIR)$(PREFIX)/bin/docker-model
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	umask 022 && $(BUILD)/berth help --man-dir $(DESTDIR)$(PREFIX)/share/man/man1
	umask 022 && $(BUILD)/berth completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/berth
	umask 022 && $(BUILD)/berth completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_berth
	umask 022 && $(BUILD)/berth completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/berth.fish
	install -D -m 644 models/stories.gguf $(DESTDIR)$(PREFIX)/share/berth/models/stories.gguf
	install -D -m 644 models/stories-chat.gguf $(DESTDIR)$(PREFIX)/share/berth/models/stories-chat.gguf
	install -D -m 644 dist/berth.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/berth.socket
	install -D -m 644 dist/berth.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/berth.conf
	install -D -m 644 dist/berth.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/berth.conf
	sed 's|/usr/local/|$(PREFIX)/|' dist/berth.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/berth.service
	sed 's|/usr/local/|$(PREFIX)/|' dist/config.example > $(DESTDIR)$(PREFIX)/share/berth/config.example
clean:
	rm -rf build build-*
# The reference of all commands, from the command table.
docs/CLI.md: $(BUILD)/berth
	$(BUILD)/berth help --markdown > $@
info:
	@echo "version $(VERSION)  cc $(CC)  arch $(ARCH)  kernels $(KERNDIR)  build $(BUILD)  san '$(SAN)'"
# The value of one variable, for scripts: make print-LIBS
print-%:
	@echo '$($*)'
.PHONY: all docs/CLI.md install clean info check fuzz bench
