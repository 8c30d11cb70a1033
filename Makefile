# prelux: build, install, test. `make help` lists the targets.
#
# DEVELOPER=1                        warnings are errors; `make lint` is part of `make check`
# SANITIZE=address,undefined|thread  builds into build-asan/ or build-tsan/ (the library in programs is not sanitized:
#                                    SANITIZE_SHIM=1 does that too)
# COVERAGE=1                         builds into build-cov/ with gcov counters
PREFIX ?= /usr/local
CC ?= cc
PYTHON ?= $(shell [ -x /usr/bin/python3 ] && echo /usr/bin/python3 || echo python3)
Q = @

ifneq ($(SANITIZE),)
BUILD ?= $(if $(filter thread,$(SANITIZE)),build-tsan,build-asan)
else ifeq ($(COVERAGE),1)
BUILD ?= build-cov
endif
BUILD ?= build

.DEFAULT_GOAL := all
PKGS := libcurl yaml-0.1 libcjson sqlite3 libcrypto libevent_core libevent_pthreads expat
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS = $(shell pkg-config --libs $(PKGS))

# Sanitized: built in two thirds of the time, and lines are all that a report names.
CFLAGS ?= $(if $(SANITIZE),-O1 -g1,-O2 -g)
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter
BASE := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. $(WARN)
ifeq ($(DEVELOPER),1)
BASE += -Werror
endif
SAN :=
ifneq ($(SANITIZE),)
SAN := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
SAN += -Wno-format-truncation -Wno-format-overflow # which guess more with -O1 and checks around every step
endif
ifeq ($(COVERAGE),1)
SAN += --coverage
endif

# Code of lib/ that also runs inside other people's processes.
SHIM_LIB := lib/base/path.c lib/base/errlog.c lib/base/trust.c lib/map/match.c lib/map/prefixes.c lib/index/reader.c lib/index/names_read.c lib/ipc/msg.c lib/ipc/client.c \
            lib/ipc/spawn.c lib/ipc/runtime.c
