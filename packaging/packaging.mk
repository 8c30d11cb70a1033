# Packages: docs/PACKAGES.md. What they hold is what `make install` installs.
VERSION := $(shell sed -n 's/^.define PRELUX_VERSION "\(.*\)"/\1/p' include/prelux/version.h)
# For what is packed, in its recipes alone: tests, and the programs in them, go by a SOURCE_DATE_EPOCH, too.
EPOCH = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y include/prelux/version.h))
# Programs of another machine cannot be asked for their help: pages and completions are left out.
NATIVE := $(filter $(shell uname -m)-%,$(shell $(CC) -dumpmachine))
PAGES := $(if $(NATIVE),$(BUILD)/man/.made $(BUILD)/completions/.made)
UNITS := $(patsubst packaging/systemd/%.in,%,$(wildcard packaging/systemd/*.in))

man: $(BUILD)/man/.made  ## man pages: build/man
$(BUILD)/man/.made: $(BUILD)/prelux $(BUILD)/preluxd docs/SEMANTICS.md packaging/man.sh $(wildcard packaging/man/*)
	$(Q)SOURCE_DATE_EPOCH=$(EPOCH) sh packaging/man.sh $(BUILD) $(@D) && touch $@

completions: $(BUILD)/completions/.made  ## completions of bash, zsh and fish: build/completions
$(BUILD)/completions/.made: $(BUILD)/prelux packaging/completions.sh $(wildcard packaging/completions/*)
	$(Q)sh packaging/completions.sh $(BUILD) $(@D) && touch $@

# $(call install_pages,PREFIX), $(call install_units,DESTDIR,PREFIX): shell lines.
define install_pages
for page in $(BUILD)/man/*.[1578]; do install -D -m 644 $$page $(1)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
install -D -m 644 $(BUILD)/completions/prelux.bash $(1)/share/bash-completion/completions/prelux
install -D -m 644 $(BUILD)/completions/prelux.zsh $(1)/share/zsh/site-functions/_prelux
install -D -m 644 $(BUILD)/completions/prelux.fish $(1)/share/fish/vendor_completions.d/prelux.fish
endef

all: $(if $(SANITIZE)$(COVERAGE),,$(PAGES))
install-more: $(PAGES)
	$(if $(PAGES),$(call install_pages,$(DESTDIR)$(PREFIX)))
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/user $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in $(UNITS); do \
	  case $$unit in *@*) to=system ;; *) to=user ;; esac; \
	  sed 's|@bindir@|$(PREFIX)/bin|' packaging/systemd/$$unit.in > $(DESTDIR)$(PREFIX)/lib/systemd/$$to/$$unit && \
	  chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/$$to/$$unit || exit 1; \
	done
	install -D -m 644 packaging/systemd/prelux.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/prelux.conf
	install -D -m 644 include/prelux/hints.h $(DESTDIR)$(PREFIX)/include/prelux/hints.h
	install -D -m 644 python/prelux.py $(DESTDIR)$(PREFIX)/share/prelux/python/prelux.py
	cd examples && find . -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)/$(PREFIX))/share/doc/prelux/examples/{} \;
	cd config && find . -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)/$(PREFIX))/share/doc/prelux/examples/{} \;

uninstall-more:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/,man1/prelux.1 man5/prelux.yaml.5 man7/prelux.7 man8/preluxd.8) \
	  $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions/prelux zsh/site-functions/_prelux fish/vendor_completions.d/prelux.fish) \
	  $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/*/,$(UNITS)) $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/prelux.conf $(DESTDIR)$(PREFIX)/include/prelux/hints.h \
	  $(DESTDIR)$(PREFIX)/share/prelux/python/prelux.py

OUT ?= $(BUILD)/packages
deb: all  ## build/packages/prelux_VERSION_ARCH.deb (needs dpkg-dev)
	$(Q)SOURCE_DATE_EPOCH=$(EPOCH) BUILD=$(BUILD) OUT=$(OUT) VERSION=$(VERSION) MAKE="$(MAKE)" sh packaging/deb.sh

# For any distribution: packaging/bundle.sh.
BUNDLE := $(OUT)/prelux-$(VERSION)-$(shell uname -m)
bundle: all
	$(Q)BUILD=$(BUILD) MAKE="$(MAKE)" CC="$(CC)" sh packaging/bundle.sh $(BUNDLE)

tarball: bundle  ## build/packages/prelux-VERSION-x86_64.tar.gz, to unpack anywhere
	$(Q)tar -C $(OUT) --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$(EPOCH) -cf - $(notdir $(BUNDLE)) | gzip -n > $(BUNDLE).tar.gz
	$(Q)echo $(BUNDLE).tar.gz

wheel: bundle  ## build/packages/prelux-VERSION-py3-none-manylinux_2_27_x86_64.whl
	$(Q)SOURCE_DATE_EPOCH=$(EPOCH) $(PYTHON) packaging/wheel.py $(BUNDLE) $(VERSION) $(OUT)

.PHONY: bundle tarball wheel man completions install-more uninstall-more deb
