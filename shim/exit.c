/* The end of a process that still has files open for writing: their last bytes may be in stdio's buffers, which libc writes out
 * after every destructor, and whoever waits for the process expects the files to be as close() would have left them.
 *
 * Other libraries' destructors may run after ours. But an exit handler that is registered while they run comes when all have run, right
 * before libc writes out the streams: so ours is registered by our destructor. It writes the streams out as libc would do it next
 * (without their locks: other threads may be gone with them; nothing is allocated: exit may have been called in a signal handler), then the
 * files are ended and the daemon is told. */
#include "shim/decls.h"
#include "shim/write.h"

#ifdef __GLIBC__
extern int __cxa_atexit(void (*fn)(void *), void *arg, void *dso);
extern FILE *prelux_streams __asm__("_IO_list_all"); /* libc's list of all */

static void at_last(void *none)
{
  (void)none;
  for (FILE *f = prelux_streams; f; f = f->_chain)
    if (f->_mode > 0 || f->_IO_write_ptr > f->_IO_write_base) fflush_unlocked(f);
  prelux_writers_end();
}

static void be_last(void)
{
  if (prelux_idle() || prelux_in_shared_child() || !prelux_has_writers()) return;
  __cxa_atexit(at_last, NULL, NULL);
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
