#include "daemon/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/files.h"
#include "lib/base/errlog.h"
#include "lib/base/log.h"
#include "lib/map/match.h"

/* Errno values of DESIGN 6 "Errors" and those that Linux file systems give for the same calls. */
static const int visible[] = {ENOENT, EACCES, ENOTDIR, EISDIR, ESTALE, EOPNOTSUPP, EIO,    ENOSPC, ENAMETOOLONG,
                              EFBIG,  EROFS,  EINVAL,  ENOMEM, ENFILE, ELOOP,      EDQUOT, EPERM,      EEXIST, ENOTEMPTY,
                              EXDEV,  EBUSY,  ETXTBSY};

int prelux_report_errno(int err)
{
  if (err == -EKEYEXPIRED)
    return -EACCES;
  for (size_t i = 0; i < sizeof visible / sizeof *visible; i++)
    if (err == -visible[i])
      return err;
  return -EIO;
}

char *prelux_report_path(const struct prelux_live_table *t, uint32_t mapping, const char *rel)
{
  const char *local = prelux_table_str(t->table, prelux_table_mappings(t->table)[mapping].local);
  if (local[0] == 0)
  {
    char *path = malloc(strlen(rel) + 2);
    if (path)
    {
      path[0] = '/';
      strcpy(path + 1, rel);
    }
    return path;
  }
  return prelux_join(local, rel);
}

/* A remote's own ".prelux" cannot be shown in a cache folder that has ours: refused as "not there", and said so. */
static bool hidden(const struct prelux_live_mapping *m, const char *rel)
{
  return m->single && strncmp(rel, ".prelux", 7) == 0 && (rel[7] == 0 || rel[7] == '/');
}

void prelux_report(struct prelux_daemon *d, const struct prelux_live_table *t, uint32_t mapping, const char *rel,
                   const char *call, int err, const struct prelux_problem *why)
{
  if ((err == -ENOENT || err == -ENOTDIR || err == -EISDIR || err == -EEXIST || err == -ELOOP || err == -ETXTBSY) && !hidden(&t->mappings[mapping], rel))
    return;
  char *path = prelux_report_path(t, mapping, rel);
  const char *cause = why && why->text[0] ? why->text : strerror(-err);
  struct prelux_error_record rec = {
      .err = -prelux_report_errno(err),
      .call = call,
      .path = path ? path : rel,
      .cause = cause,
      .backend = t->mappings[mapping].backend,
      .advice = why && why->advice[0] ? why->advice : NULL,
  };
  prelux_warn("%s %s: %s: %s", call, rec.path, prelux_errno_name(rec.err), cause);
  prelux_error_record(d->runtime, &rec);
  free(path);
}
