# SPDX-License-Identifier: Apache-2.0
# pxarfs: settings, modules, programs, tests, install.  "make help" lists the targets.

# --- settings ---

PREFIX  ?= /usr/local
SBINDIR ?= /sbin
PYTHON  ?= /usr/bin/python3
comma   := ,
BUILD   ?= build$(if $(SAN),/$(subst $(comma),-,$(SAN)))
VERSION := $(shell sed -n 's/^\#\# \([0-9][^ ]*\).*/\1/p' CHANGELOG.md 2>/dev/null | head -n 1)

PKGS := fuse3 libzstd libcrypto libssl libcurl libnghttp2 jansson zlib libqrencode
pkg-missing := $(foreach p,$(PKGS) cmocka,$(shell pkg-config --exists $(p) || echo $(p)))
deb_fuse3 := libfuse3-dev
deb_libzstd := libzstd-dev
deb_libcrypto := libssl-dev
deb_libssl := libssl-dev
deb_libcurl := libcurl4-openssl-dev
deb_libnghttp2 := libnghttp2-dev
deb_jansson := libjansson-dev
deb_zlib := zlib1g-dev
deb_libqrencode := libqrencode-dev
deb_cmocka := libcmocka-dev
ifneq ($(strip $(pkg-missing)),)
ifeq ($(filter clean help,$(MAKECMDGOALS)),)
$(error missing: $(foreach p,$(pkg-missing),$(p) (Debian package $(deb_$(p)))); run scripts/setup)
endif
endif

CPPFLAGS_ALL := -iquote . -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	-DPXARFS_VERSION='"$(or $(VERSION),unreleased)"' \
	$(if $(SAN),,-D_FORTIFY_SOURCE=2) $(shell pkg-config --cflags $(PKGS))
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla \
	-Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror)
HARDENING := -fstack-protector-strong -fPIE $(if $(SAN),,-fstack-clash-protection)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer \
	$(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined))
ALL_CFLAGS = -std=gnu17 -O2 -g $(WARNINGS) $(HARDENING) $(SANFLAGS) -pthread $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(SANFLAGS) -pthread $(LDFLAGS)
# libcurl is loaded when it is needed (client/net/curl_lib.h).
LIBS := $(shell pkg-config --libs $(filter-out libcurl,$(PKGS)))

# --- modules ---

