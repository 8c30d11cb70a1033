#!/bin/sh
# deps.sh [build|demo|test|bench|full|torture]: installs what that needs and this machine lacks (default: test). Debian and
# Ubuntu only; elsewhere it names what to install. PRELUX_NO_DEPS=1 skips it.
set -eu
[ "${PRELUX_NO_DEPS:-}" = 1 ] && exit 0

BUILD="gcc make pkg-config libc6-dev libcurl4-openssl-dev libyaml-dev libcjson-dev libexpat1-dev libsqlite3-dev
 libxxhash-dev libevent-dev libssl-dev"
DEMO="python3 python3-numpy nginx-light openssl sqlite3 procps"
TEST="libcmocka-dev binutils file git strace python3-pytest python3-yaml default-jdk-headless maven nodejs perl rsync zip unzip
 libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 eatmydata fakeroot faketime
 libacl1-dev bsdextrautils musl-tools etcd-server vim patch python3-venv python3-pip python3-h5py python3-gdbm zsh busybox
 openssh-sftp-server imagemagick-6.q16
 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user dpkg-dev lintian mandoc groff-base fish
 systemd shellcheck"
# CPython's own tests: their package is named by the version. A Rust that builds what others publish (Debian 12 keeps one for browsers).
case $(. /etc/os-release 2>/dev/null && echo "${ID:-}${VERSION_ID:-}") in
  debian12)
    TEST="$TEST libpython3.11-testsuite"
    command -v cargo >/dev/null || [ -x "${HOME:-/}/.cargo/bin/cargo" ] || TEST="$TEST cargo-web"
    ;;
  ubuntu22.04) TEST="$TEST libpython3.10-testsuite" ;;
  ubuntu24.04) TEST="$TEST libpython3.12-testsuite" ;;
esac
# Other makers' go and node are as good, and the latter brings an npm with which Debian's cannot live.
command -v go >/dev/null || [ -x /usr/local/go/bin/go ] || TEST="$TEST golang-go"
command -v npm >/dev/null || TEST="$TEST npm"
BENCH="curl s3fs rclone fuse3"
FULL="python3-torch ffmpeg"
TORTURE="clang libclang-rt-dev valgrind"
LINT="clang-tidy cppcheck"
WANT="$BUILD ca-certificates"
case ${1:-test} in
  build) ;;
  demo) WANT="$WANT $DEMO" ;;
  test) WANT="$WANT $DEMO $TEST" ;;
  bench) WANT="$WANT $DEMO $TEST $BENCH" ;;
  full) WANT="$WANT $DEMO $TEST $FULL" ;;
  torture) WANT="$WANT $DEMO $TEST $TORTURE" ;;
  *) echo "deps.sh: build, demo, test, bench, full or torture, not $1" >&2; exit 2 ;;
esac
[ "${DEVELOPER:-}" = 1 ] && WANT="$WANT $LINT"

if ! command -v apt-get >/dev/null 2>&1; then
  cat >&2 <<END
make deps knows Debian and Ubuntu only. Packages that prelux needs, by their Debian names:
 build: $(echo $BUILD)
 demo: $(echo $DEMO)
 tests: $(echo $TEST)
 bench: $(echo $BENCH)
 full: $(echo $FULL)
 torture: $(echo $TORTURE)
 DEVELOPER=1: $LINT
Fedora: gcc make pkgconf libcurl-devel libyaml-devel cjson-devel expat-devel sqlite-devel xxhash-devel libevent-devel openssl-devel
 libcmocka-devel python3-pytest python3-pyyaml python3-numpy nginx sqlite java-latest-openjdk-devel maven nodejs npm golang etcd perl strace
With these in place set PRELUX_NO_DEPS=1.
END
  # A machine that has the compiler and the libraries may go on.
  command -v cc >/dev/null && pkg-config --exists libcurl yaml-0.1 libcjson sqlite3 libcrypto libevent_core expat && exit 0
  exit 1
fi

missing=
for package in $WANT; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    echo "make deps: not root, and sudo asks for a password. Please run: apt-get install$missing" >&2
    exit 1
  fi
fi
echo "make deps: installing$missing"

# No service may be started by the way: tests start their own nginx and etcd.
policy=/usr/sbin/policy-rc.d
made_policy=
cleanup()
{
  if [ -n "$made_policy" ]; then $as_root rm -f "$policy"; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM
if [ ! -e "$policy" ]; then
  made_policy=1
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
run()
{
  $as_root env DEBIAN_FRONTEND=noninteractive "$@" >>"$log" 2>&1 </dev/null
}
apt="apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300"
if ! { run $apt update && run $apt install -y --no-install-recommends $missing; }; then
  tail -30 "$log" >&2
  echo "make deps: apt-get failed; the log is $log" >&2
  exit 1
fi
rm -f "$log"
