#include "lib/index/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "include/prelux/version.h"
#include "lib/base/sys.h"
#include "lib/base/trust.h"

#define SPINS 100
#define RETRY_NS 20000000ull

void prelux_index_key(uint64_t seed, uint64_t tree_id, const char *object, size_t len, uint64_t ret[2])
{
  XXH128_hash_t h = XXH3_128bits_withSeed(object, len, seed ^ tree_id * 0x9e3779b97f4a7c15ull);
  ret[0] = h.low64 ? h.low64 : 1; /* 0 marks empty and deleted slots */
  ret[1] = h.high64;
}

void prelux_index_names_key(uint64_t seed, uint64_t tree_id, const char *object, size_t len, uint64_t ret[2])
{
  prelux_index_key(seed + 0xd6e8feb86659fd93ull, tree_id, object, len, ret);
}

void prelux_index_inode_key(uint64_t seed, uint64_t dev, uint64_t ino, uint64_t ret[2])
{
  uint64_t words[2] = {dev, ino};
  XXH128_hash_t h = XXH3_128bits_withSeed(words, sizeof words, seed + 1);
  ret[0] = h.low64 ? h.low64 : 1;
  ret[1] = h.high64;
}

static uint64_t now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A map in one word, so that threads exchange address and size together. The size that the file states later is not believed:
 * whoever writes over it must not lead a program out of its map. */
#define LOG_MASK 63u

static const struct prelux_index *address(uintptr_t map)
{
  return (const struct prelux_index *)(map & ~(uintptr_t)LOG_MASK);
}

static uint64_t mask_of(uintptr_t map)
{
  return ((uint64_t)1 << (map & LOG_MASK)) - 1;
}

static void unmap(uintptr_t map)
{
  prelux_sys(SYS_munmap, address(map), sizeof(struct prelux_index) + (mask_of(map) + 1) * sizeof(struct prelux_index_slot));
}

int prelux_boot_id(char ret[PRELUX_BOOT_ID])
{
  long n = -1;
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC, 0);
  if (fd >= 0)
    n = prelux_sys(SYS_read, fd, ret, PRELUX_BOOT_ID - 1);
  if (fd >= 0)
    prelux_sys(SYS_close, fd);
  if (n > 0 && ret[n - 1] == '\n')
    n--;
  ret[n > 0 ? n : 0] = 0;
  return n > 0;
}

/* The file is of this boot, as far as can be told: there may be no /proc here. */
static int of_this_boot(const struct prelux_index *x)
{
  char boot[PRELUX_BOOT_ID], theirs[PRELUX_BOOT_ID];
  memcpy(theirs, x->boot, sizeof theirs);
  theirs[sizeof theirs - 1] = 0;
  return !theirs[0] || !prelux_boot_id(boot) || strcmp(boot, theirs) == 0;
}

static int usable(const struct prelux_index *x, uint64_t bytes, uint32_t mask)
{
  return x->magic == PRELUX_INDEX_MAGIC && x->major == PRELUX_INDEX_MAJOR && x->bytes == bytes && mask != 0 &&
         (mask & (mask + 1u)) == 0 && ((uint64_t)mask + 1) * sizeof(struct prelux_index_slot) == bytes - sizeof *x;
}

/* Who we were at the start is known without a system call, which a filter may punish by now. */
static int is_believed(const char *runtime, uid_t maker)
{
  return maker == (uid_t)getauxval(AT_EUID) || prelux_believed(runtime, maker) == 0;
}

__attribute__((weak)) long prelux_index_fstat(int fd, struct stat *st)
{
  return prelux_sys(SYS_fstat, fd, st);
}

/* libasan's clock_gettime is NULL inside while it starts. */
__attribute__((weak)) void prelux_index_clock(struct timespec *ret)
{
  prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, ret);
}

