/* See include/prelux/names.h. A map is exchanged when a slot speaks of another generation, and stays mapped: another thread may be
 * copying from it. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/base/sys.h"
#include "lib/index/names.h"

#define RETRY_NS 20000000ull

static const struct prelux_names *map_file(const char *runtime)
{
  char path[1024];
  struct stat st;
  size_t n = strlen(runtime);
  const struct prelux_names *map = NULL;
  if (n + sizeof "/names" > sizeof path)
    return NULL;
  memcpy(path, runtime, n);
  memcpy(path + n, "/names", sizeof "/names");
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0)
    return NULL;
  if (prelux_sys(SYS_fstat, fd, &st) == 0 && st.st_size >= (off_t)PRELUX_NAMES_HEAD)
  {
    long at = prelux_sys(SYS_mmap, NULL, PRELUX_NAMES_HEAD + PRELUX_NAMES_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (at > 0 || at < -4095)
      map = (const struct prelux_names *)at;
    if (map && map->magic != PRELUX_NAMES_MAGIC)
    {
      prelux_sys(SYS_munmap, map, PRELUX_NAMES_HEAD + PRELUX_NAMES_BYTES);
      map = NULL;
    }
  }
  prelux_sys(SYS_close, fd);
  return map;
}

/* The map of that generation, or NULL. */
static const struct prelux_names *current(struct prelux_names_reader *r, const char *runtime, uint64_t generation)
{
  uintptr_t was = atomic_load_explicit(&r->map, memory_order_acquire);
  const struct prelux_names *map = (const struct prelux_names *)was;
  if (map && map->generation == generation)
    return map;
  struct timespec t;
  prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &t);
  uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
  if (now < atomic_load_explicit(&r->retry_ns, memory_order_relaxed))
    return NULL;
  map = map_file(runtime);
  if (!map || map->generation != generation || !atomic_compare_exchange_strong(&r->map, &was, (uintptr_t)map))
  {
    atomic_store_explicit(&r->retry_ns, now + RETRY_NS, memory_order_relaxed);
    if (map)
      prelux_sys(SYS_munmap, map, PRELUX_NAMES_HEAD + PRELUX_NAMES_BYTES);
    return NULL;
  }
  return map;
}

int prelux_names_copy(struct prelux_names_reader *r, const char *runtime, const struct prelux_names_at *at, void *to)
{
  uint64_t place = at->position % PRELUX_NAMES_BYTES;
  const struct prelux_names *map = current(r, runtime, at->generation);
  if (!map || at->bytes > PRELUX_NAMES_MAX || place + at->bytes > atomic_load_explicit(&map->allocated, memory_order_acquire) ||
      place + at->bytes > PRELUX_NAMES_BYTES)
    return 0;
  memcpy(to, (const char *)map + PRELUX_NAMES_HEAD + place, at->bytes);
  atomic_thread_fence(memory_order_acquire);
  return atomic_load_explicit(&map->tail, memory_order_relaxed) <= at->position;
}
