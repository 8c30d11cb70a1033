/* The end of a process that still has files open for writing: their last bytes may be in stdio's buffers, which libc writes out
 * after every destructor, and whoever waits for the process expects the files to be as close() would have left them.
 *
 * So the library's destructor makes a stream of its own with one byte in its buffer. It is the newest, hence the first that libc writes
 * out; in its write function the others that lead to files of ours are written out as libc would do it next (without their locks: other
 * threads may be gone with them), then the files are closed and the daemon is told. */
#include "shim/decls.h"
#include "shim/fds.h"
#include "shim/write.h"

#ifdef __GLIBC__
static FILE *last;

static ssize_t at_last(void *cookie, const char *buf, size_t n)
{
  uint32_t hint;
  for (FILE *f = last->_chain; f; f = f->_chain) {
    if (f->_fileno < 0 || f->_IO_write_ptr <= f->_IO_write_base) continue;
    if (prelux_fd_is_writer(f->_fileno, &hint) || prelux_fd_get(f->_fileno, &hint) == PRELUX_CLASS_UNKNOWN) fflush_unlocked(f);
  }
  prelux_writers_end();
  return (ssize_t)n;
}

static void be_last(void)
{
  static const cookie_io_functions_t functions = {.write = at_last};
  if (prelux_idle() || prelux_in_shared_child() || !prelux_has_writers()) return;
  last = fopencookie(NULL, "w", functions);
  if (last) putc_unlocked('\n', last);
}

/* Of a process that writes nothing of ours it costs nothing: no page that its start did not touch. */
__attribute__((destructor)) static PRELUX_AT_START void prelux_destructor(void)
{
  if (prelux_writers()) be_last();
}
#endif

/* Nothing of stdio is written out here. */
PRELUX_EXPORT void _exit(int status)
{
  prelux_writers_end();
  prelux_real._exit(status);
  __builtin_unreachable();
}

PRELUX_EXPORT void _Exit(int status)
{
  _exit(status);
}