SHIM_SRC := $(wildcard shim/*.c) $(SHIM_LIB)
LIB_SRC := $(wildcard lib/base/*.c lib/conf/*.c lib/map/*.c lib/index/*.c lib/ipc/*.c)
NET_SRC := $(wildcard lib/net/*.c lib/store/*.c lib/backend/*.c)
DAEMON_SRC := $(wildcard daemon/*.c)
CLI_SRC := $(wildcard cli/*.c deep/*.c)
DAEMON_LIB := $(filter-out daemon/main.c,$(DAEMON_SRC))

SHIM_OBJ := $(SHIM_SRC:%.c=$(BUILD)/pic/%.o)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
NET_OBJ := $(NET_SRC:%.c=$(BUILD)/obj/%.o)
DAEMON_OBJ := $(DAEMON_SRC:%.c=$(BUILD)/obj/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/obj/%.o)

# The library: libc only, no symbol newer than GLIBC_2.28, never sanitized unless asked for (SANITIZE_SHIM=1):
# a sanitizer runtime inside other people's processes is not what is shipped.
SHIM_CFLAGS := -fPIC -fvisibility=hidden -fno-optimize-sibling-calls -U_FORTIFY_SOURCE -ftls-model=initial-exec \
               -fno-builtin -fno-stack-protector -fno-delete-null-pointer-checks -U_FILE_OFFSET_BITS -DPRELUX_SHIM
# A sanitizer in the library must be set up before it.
SHIM_LDFLAGS := -shared $(if $(SANITIZE_SHIM),,-Wl,-z,initfirst) -Wl,-z,now -Wl,-z,nodelete -Wl,--no-undefined -Wl,-Bsymbolic \
                -Wl,-T,shim/layout.ld -Wl,-z,norelro -Wl,--hash-style=gnu \
                -Wl,--version-script=$(BUILD)/libprelux.map -Wl,-soname,libprelux.so

# LD_PRELOAD reaches 32-bit programs, too, whose ld.so says "wrong ELF class". $LIB in it stands for another folder in each kind of
# program (Debian's lib/x86_64-linux-gnu and lib/i386-linux-gnu, or lib32 of its 64-bit packages; lib64, and lib, elsewhere), so such
# programs find an empty library, and hand the variable on. Hard links: ld.so tells by the inode what it has loaded already.
CLASSES := $(if $(filter x86_64-%,$(shell $(CC) -dumpmachine)),$(shell $(CC) -m32 -nostdlib -shared -o /dev/null -xc /dev/null 2>/dev/null && echo yes))
CLASS_64 := lib/x86_64-linux-gnu lib64 $(if $(wildcard /lib64/libc.so.6),,lib)
CLASS_32 := lib/i386-linux-gnu lib32 $(if $(wildcard /lib64/libc.so.6),lib)
PRELOAD := $(if $(CLASSES),$(BUILD)/preload/.made)

PRODUCTS := $(BUILD)/libprelux.so $(BUILD)/preluxd $(BUILD)/prelux $(PRELOAD)

all: $(PRODUCTS)  ## build libprelux.so, preluxd and prelux into build/

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(SHIM_CFLAGS) $(if $(SANITIZE_SHIM),$(SAN)) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(BASE) $(CFLAGS) $(SAN) $(PKG_CFLAGS) -pthread -MMD -MP -c $< -o $@

$(BUILD)/libprelux.map: $(wildcard shim/calls*.h) shim/exports.sh
	@mkdir -p $(@D)
	$(Q)CC="$(CC)" sh shim/exports.sh > $@.tmp && mv $@.tmp $@

$(BUILD)/libprelux.so: $(SHIM_OBJ) $(BUILD)/libprelux.map shim/layout.ld
	$(Q)$(CC) $(CFLAGS) $(if $(SANITIZE_SHIM),$(SAN)) $(SHIM_LDFLAGS) -o $@.tmp $(SHIM_OBJ) -Wl,--no-as-needed -ldl && mv $@.tmp $@

# For programs that are linked with musl, on a machine whose compiler is for glibc: $(BUILD)/musl/libprelux.so. musl-gcc sees none of the system's
# headers, of which the kernel's and xxhash.h are needed; where musl is the machine's libc, `make` makes it as it makes any.
MUSL_CC ?= musl-gcc
musl: $(BUILD)/musl/include/.made  ## the library for programs linked with musl: build/musl/libprelux.so
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/musl CC="$(MUSL_CC) -isystem $(abspath $(BUILD))/musl/include" $(BUILD)/musl/libprelux.so

$(BUILD)/musl/include/.made:
	@mkdir -p $(@D)
	$(Q)ln -sfn /usr/include/linux /usr/include/asm-generic /usr/include/xxhash.h $(@D)
	$(Q)ln -sfn $(firstword $(wildcard /usr/include/$(shell $(CC) -print-multiarch)/asm /usr/include/asm)) $(@D)/asm
	$(Q)touch $@

$(BUILD)/preload/.made: $(BUILD)/libprelux.so
	$(Q)rm -rf $(@D) && mkdir -p $(addprefix $(@D)/,$(CLASS_64) $(CLASS_32))
	$(Q)$(CC) -m32 -nostdlib -shared -Wl,-soname,libprelux.so -Wl,-z,noexecstack -o $(@D)/empty.so -xc /dev/null
	$(Q)for at in . $(CLASS_64); do ln $< $(@D)/$$at/libprelux.so || exit 1; done
	$(Q)for at in $(CLASS_32); do ln $(@D)/empty.so $(@D)/$$at/libprelux.so || exit 1; done
	$(Q)rm $(@D)/empty.so && touch $@

$(BUILD)/preluxd: $(DAEMON_OBJ) $(NET_OBJ) $(LIB_OBJ)
	$(Q)$(CC) $(CFLAGS) $(SAN) -pthread -o $@.tmp $^ $(PKG_LIBS) && mv $@.tmp $@

$(BUILD)/prelux: $(CLI_OBJ) $(LIB_OBJ)
	$(Q)$(CC) $(CFLAGS) $(SAN) -pthread -o $@.tmp $^ $(shell pkg-config --libs yaml-0.1 libcjson) && mv $@.tmp $@

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d' -type f)
include tests/tests.mk
include packaging/packaging.mk

deps:  ## install what building and testing need (Debian, Ubuntu; elsewhere: name it)
	@sh .ci/deps.sh

install: all install-more  ## into $(DESTDIR)$(PREFIX): bin/prelux, bin/preluxd, lib/libprelux.so, lib/prelux, units, share/{man,doc/prelux}, completions
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/share/doc/prelux
	install -m 755 $(BUILD)/prelux $(BUILD)/preluxd $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BUILD)/libprelux.so $(DESTDIR)$(PREFIX)/lib
	$(if $(PRELOAD),cd $(DESTDIR)$(PREFIX)/lib && rm -rf prelux && cp -r --preserve=links $(abspath $(BUILD))/preload prelux && \
	  chmod -R a+rX prelux && ln -f prelux/libprelux.so libprelux.so)
	install -m 644 $(wildcard README.md LICENSE docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/prelux

uninstall: uninstall-more  ## remove what `install` put there
	rm -f $(DESTDIR)$(PREFIX)/bin/prelux $(DESTDIR)$(PREFIX)/bin/preluxd $(DESTDIR)$(PREFIX)/lib/libprelux.so
	rm -rf $(DESTDIR)$(PREFIX)/lib/prelux $(DESTDIR)$(PREFIX)/share/doc/prelux

clean:  ## remove the build folders
	rm -rf build build-asan build-tsan build-cov

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile tests/tests.mk packaging/packaging.mk | expand -t 14
	@sed -n 's/^# \([A-Z_]*=[^ ]*  .*\)/\1/p' Makefile

.PHONY: all deps musl demo check bench coverage install uninstall clean help