LIBPXAR   := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard archive/*.c archive/base/*.c)))
LIBCLIENT := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard client/*/*.c)))
FUSE      := $(patsubst %.c,$(BUILD)/%.o,$(sort $(filter-out fuse/main.c,$(wildcard fuse/*.c))))
MAIN      := $(patsubst %.c,$(BUILD)/%.o,$(wildcard fuse/main.c))

# What mount(8) runs for "-t pxarfs" and "-t fuse.pxarfs".
HELPERS := mount.pxarfs mount.fuse.pxarfs

all: $(BUILD)/libpxar.a $(BUILD)/libclient.a \
	$(if $(MAIN),$(BUILD)/pxarfs $(addprefix $(BUILD)/,$(HELPERS)))

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CPPFLAGS_ALL) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/libpxar.a: $(LIBPXAR)
$(BUILD)/libclient.a: $(LIBCLIENT)
$(BUILD)/libfuse.a: $(FUSE)
$(BUILD)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

# --- programs ---

$(BUILD)/pxarfs: $(MAIN) $(BUILD)/libfuse.a $(BUILD)/libclient.a $(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(addprefix $(BUILD)/,$(HELPERS)): $(BUILD)/pxarfs
	ln -sf pxarfs $@

# --- tests ---

# A unit test links the layer it tests and those to the left of it: archive tests get
# libpxar.a alone.  tests/support/lib/*.c is shared by the tests of client and fuse;
# tests/support/*.c are programs of their own.
UNIT_ARCHIVE := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/archive/test_*.c)))
UNIT_CLIENT  := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/client/test_*.c)))
UNIT_FUSE    := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/fuse/test_*.c)))
UNIT         := $(UNIT_ARCHIVE) $(UNIT_CLIENT) $(UNIT_FUSE)
SUPPORT      := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tests/support/lib/*.c)))
TOOLS        := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/support/*.c)))
NULLFS       := $(BUILD)/tests/support/nullfs
FUZZ         := $(sort $(wildcard tests/fuzz/fuzz_*.c))
REPLAY       := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/tests/fuzz/replay_%,$(FUZZ))

TEST_LIBS := $(shell pkg-config --libs cmocka)

$(UNIT_ARCHIVE): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(TEST_LIBS)
$(UNIT_CLIENT): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT) $(BUILD)/libclient.a $(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(TEST_LIBS)
$(UNIT_FUSE): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT) $(BUILD)/libfuse.a $(BUILD)/libclient.a \
		$(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(TEST_LIBS)
$(filter-out $(NULLFS),$(TOOLS)): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libclient.a \
		$(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
# the null server is the mount's loop without an archive behind it
$(NULLFS): %: %.o $(BUILD)/libfuse.a $(BUILD)/libclient.a $(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(REPLAY): $(BUILD)/tests/fuzz/replay_%: $(BUILD)/tests/fuzz/fuzz_%.o \
		$(BUILD)/tests/fuzz/replay.o $(BUILD)/libclient.a $(BUILD)/libpxar.a
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

export ASAN_OPTIONS ?= detect_leaks=1:abort_on_error=1
export UBSAN_OPTIONS ?= print_stacktrace=1
# A mount's end leaves threads behind that hang in a dead repository: no fault (fuse/README.md).
export TSAN_OPTIONS ?= halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0

# Units, corpora, layers and citations; needs no privileges.
check: all $(UNIT) $(REPLAY) $(TOOLS)
	scripts/check-layers
	scripts/check-docs
	@set -e; for t in $(UNIT); do echo "== $$t"; $$t; done
	@set -e; for r in $(REPLAY); do $$r tests/fuzz/corpus/$${r##*/replay_}; done

# The whole program, with real mounts: as root.  PYTEST_ARGS is passed on.
check-e2e: all $(TOOLS)
	PXARFS_BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q -p no:cacheprovider \
		tests/e2e $(PYTEST_ARGS)

# Fuzz every decoder for FUZZ_SECONDS with clang's libFuzzer, from its corpus.
FUZZ_SECONDS ?= 60
FUZZ_BUILD := build/fuzz
FUZZ_OBJ := $(patsubst %.c,$(FUZZ_BUILD)/%.o,$(sort $(wildcard archive/*.c archive/base/*.c \
	client/base/*.c client/net/*.c client/repo/*.c)))
FUZZ_PROGRAMS := $(patsubst tests/fuzz/%.c,$(FUZZ_BUILD)/%,$(FUZZ))
FUZZ_FLAGS := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
$(FUZZ_BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	clang -std=gnu17 $(CPPFLAGS_ALL) -U_FORTIFY_SOURCE $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
$(FUZZ_PROGRAMS): $(FUZZ_BUILD)/%: $(FUZZ_BUILD)/tests/fuzz/%.o $(FUZZ_OBJ)
	clang $(subst -no-link,,$(FUZZ_FLAGS)) -o $@ $^ $(LIBS)
FUZZ_RUNS := $(patsubst tests/fuzz/fuzz_%.c,fuzz-%,$(FUZZ))
fuzz: $(FUZZ_RUNS)
$(FUZZ_RUNS): fuzz-%: $(FUZZ_BUILD)/fuzz_%
	@echo "== fuzz $*, $(FUZZ_SECONDS) s"
	@mkdir -p $(FUZZ_BUILD)/found/$*
	@$< -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 \
		-artifact_prefix=$(FUZZ_BUILD)/ -print_final_stats=0 -verbosity=0 \
		$(FUZZ_BUILD)/found/$* tests/fuzz/corpus/$*

bench: all $(TOOLS)
	scripts/bench

lint:
	clang-tidy --quiet $(wildcard archive/*.c archive/base/*.c client/*/*.c fuse/*.c) -- \
		-std=gnu17 $(CPPFLAGS_ALL)

format:
	clang-format -i $(shell git ls-files '*.c' '*.h')

# --- install ---

MAN1 := $(wildcard client/cmd/*.1)
MAN5 := $(wildcard archive/*.5)
MAN8 := $(wildcard fuse/*.8)

install: all
	install -D -m 0755 $(BUILD)/pxarfs $(DESTDIR)$(PREFIX)/bin/pxarfs
	install -d $(DESTDIR)$(SBINDIR)
	for h in $(HELPERS); do ln -sf $(PREFIX)/bin/pxarfs $(DESTDIR)$(SBINDIR)/$$h; done
	for f in $(MAN1); do install -D -m 0644 $$f $(DESTDIR)$(PREFIX)/share/man/man1/$${f##*/}; done
	for f in $(MAN5); do install -D -m 0644 $$f $(DESTDIR)$(PREFIX)/share/man/man5/$${f##*/}; done
	for f in $(MAN8); do install -D -m 0644 $$f $(DESTDIR)$(PREFIX)/share/man/man8/$${f##*/}; done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/pxarfs $(addprefix $(DESTDIR)$(SBINDIR)/,$(HELPERS))
	rm -f $(patsubst %,$(DESTDIR)$(PREFIX)/share/man/man1/%,$(notdir $(MAN1)))
	rm -f $(patsubst %,$(DESTDIR)$(PREFIX)/share/man/man5/%,$(notdir $(MAN5)))
	rm -f $(patsubst %,$(DESTDIR)$(PREFIX)/share/man/man8/%,$(notdir $(MAN8)))

clean:
	rm -rf build

help:
	@echo 'all         build/pxarfs, and build/mount.pxarfs as a link to it'
	@echo 'check       unit tests, fuzz corpora, layers, citations'
	@echo 'check-e2e   the whole program with real mounts (root)'
	@echo 'fuzz        every fuzz target for FUZZ_SECONDS (60)'
	@echo 'bench       ratios to plain tools, measured now'
	@echo 'lint format clang-tidy, clang-format'
	@echo 'install uninstall   PREFIX, SBINDIR and DESTDIR are honoured'
	@echo 'clean       remove build/'
	@echo 'Settings: SAN=address,undefined or SAN=thread, WERROR=1, CC, CFLAGS'

.PHONY: all check check-e2e fuzz $(FUZZ_RUNS) bench lint format install uninstall clean help
.SECONDARY:
.DELETE_ON_ERROR:

-include $(shell test -d $(BUILD) && find $(BUILD) -name '*.d')
-include $(shell test -d $(FUZZ_BUILD) && find $(FUZZ_BUILD) -name '*.d')
