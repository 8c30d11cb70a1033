#include "daemon/listing.h"

#include <errno.h>
#include <sys/mman.h>

#include "include/prelux/version.h"
#include "lib/base/os.h"

int prelux_list_open(struct prelux_list *l, int fd)
{
  struct stat st;
  void *map = MAP_FAILED;
  int err = prelux_os.fstat(fd, &st) < 0 ? -errno : 0;
  if (err == 0 && (size_t)st.st_size < sizeof(struct prelux_listing))
    err = -EPROTO;
  if (err == 0 && (map = prelux_os.mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
    err = -errno;
  prelux_os.close(fd);
  if (err < 0)
    return err;
  l->head = map;
  l->bytes = (size_t)st.st_size;
  if (l->head->magic == PRELUX_LISTING_MAGIC && l->head->major == PRELUX_LISTING_MAJOR &&
      l->head->bytes <= (uint64_t)st.st_size)
    return 0;
  prelux_os.munmap(map, (size_t)st.st_size);
  return -EPROTO;
}

void prelux_list_close(struct prelux_list *l)
{
  prelux_os.munmap((void *)l->head, l->bytes);
  l->head = 0;
}
