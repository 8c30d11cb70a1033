#include "shim/pages.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "lib/base/sys.h"

enum { KEPT = 8, SMALL = 64 << 10, HEAD = 16 };
static uintptr_t kept[KEPT]; /* maps of SMALL bytes that nobody has, or 0 */

struct room {
  size_t bytes;
  _Alignas(HEAD) char data[];
};
_Static_assert(sizeof(struct room) == HEAD, "what is given keeps the map's alignment");

void *prelux_pages_take(size_t bytes)
{
  bool small = bytes <= SMALL - HEAD;
  for (int i = 0; small && i < KEPT; i++) {
    uintptr_t was = __atomic_load_n(&kept[i], __ATOMIC_RELAXED) ? __atomic_exchange_n(&kept[i], 0, __ATOMIC_ACQUIRE) : 0;
    if (was) return ((struct room *)was)->data;
  }
  if (bytes > SIZE_MAX / 2) return NULL;
  size_t all = small ? SMALL : bytes + HEAD;
  long map = prelux_sys(SYS_mmap, NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (small ? 0 : MAP_POPULATE), -1, 0L);
  if (map < 0 && map > -4096) return NULL;
  struct room *r = (struct room *)map;
  r->bytes = all;
  return r->data;
}

void prelux_pages_free(void *room)
{
  if (!room) return;
  struct room *r = (struct room *)((char *)room - HEAD);
  for (int i = 0; r->bytes == SMALL && i < KEPT; i++) {
    uintptr_t none = 0;
    if (__atomic_load_n(&kept[i], __ATOMIC_RELAXED)) continue;
    if (__atomic_compare_exchange_n(&kept[i], &none, (uintptr_t)r, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
  }
  prelux_sys(SYS_munmap, r, r->bytes);
}
