/* RUNTIME/index and RUNTIME/names written over by somebody, read by the library's own reader: no look-up leaves them, waits, or believes a length. The input
 * is laid over good files (place, place, byte), first the index, behind 0xff 0xff 0xff the names; or is the index itself when it begins with its magic. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/index/listing.h"
#include "lib/index/names.h"
#include "lib/index/writer.h"
#include "tests/fuzz/rig.h"

enum { SLOTS = 64, NAMES = 4096, INODES = 3 };
#define INDEX_BYTES (sizeof(struct prelux_index) + SLOTS * sizeof(struct prelux_index_slot))

static union {
  struct prelux_index head;
  unsigned char bytes[INDEX_BYTES];
} good;
static unsigned char good_names[NAMES];
static struct prelux_names_at good_at;

static struct prelux_listing *small_listing(void)
{
  static const char *const names[] = {"a", "bb.txt", "sub"};
  size_t at = sizeof(struct prelux_listing) + 3 * sizeof(struct prelux_listing_entry), bytes = at + 16;
  struct prelux_listing *l = calloc(1, bytes);
  *l = (struct prelux_listing){.magic = PRELUX_LISTING_MAGIC, .major = PRELUX_LISTING_MAJOR, .count = 3, .bytes = bytes, .dir_ino = 9};
  for (size_t i = 0; i < 3; i++)
  {
    l->entries[i] = (struct prelux_listing_entry){.name_off = (uint32_t)at, .name_len = (uint16_t)strlen(names[i]), .type = PRELUX_FILE, .ino = i + 2};
    strcpy((char *)l + at, names[i]);
    at += strlen(names[i]) + 1;
  }
  return l;
}

static void read_back(const char *name, void *to, size_t len)
{
  char path[128];
  snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || pread(fd, to, len, 0) != (ssize_t)len)
    abort();
  close(fd);
}

static void make_good(void)
{
  struct prelux_index_writer *w;
  struct prelux_attr dir = {.type = PRELUX_DIR, .mode = 0755, .ino = 9, .valid_ns = UINT64_MAX};
  struct prelux_attr file = {.type = PRELUX_FILE, .mode = 0644, .ino = 2, .size = 5, .valid_ns = UINT64_MAX, .cached = 1, .cache_ino = INODES, .cache_dev = 1};
  if (prelux_index_writer_create(fuzz_folder(), SLOTS, SLOTS, &w) < 0)
    abort();
  prelux_index_put(w, 1, "d", 1, &dir, 7);
  prelux_index_put(w, 1, "d/a", 3, &file, 7);
  struct prelux_listing *l = small_listing();
  if (!prelux_index_names(w) || prelux_names_write(prelux_index_names(w), l, &good_at) < 0)
    abort();
  prelux_index_put_names(w, 1, "d", 1, &good_at, UINT64_MAX);
  read_back("index", good.bytes, sizeof good.bytes);
  read_back("names", good_names, sizeof good_names);
  prelux_index_writer_free(w);
  good.head.retired = 0;
  free(l);
}

static void walk(const struct prelux_listing *l, uint64_t bytes)
{
  uint64_t sum = 0;
  if (!prelux_listing_ok(l, bytes))
    return;
  for (uint32_t i = 0; i < l->count; i++)
  {
    const char *name = prelux_listing_name(l, &l->entries[i]);
    for (uint16_t k = 0; name && k < l->entries[i].name_len; k++)
      sum += (unsigned char)name[k];
  }
  FUZZ_CHECK(sum != 1); /* it is used */
}

static void look(struct prelux_index_reader *r)
{
  const char *runtime = fuzz_folder();
  struct prelux_attr a;
  struct prelux_names_at at;
  if (prelux_index_get(r, runtime, 1, "d/a", 3, &a))
    FUZZ_CHECK(a.valid_ns != 0 && a.type < 16 && (a.mode & ~07777u) == 0);
  prelux_index_get(r, runtime, 1, "d", 1, &a);
  prelux_index_get(r, runtime, 2, "not there", 9, &a);
  prelux_index_get_inode(r, runtime, 1, INODES, &a);
  prelux_index_links(r, runtime);
  prelux_index_moved(r, runtime);
  if (!prelux_index_get_names(r, runtime, 1, "d", 1, &at))
    return;
  /* As shim/ask.c: what is no listing, or larger than one may be, is not asked for. */
  if (at.bytes < sizeof(struct prelux_listing) || at.bytes > PRELUX_NAMES_MAX)
  {
    FUZZ_CHECK(at.bytes <= PRELUX_NAMES_MAX || prelux_names_copy(r, runtime, &at, NULL) == 0);
    return;
  }
  struct prelux_listing *l = malloc(at.bytes);
  if (l && prelux_names_copy(r, runtime, &at, l) == 1)
    walk(l, at.bytes);
  free(l);
}

static void lay(unsigned char *over, size_t bytes, const uint8_t **data, size_t *size)
{
  for (; *size >= 3; *data += 3, *size -= 3)
  {
    if (memcmp(*data, "\xff\xff\xff", 3) == 0)
    {
      *data += 3, *size -= 3;
      return;
    }
    over[((*data)[0] | (size_t)(*data)[1] << 8) % bytes] = (*data)[2];
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static bool made;
  static unsigned char bytes[INDEX_BYTES], names[NAMES];
  struct prelux_index_reader r = {0};
  if (!made)
    make_good();
  made = true;
  memcpy(bytes, good.bytes, sizeof bytes);
  memcpy(names, good_names, sizeof names);
  bool whole = size > sizeof(struct prelux_index) && memcmp(data, &good.head.magic, 8) == 0;
  if (!whole)
  {
    lay(bytes, sizeof bytes, &data, &size);
    lay(names, sizeof names, &data, &size);
  }
  fuzz_file("index", whole ? data : bytes, whole ? size : sizeof bytes, 0600);
  fuzz_file("names", names, sizeof names, 0600);
  look(&r);
  look(&r);
  if (r.map)
    munmap((void *)(r.map & ~(uintptr_t)63), sizeof(struct prelux_index) + ((size_t)1 << (r.map & 63)) * sizeof(struct prelux_index_slot));
  return 0;
}
