/* Programs linked with shared libasan. Its string functions stand in front of libc's, for this library, too; the first of them
 * that is called sets libasan up, which opens and makes files by calls that come here. So it is set up before anything else:
 * what it calls meanwhile passes through, since nothing of ours has begun and libc has no `environ` yet. */
#include "shim/decls.h"

extern void __asan_init(void) __attribute__((weak));

__attribute__((constructor(101))) static void set_up_libasan(void)
{
  if (__asan_init) __asan_init();
}