static uintptr_t map_file(const char *runtime)
{
  char path[1024];
  struct stat st;
  size_t n = strlen(runtime);
  uintptr_t map = 0;
  if (n + sizeof "/index" > sizeof path)
    return 0;
  memcpy(path, runtime, n);
  memcpy(path + n, "/index", sizeof "/index");
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0)
    return 0;
  if (prelux_index_fstat(fd, &st) == 0 && (size_t)st.st_size > sizeof(struct prelux_index) && is_believed(runtime, st.st_uid))
  {
    long at = prelux_sys(SYS_mmap, NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (at > 0 || at < -4095)
    {
      const struct prelux_index *x = (const struct prelux_index *)at;
      uint32_t mask = *(const volatile uint32_t *)&x->mask;
      if (usable(x, (uint64_t)st.st_size, mask) && of_this_boot(x))
        map = (uintptr_t)at | (uintptr_t)__builtin_popcount(mask);
      else
        prelux_sys(SYS_munmap, at, st.st_size);
    }
  }
  prelux_sys(SYS_close, fd);
  return map;
}

/* The live map, exchanged when it was retired, or 0. A replaced map stays mapped: another thread may be reading it. */
static uintptr_t current(struct prelux_index_reader *r, const char *runtime)
{
  uintptr_t map = atomic_load_explicit(&r->map, memory_order_acquire);
  if (map && !atomic_load_explicit(&address(map)->retired, memory_order_acquire))
    return map;
  struct timespec t;
  prelux_index_clock(&t);
  uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
  if (now < atomic_load_explicit(&r->retry_ns, memory_order_relaxed))
    return 0;
  uintptr_t fresh = map_file(runtime);
  if (!fresh || atomic_load_explicit(&address(fresh)->retired, memory_order_acquire))
  {
    atomic_store_explicit(&r->retry_ns, now + RETRY_NS, memory_order_relaxed);
    if (fresh)
      unmap(fresh);
    return 0;
  }
  if (!atomic_compare_exchange_strong(&r->map, &map, fresh))
  {
    unmap(fresh); /* another thread was first; nobody has seen ours */
    return map;
  }
  return fresh;
}

/* A consistent copy of the slot: 1, or 0 when the writer is (or died) in the middle. */
static int copy_slot(const struct prelux_index_slot *s, struct prelux_index_slot *out)
{
  for (int spin = 0; spin < SPINS; spin++)
  {
    uint32_t before = atomic_load_explicit(&s->seq, memory_order_acquire);
    if (before & 1)
      continue;
    const _Atomic uint64_t *from = &s->key_lo;
    _Atomic uint64_t *to = &out->key_lo;
    atomic_store_explicit(&out->kind_mode, atomic_load_explicit(&s->kind_mode, memory_order_relaxed), memory_order_relaxed);
#pragma GCC unroll 7
    for (int i = 0; i < 7; i++)
      atomic_store_explicit(&to[i], atomic_load_explicit(&from[i], memory_order_relaxed), memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&s->seq, memory_order_relaxed) == before)
      return 1;
  }
  return 0;
}

static int find(uintptr_t map, const uint64_t key[2], struct prelux_index_slot *out)
{
  const struct prelux_index *x = address(map);
  uint64_t mask = mask_of(map);
  for (uint32_t probe = 0; probe < PRELUX_INDEX_PROBES; probe++)
  {
    const struct prelux_index_slot *s = &x->slots[(key[0] + probe) & mask];
    uint64_t lo = atomic_load_explicit(&s->key_lo, memory_order_relaxed);
    if (lo == 0 && atomic_load_explicit(&s->key_hi, memory_order_relaxed) == 0)
      return 0;
    if (lo == key[0] && copy_slot(s, out) && out->key_lo == key[0] && out->key_hi == key[1])
      return 1;
  }
  return 0;
}

static uint16_t flags_of(uint32_t km)
{
  return (uint16_t)((km & PRELUX_SLOT_LIVE ? PRELUX_ATTR_LIVE : 0) | (km & PRELUX_SLOT_OWNED ? PRELUX_ATTR_OWNED : 0) |
                    (km & PRELUX_SLOT_GONE ? PRELUX_ATTR_GONE : 0));
}

