/* The store under test, with the fake backend, set up anew for each test; what several test programs ask of it. */
#ifndef PRELUX_TESTS_STORE_RIG_H
#define PRELUX_TESTS_STORE_RIG_H

#include "tests/unit/store_fake.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "include/prelux/listing.h"
#include "lib/base/os.h"
#include "lib/index/reader.h"

static struct rig rig;

static inline int setup(void **state)
{
  rig_init(&rig);
  assert_int_equal(rig_open(&rig), 0);
  return 0;
}

static inline int teardown(void **state)
{
  rig_remove(&rig);
  return 0;
}

static inline void view(uint32_t freshness, uint64_t max_age_ns, uint64_t negative_ns)
{
  prelux_view_init(&rig.v, rig.t, freshness, max_age_ns, negative_ns, 0644, 0755);
}

static inline int stat_object(const char *object, struct prelux_attr *a)
{
  return prelux_store_stat(&rig.v, object, 0, a, &rig.why);
}

static inline void real_path(const char *object, char *ret, size_t cap)
{
  snprintf(ret, cap, "%s/%s", prelux_tree_root(rig.t), object);
}

static inline const struct prelux_listing *map_listing(const char *object, struct prelux_attr *a)
{
  struct stat st;
  int fd;
  assert_int_equal(prelux_store_list(&rig.v, object, 0, a, &fd, &rig.why), 0);
  assert_int_equal(fstat(fd, &st), 0);
  const struct prelux_listing *l = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  assert_ptr_not_equal(l, MAP_FAILED);
  assert_int_equal(l->bytes, st.st_size);
  assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  assert_int_equal(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
  close(fd);
  return l;
}

static inline const char *listed(const struct prelux_listing *l, uint32_t i)
{
  return (const char *)l + l->entries[i].name_off;
}

static inline void write_file(const char *path, unsigned seed, size_t size, int64_t mtime_s)
{
  unsigned char *buf = malloc(size);
  for (size_t i = 0; i < size; i++)
    buf[i] = fake_byte(seed, i);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  assert_int_equal(write(fd, buf, size), size);
  struct timespec ts[2] = {{.tv_sec = mtime_s}, {.tv_sec = mtime_s}};
  futimens(fd, ts);
  close(fd);
  free(buf);
}

#endif
