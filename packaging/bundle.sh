#!/bin/sh
# bundle.sh PREFIX: what `make install` installs, for any distribution of this machine's kind: daemon and command come with the libraries that
# they were built with, libc and its loader too (lib/prelux/rt; packaging/launch.c starts them). The library for programs needs none of that.
set -eu
prefix=$1
rt=$prefix/lib/prelux/rt
umask 022
rm -rf "$prefix"
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
rt=$prefix/lib/prelux/rt
$MAKE --no-print-directory -s BUILD="$BUILD" DESTDIR= PREFIX="$prefix" install >/dev/null
rm -f "$prefix/lib/libprelux.so" "$prefix/lib/prelux/.made"
[ -d "$prefix/lib/prelux/lib" ] || install -D -m 644 "$BUILD/libprelux.so" "$prefix/lib/prelux/libprelux.so"
mkdir -p "$rt"
mv "$prefix/bin/prelux" "$prefix/bin/preluxd" "$rt/"
$CC -static -Os -s -o "$prefix/bin/prelux" packaging/launch.c
ln "$prefix/bin/prelux" "$prefix/bin/preluxd"
# In place, so that hard links stay.
strip --strip-unneeded "$rt/prelux" "$rt/preluxd"
strip --strip-unneeded -o "$rt/stripped" "$prefix/lib/prelux/libprelux.so" && cat "$rt/stripped" > "$prefix/lib/prelux/libprelux.so" && rm "$rt/stripped"

# Libraries, by what the loader would load; libgcc_s is loaded by libc when a thread ends by itself.
{ ldd "$BUILD/prelux" "$BUILD/preluxd" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p'; $CC -print-file-name=libgcc_s.so.1; } | sort -u > "$rt/list"
loader=$(ldd "$BUILD/preluxd" | sed -n 's/^[ \t]*\(\/[^ ]*ld-[^ ]*\) (.*/\1/p')
notices=$prefix/share/doc/prelux/bundled
mkdir -p "$notices"
while read -r library; do
  install -m 644 "$(readlink -f "$library")" "$rt/$(basename "$library")"
  file=$(readlink -f "$library")
  package=$(dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}" 2>/dev/null || :)
  package=${package%%:*}
  [ -z "$package" ] || [ ! -f "/usr/share/doc/$package/copyright" ] || install -m 644 "/usr/share/doc/$package/copyright" "$notices/$package.copyright"
done < "$rt/list"
rm "$rt/list"
install -m 755 "$(readlink -f "$loader")" "$rt/ld.so"
# Units name the folder where they are installed: what is moved has them as examples.
mkdir -p "$prefix/share/doc/prelux/examples/systemd"
for unit in packaging/systemd/*; do
  sed 's|@bindir@|/opt/prelux/bin|' "$unit" > "$prefix/share/doc/prelux/examples/systemd/$(basename "$unit" .in)"
done
rm -rf "$prefix/lib/systemd" "$prefix/lib/tmpfiles.d"
