#include "lib/base/errlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/base/sys.h"
#include "lib/base/trust.h"

#define FILE_MAX (8 << 20)
#define RECORD_MAX 4096
#define SEEN 256
#define WAYS 8 /* places for one hash: others in the same second do not push each other out */
#define QUIET_SECONDS 10

static const struct
{
  int err;
  char name[16]; /* no pointer: in the library each would be relocated in each process */
} names[] = {
#define E(x) {x, #x}
    E(EPERM),  E(ENOENT),  E(EINTR),   E(EIO),    E(ENXIO),     E(E2BIG),        E(ENOEXEC),      E(EBADF),
    E(EAGAIN), E(ENOMEM),  E(EACCES),  E(EFAULT), E(EBUSY),     E(EEXIST),       E(EXDEV),        E(ENODEV),
    E(ENOTDIR), E(EISDIR), E(EINVAL),  E(ENFILE), E(EMFILE),    E(EFBIG),        E(ENOSPC),       E(EROFS),
    E(EMLINK), E(ERANGE),  E(ENAMETOOLONG), E(ENOSYS), E(ELOOP), E(ENODATA),     E(EPROTO),       E(EOVERFLOW),
    E(EOPNOTSUPP), E(ETIMEDOUT), E(ECONNREFUSED), E(ENOTCONN), E(ESTALE), E(EREMOTE), E(ECANCELED), E(ECONNRESET),
#undef E
};

const char *prelux_errno_name(int err)
{
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i].err == err)
      return names[i].name;
  return "E?";
}

struct out
{
  char *buf;
  size_t cap, len;
};

static void raw(struct out *o, const char *s)
{
  while (*s && o->len + 8 < o->cap)
    o->buf[o->len++] = *s++;
}

static void number(struct out *o, long long v)
{
  char digits[24], *p = digits + sizeof digits - 1;
  *p = 0;
  unsigned long long u = v < 0 ? 0ull - (unsigned long long)v : (unsigned long long)v;
  do
    *--p = (char)('0' + u % 10);
  while (u /= 10);
  if (v < 0)
    *--p = '-';
  raw(o, p);
}

/* `room`: leave this much for what follows, so that a cut record is still JSON. */
static void text(struct out *o, const char *key, const char *s, size_t room)
{
  static const char hex[] = "0123456789abcdef";
  if (!s)
    return;
  raw(o, ",\"");
  raw(o, key);
  raw(o, "\":\"");
  for (; *s && o->len + room < o->cap; s++)
  {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
    {
      o->buf[o->len++] = '\\';
      o->buf[o->len++] = (char)c;
    }
    else if (c < 0x20 || c > 0x7e)
    {
      memcpy(o->buf + o->len, "\\u00", 4);
      o->buf[o->len + 4] = hex[c >> 4];
      o->buf[o->len + 5] = hex[c & 15];
      o->len += 6;
    }
    else
      o->buf[o->len++] = (char)c;
  }
  raw(o, "\"");
}

size_t prelux_error_format(char *buf, size_t cap, const struct prelux_error_record *rec, long long unix_ms, int pid)
{
  struct out o = {buf, cap, 0};
  raw(&o, "{\"time_ms\":");
  number(&o, unix_ms);
  raw(&o, ",\"pid\":");
  number(&o, pid);
  text(&o, "errno", prelux_errno_name(rec->err), 16);
  text(&o, "call", rec->call, cap / 4 * 3);
  text(&o, "backend", rec->backend, cap / 8 * 5);
  text(&o, "cause", rec->cause, cap / 2);
  text(&o, "advice", rec->advice, cap / 4);
  text(&o, "path", rec->path, 24);
  raw(&o, "}");
  o.buf[o.len++] = '\n';
  return o.len;
}

static uint64_t mix(uint64_t h, const char *s)
{
  for (; s && *s; s++)
    h = (h ^ (unsigned char)*s) * 0x100000001b3ull;
  return h * 0x9e3779b97f4a7c15ull ^ (h >> 29);
}

/* What this process has said lately: each word holds a hash's upper 44 bits and the second, modulo 2^20, it was said in.
 * A lost race costs one repeated line. */
static _Atomic uint64_t seen[SEEN];

static int said_lately(const struct prelux_error_record *rec, uint64_t second)
{
  uint64_t h = mix(mix(mix(0xcbf29ce484222325ull + (unsigned)rec->err, rec->path), rec->cause), rec->call);
  uint64_t mark = h & ~0xfffffull;
  _Atomic uint64_t *place = NULL;
  uint64_t oldest = 0;
  for (unsigned way = 0; way < WAYS; way++)
  {
    _Atomic uint64_t *slot = &seen[(h >> 20) % (SEEN / WAYS) * WAYS + way];
    uint64_t old = atomic_load_explicit(slot, memory_order_relaxed), age = old ? (second - old) & 0xfffff : 0x100000;
    if (old && (old & ~0xfffffull) == mark)
    {
      if (age < QUIET_SECONDS)
        return 1;
      place = slot;
      break;
    }
    if (!place || age > oldest)
    {
      place = slot;
      oldest = age;
    }
  }
  atomic_store_explicit(place, mark | (second & 0xfffff), memory_order_relaxed);
  return 0;
}

/* A program's own limit (ulimit -f) would turn our line into its death by SIGXFSZ. */
static bool may_grow(off_t size, size_t len)
{
  struct
  {
    uint64_t now, max;
  } limit;
  if (prelux_sys(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) < 0)
    return true;
  return len <= limit.now && (uint64_t)size <= limit.now - len;
}

void prelux_error_record(const char *runtime, const struct prelux_error_record *rec)
{
  char path[1024], line[RECORD_MAX];
  struct timespec now = {0, 0};
  struct stat st;
  if (!runtime)
    return;
  size_t n = strlen(runtime);
  if (n + 8 > sizeof path)
    return;
  prelux_sys(SYS_clock_gettime, CLOCK_REALTIME, &now);
  if (said_lately(rec, (uint64_t)now.tv_sec))
    return;
  memcpy(path, runtime, n);
  memcpy(path + n, "/errors", 8);
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (fd < 0)
    return;
  /* A folder that somebody else has made may have anything by this name, also another name of a file of ours. */
  if (prelux_sys(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size < FILE_MAX && prelux_believed(runtime, st.st_uid) == 0)
  {
    if (st.st_size == 0)
      prelux_sys(SYS_fchmod, fd, 0600); /* the program's umask may have taken what the next one needs */
    size_t len = prelux_error_format(line, sizeof line, rec, now.tv_sec * 1000ll + now.tv_nsec / 1000000,
                                     (int)prelux_sys(SYS_getpid));
    if (may_grow(st.st_size, len))
      prelux_sys(SYS_write, fd, line, len);
  }
  prelux_sys(SYS_close, fd);
}
