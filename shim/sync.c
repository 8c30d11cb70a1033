/* fsync of what is written below a mapping. The kernel has put the bytes onto the medium; which path they are for stands in the daemon's journal,
 * and the names that this node keeps in its journal and catalogue: the daemon is asked to sync these, too, and with `fsync: remote` to send them. */
#include <stdatomic.h>

#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/pending.h"
#include "shim/stats.h"
#include "shim/tell.h"
#include "shim/write.h"

static bool writable(uint32_t mapping)
{
  const struct prelux_table *t = prelux_state.table;
  return t && mapping < t->n_mappings && (prelux_table_mappings(t)[mapping].flags & PRELUX_MAPPING_WRITE) != 0;
}

/* Is there something of the daemon's to be synced with it? */
static bool concerns(int fd, uint64_t *ret_ino, uint32_t *ret_mapping)
{
  struct stat st;
  enum prelux_class class = prelux_fd_get(fd, ret_mapping);
  *ret_ino = 0;
  if (class == PRELUX_CLASS_PLAIN || class == PRELUX_CLASS_FAR) return false;
  if (prelux_staged(fd, ret_ino, ret_mapping)) return true;
  return class == PRELUX_CLASS_SHADOW && writable(*ret_mapping) && prelux_fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int ask(uint32_t mapping, uint64_t ino, const char *path, const char *call, unsigned flags)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_table *t = prelux_state.table;
  const char *local = prelux_table_str(t, prelux_table_mappings(t)[mapping].local); /* for records */
  const struct prelux_request q = {.op = PRELUX_OP_SYNC, .call = call, .logical = local, .mapping = mapping, .ino = ino, .path = path, .flags = flags};
  return prelux_ask(&q, reply, NULL);
}

bool prelux_tell_send(const char *cache, const char *call)
{
  uint64_t ino;
  uint32_t mapping;
  return prelux_staged_path(cache, &ino, &mapping) && ask(mapping, ino, NULL, call, PRELUX_SYNC_REMOTE) == 0;
}

/* Of a folder that has lost its name the mapping's root stands for it. */
static int ask_folder(int fd, uint32_t mapping, const char *call)
{
  struct prelux_route r;
  bool named = prelux_route_fd(fd, &r) == PRELUX_MAPPED && prelux_writable(&r);
  return ask(named ? r.index : mapping, 0, named ? r.rel : NULL, call, 0);
}

static _Atomic bool asked; /* of this process, and of its children: what they close is on the medium, too, when close returns */

bool prelux_synced(void)
{
  return atomic_load_explicit(&asked, memory_order_relaxed);
}

/* After the real one, which gave rc. */
static int finish(int rc, int fd, const char *call)
{
  uint64_t ino;
  uint32_t mapping;
  int saved = errno;
  if (rc == 0 && concerns(fd, &ino, &mapping)) {
    atomic_store_explicit(&asked, true, memory_order_relaxed);
    rc = (int)prelux_ret(ino ? ask(mapping, ino, NULL, call, 0) : ask_folder(fd, mapping, call));
  }
  if (rc == 0) errno = saved;
  return rc;
}

PRELUX_EXPORT int fsync(int fd)
{
  bool idle = prelux_idle();
  int rc = idle ? 0 : prelux_settle(fd);
  if (rc < 0) return (int)prelux_ret(rc);
  rc = prelux_real.fsync(fd);
  return idle ? rc : finish(rc, fd, "fsync");
}

PRELUX_EXPORT int fdatasync(int fd)
{
  bool idle = prelux_idle();
  int rc = idle ? 0 : prelux_settle(fd);
  if (rc < 0) return (int)prelux_ret(rc);
  rc = prelux_real.fdatasync(fd);
  return idle ? rc : finish(rc, fd, "fdatasync");
}
