/* The end of a process that still has files open for writing: their last bytes may be in stdio's buffers, which libc writes out
 * after every destructor, and whoever waits for the process expects the files to be as close() would have left them.
 *
 * Other libraries' destructors may run after ours. But an exit handler that is registered while they run comes when all have run, right
 * before libc writes out the streams: so ours is registered by our destructor. It writes the streams out as libc would do it next, then the
 * files are ended and the daemon is told.
 *
 * exit may be called in a signal handler, at any instant of any thread. What is taken here libc takes next in the same way: the lock of
 * its list of streams (other threads go on with theirs), which whoever was interrupted with it may take again; not those of the streams
 * (a thread that is gone may have had one). Nothing is allocated: __cxa_atexit finds room, because the handlers that were registered at
 * the start, ld.so's among them, which runs our destructor, have left theirs; its lock is held by nobody while handlers run, and libc
 * takes it before and after each of them. */
#include "shim/decls.h"
#include "shim/write.h"

#ifdef __GLIBC__
extern int __cxa_atexit(void (*fn)(void *), void *arg, void *dso);
extern FILE *prelux_streams __asm__("_IO_list_all"); /* libc's list of all */
extern void _IO_list_lock(void);
extern void _IO_list_unlock(void);

static void at_last(void *none)
{
  (void)none;
  _IO_list_lock();
  for (FILE *f = prelux_streams; f; f = f->_chain)
    if (f->_mode > 0 || f->_IO_write_ptr > f->_IO_write_base) fflush_unlocked(f);
  _IO_list_unlock();
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
#else
/* What destructors that run after this one write to streams is written after the files are told of as ended. */
__attribute__((destructor)) static void prelux_destructor(void)
{
  if (!prelux_writers() || prelux_idle() || prelux_in_shared_child() || !prelux_has_writers()) return;
  fflush(NULL);
  prelux_writers_end();
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