static int valid_now(uint64_t valid_ns)
{
  return valid_ns != 0 && (valid_ns == UINT64_MAX || valid_ns >= now_ns());
}

int prelux_index_get(struct prelux_index_reader *r, const char *runtime, uint64_t tree_id, const char *object,
                     size_t object_len, struct prelux_attr *ret)
{
  uintptr_t map = current(r, runtime);
  struct prelux_index_slot s;
  uint64_t key[2];
  if (!map)
    return 0;
  prelux_index_key(address(map)->seed, tree_id, object, object_len, key);
  if (!find(map, key, &s))
    return 0;
  uint64_t valid = s.valid_ns;
  if (!valid_now(valid))
    return 0;
  uint32_t km = s.kind_mode;
  *ret = (struct prelux_attr){.type = (uint8_t)PRELUX_SLOT_TYPE(km),
                              .flags = flags_of(km),
                              .cached = s.cache_ino != 0 && !(km & PRELUX_SLOT_LIVE),
                              .mode = PRELUX_SLOT_MODE(km),
                              .size = s.size,
                              .mtime_ns = (int64_t)s.mtime_ns,
                              .ino = s.ino,
                              .cache_ino = s.cache_ino,
                              .valid_ns = valid};
  return 1;
}

int prelux_index_get_inode(struct prelux_index_reader *r, const char *runtime, uint64_t dev, uint64_t ino,
                           struct prelux_attr *ret)
{
  uintptr_t map = current(r, runtime);
  struct prelux_index_slot s;
  uint64_t key[2];
  if (!map)
    return 0;
  prelux_index_inode_key(address(map)->seed, dev, ino, key);
  if (!find(map, key, &s))
    return 0;
  uint32_t km = s.kind_mode;
  *ret = (struct prelux_attr){.type = (uint8_t)PRELUX_SLOT_TYPE(km),
                              .flags = flags_of(km),
                              .cached = !(km & PRELUX_SLOT_LIVE),
                              .mode = PRELUX_SLOT_MODE(km),
                              .size = s.size,
                              .mtime_ns = (int64_t)s.mtime_ns,
                              .ino = s.ino,
                              .cache_ino = ino,
                              .cache_dev = s.cache_ino,
                              .valid_ns = s.valid_ns};
  return 1;
}

int prelux_index_get_names(struct prelux_index_reader *r, const char *runtime, uint64_t tree_id, const char *object, size_t len,
                           struct prelux_names_at *ret)
{
  uintptr_t map = current(r, runtime);
  struct prelux_index_slot s;
  uint64_t key[2];
  if (!map)
    return 0;
  prelux_index_names_key(address(map)->seed, tree_id, object, len, key);
  if (!find(map, key, &s) || !valid_now(s.valid_ns))
    return 0;
  *ret = (struct prelux_names_at){.generation = s.ino, .position = s.mtime_ns, .bytes = s.size};
  return 1;
}

int prelux_index_has_names(const struct prelux_index_reader *r, const struct prelux_names_at *at)
{
  atomic_thread_fence(memory_order_seq_cst); /* after the copy */
  uintptr_t map = atomic_load_explicit(&r->map, memory_order_acquire);
  const struct prelux_index *x = address(map);
  return map && x->names == at->generation && atomic_load_explicit(&x->names_tail, memory_order_acquire) <= at->position &&
         !atomic_load_explicit(&x->retired, memory_order_acquire);
}

uint64_t prelux_index_links(struct prelux_index_reader *r, const char *runtime)
{
  uintptr_t map = current(r, runtime);
  return map ? atomic_load_explicit(&address(map)->links, memory_order_acquire) : 0;
}

uint64_t prelux_index_moved(struct prelux_index_reader *r, const char *runtime)
{
  uintptr_t map = current(r, runtime);
  return map ? atomic_load_explicit(&address(map)->moved, memory_order_acquire) : 0;
}
