/* umask(2) can only be read by setting it, and another thread would then make files with the wrong one. /proc says it since
 * Linux 4.7. It is asked for when a file is made below a mapping, and remembered until umask() is called: who makes many files would wait a fifth as
 * long again for it. Where /proc does not say it, what is made is the owner's alone: too little can be seen and mended, too much may have been
 * read by then. */
#include "shim/umask.h"

#include "shim/decls.h"
#include "shim/state.h"
#include "lib/base/sys.h"

/* known: the mask, and that it is one, below a count of the calls of umask(), so that who has asked before such a call remembers nothing. */
enum { STRICT = 077, MASK = 0777, KNOWN = 01000, CALLED = 02000 };
static uint32_t known;

static void forget(void)
{
  uint32_t was = __atomic_load_n(&known, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&known, &was, (was & ~(uint32_t)(KNOWN | MASK)) + CALLED, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

/* Afterwards: who asks the kernel in between may hear either, as without us. In a child that shares memory, too: its mask is its own, and the parent asks once more. */
PRELUX_EXPORT mode_t umask(mode_t mask)
{
  mode_t was = prelux_real.umask(mask);
  forget();
  return was;
}

static mode_t ask(bool *ret_is)
{
  static const char mark[] = "\nUmask:\t";
  *ret_is = false;
  char text[256];
  long fd = prelux_sys(SYS_openat, AT_FDCWD, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return STRICT;
  long n = prelux_sys(SYS_read, fd, text, sizeof(text) - 1);
  prelux_sys(SYS_close, fd);
  if (n <= 0) return STRICT;
  text[n] = '\0';
  const char *p = strstr(text, mark);
  if (!p) return STRICT;
  mode_t mask = 0;
  for (p += sizeof(mark) - 1; *p >= '0' && *p <= '7'; p++) mask = mask << 3 | (mode_t)(*p - '0');
  *ret_is = true;
  return mask & MASK;
}

mode_t prelux_umask(void)
{
  bool is, own = !prelux_in_shared_child() && !prelux_apart();
  uint32_t before = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
  if (own && (before & KNOWN)) return before & MASK;
  mode_t mask = ask(&is);
  if (own && is) __atomic_compare_exchange_n(&known, &before, before | KNOWN | mask, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return mask;
}
