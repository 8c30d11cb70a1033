#!/bin/sh
# deb.sh: $OUT/prelux_$VERSION_ARCH.deb of what `make install` installs, by DEBFULLNAME and DEBEMAIL. It is put together by dpkg-deb, without debhelper: one binary
# package, no maintainer scripts (systemd's triggers and tmpfiles need none here: units are the user's to enable).
set -eu
stage=$OUT/deb
arch=$(dpkg --print-architecture)
for tool in dpkg-deb dpkg-shlibdeps; do
  command -v $tool >/dev/null || { echo "make deb: $tool is not there (Debian: apt-get install dpkg-dev)" >&2; exit 1; }
done
umask 022
rm -rf "$stage"
mkdir -p "$stage/DEBIAN"
case $OUT in /*) ;; *) stage=$PWD/$stage ;; esac
$MAKE --no-print-directory -s BUILD="$BUILD" DESTDIR="$stage" PREFIX=/usr install >/dev/null
doc=$stage/usr/share/doc/prelux

# Only programs load the library, and by its path: it is not one to link with, and ld.so's folders stay without it. Links where
# `make install` has hard links.
rm -f "$stage/usr/lib/libprelux.so"
here=$stage/usr/lib/prelux
if [ -d "$here/lib" ]; then
  for one in $(cd "$here" && find lib lib32 lib64 -name libprelux.so 2>/dev/null | sort); do
    first=libprelux.so
    [ "$here/$one" -ef "$here/libprelux.so" ] || first=lib/i386-linux-gnu/libprelux.so
    [ "$one" = "$first" ] && continue
    up=$(dirname "$one" | sed 's|[^/]*|..|g')
    [ "$here/$one" -ef "$here/$first" ] && ln -sf "$up/$first" "$here/$one"
  done
else
  install -D -m 644 "$BUILD/libprelux.so" "$here/libprelux.so"
fi
rm -f "$here/.made"
find "$here" -type f -exec chmod 644 {} +
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$stage"/usr/bin/prelux* "$here/libprelux.so"
[ ! -d "$here/lib" ] || strip --strip-unneeded --remove-section=.comment "$here/lib/i386-linux-gnu/libprelux.so"

# Where Debian has them.
mkdir -p "$stage/usr/share/zsh/vendor-completions"
mv "$stage/usr/share/zsh/site-functions/_prelux" "$stage/usr/share/zsh/vendor-completions/"
rmdir "$stage/usr/share/zsh/site-functions"
rm -f "$doc/LICENSE"
install -m 644 packaging/debian/copyright "$doc/copyright"
install -D -m 644 packaging/debian/lintian-overrides "$stage/usr/share/lintian/overrides/prelux"
maintainer="${DEBFULLNAME:-prelux maintainers} <${DEBEMAIL:-maintainers@prelux.invalid}>"
printf 'prelux (%s) unstable; urgency=medium\n\n  * %s\n\n -- %s  %s\n' "$VERSION" "As of this version of the source; see README.md." "$maintainer" \
  "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$doc/changelog.gz"
find "$stage/usr/share/man" -type f -exec gzip -9n {} +

mkdir -p "$OUT/deb-work/debian"
printf 'Source: prelux\n\nPackage: prelux\nArchitecture: any\n' > "$OUT/deb-work/debian/control"
programs=$(cd "$stage" && pwd)/usr/bin
depends=$(cd "$OUT/deb-work" && dpkg-shlibdeps -O --ignore-missing-info -e"$programs/prelux" -e"$programs/preluxd" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
rm -rf "$OUT/deb-work"
[ -n "$depends" ] || { echo "make deb: dpkg-shlibdeps says nothing" >&2; exit 1; }
cat > "$stage/DEBIAN/control" <<END
Package: prelux
Version: $VERSION
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$stage/usr" | cut -f1)
Depends: $depends
Recommends: ca-certificates
Section: utils
Priority: optional
Description: run programs that read remote files as if they were local
 prelux gives unmodified programs fast local files for data that lives in
 Alluxio, S3, Azure Blob, on an HTTP server or in another folder. A preloaded
 library watches the libc calls that name files; paths below a configured
 prefix are served from a cache on this node, which a small daemon fills from
 the remote. No FUSE, no privileges, no change of the program.
END
(cd "$stage" && find usr -type f -print0 | sort -z | xargs -0 md5sum) > "$stage/DEBIAN/md5sums"
find "$stage" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
dpkg-deb --root-owner-group -Zxz --build "$stage" "$OUT/prelux_${VERSION}_$arch.deb" >/dev/null
rm -rf "$stage"
echo "$OUT/prelux_${VERSION}_$arch.deb"
