/* umask(2) can only be read by setting it, and another thread would then make files with the wrong one. /proc says it since
 * Linux 4.7. It is asked for when a file is made below a mapping, which costs a request anyway. Where /proc does not say it, what is made
 * is the owner's alone: too little can be seen and mended, too much may have been read by then. */
#include "shim/umask.h"

#include "shim/decls.h"
#include "lib/base/sys.h"

enum { STRICT = 077 };

mode_t prelux_umask(void)
{
  static const char mark[] = "\nUmask:\t";
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
  return mask & 0777;
}
