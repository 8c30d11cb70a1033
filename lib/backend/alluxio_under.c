/* The under store instead of the workers: another backend, asked by the same path below its own root.
 *
 * Where a mapping writes the under store rules (alluxio_write.c): then it is not asked instead of the workers, but first, by its own
 * versions and without a budget. Else:
 *
 * The workers know a file by length and time of change, the under store by whatever it has. Its objects are given the
 * workers' form of version, so that a file keeps its version when the cluster dies and when it comes back, and nothing is
 * fetched anew on that account. Bytes are read by the under store's own version, after its length and time were found to be
 * those that the cluster told; else the object is another one: -ESTALE. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/backend/alluxio.h"

static const char *label(const struct prelux_alluxio *x)
{
  return x->options.name;
}

/* As the cluster would describe it, unless the under store rules. */
static void translate(const struct prelux_alluxio *x, const struct prelux_object *under, struct prelux_object *ret)
{
  if (prelux_alluxio_under_rules(x))
    *ret = *under;
  else
    prelux_alluxio_translate(x->whole_seconds, under, ret);
}

static bool same(const struct prelux_alluxio *x, const struct prelux_object *under, const struct prelux_object *expect)
{
  if (prelux_alluxio_under_rules(x) && under->version[0] && expect->version[0])
    return under->type == PRELUX_FILE && strcmp(under->version, expect->version) == 0;
  return prelux_alluxio_fits(under, expect);
}

/* 0: go, and leave by what it says. */
static int enter(struct prelux_alluxio *x, enum prelux_alluxio_plight plight, bool *ret_counted, struct prelux_problem *why)
{
  *ret_counted = !prelux_alluxio_under_rules(x);
  if (!x->under)
    return -EAGAIN;
  if (!*ret_counted)
    return 0;
  int rc = prelux_alluxio_under_enter(x->health, plight);
  if (rc == 0 || rc == -EAGAIN)
    return rc;
  return prelux_problem(why, EIO, "backend %s: no worker answers, and too many calls wait for the under store", label(x));
}

static void leave(struct prelux_alluxio *x, bool counted)
{
  if (counted)
    prelux_alluxio_under_leave(x->health);
}

int prelux_alluxio_wait(struct prelux_alluxio *x, struct prelux_alluxio_patience *p, struct prelux_problem *why)
{
  struct prelux_problem cause = why ? *why : (struct prelux_problem){0};
  int64_t now = prelux_alluxio_now_ms();
  if (!p->since_ms)
    p->since_ms = now;
  /* Who has never heard who the workers are has waited for that already. */
  bool over = !prelux_alluxio_members_known(x->members) ||
              now - p->since_ms > (x->under ? PRELUX_ALLUXIO_PATIENCE_MS / 4 : PRELUX_ALLUXIO_PATIENCE_MS);
  if (!over && prelux_net_backoff(x->net, p->rounds < 4 ? p->rounds++ : 4) == 0)
    return 0;
  prelux_problem(why, EIO, "%.330s; %s", cause.text,
                 !over       ? "the daemon ends"
                 : x->under ? "and the under store's budget is used up"
                            : "and there is no under store to read from");
  if (why && over && !x->under)
    snprintf(why->advice, sizeof(why->advice), "name a backend that reads %.90s by `under_store:` of backend %.40s", x->options.root,
             label(x));
  return -EIO;
}

/* What the under store itself says is said of it. */
static int blame(const struct prelux_alluxio *x, int rc, struct prelux_problem *why)
{
  if (why && rc != -ENOENT)
  {
    struct prelux_problem under = *why;
    prelux_problem(why, under.err ? under.err : EIO, "under store of %s: %.400s", label(x), under.text);
    memcpy(why->advice, under.advice, sizeof(why->advice));
  }
  return rc;
}

int prelux_alluxio_under_stat(struct prelux_alluxio *x, const char *path, enum prelux_alluxio_plight plight,
                              struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_object obj;
  bool counted;
  int rc = enter(x, plight, &counted, why);
  if (rc < 0)
    return rc;
  rc = x->under->ops->stat(x->under, path, &obj, why);
  leave(x, counted);
  if (rc < 0)
    return blame(x, rc == -EAGAIN ? -EIO : rc, why);
  translate(x, &obj, ret);
  return 0;
}

struct passing
{
  const struct prelux_alluxio *x;
  prelux_list_fn add;
  void *arg;
  bool exact;
};

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct passing *p = arg;
  struct prelux_object mine = *obj;
  if (p->exact)
    translate(p->x, obj, &mine);
  else if (mine.type == PRELUX_FILE) /* an index page shows rounded sizes: each name is to be looked at */
    mine = (struct prelux_object){.type = PRELUX_FILE, .size = UINT64_MAX};
  return p->add(p->arg, name, len, &mine);
}

int prelux_alluxio_under_list(struct prelux_alluxio *x, const char *path, enum prelux_alluxio_plight plight, prelux_list_fn add,
                              void *arg, struct prelux_problem *why)
{
  struct passing p = {.x = x, .add = add, .arg = arg};
  bool counted;
  int rc = enter(x, plight, &counted, why);
  if (rc < 0)
    return rc;
  p.exact = x->under->ops->caps & PRELUX_CAP_LIST_EXACT;
  rc = x->under->ops->list(x->under, path, on_name, &p, why);
  leave(x, counted);
  return rc < 0 ? blame(x, rc == -EAGAIN ? -EIO : rc, why) : 0;
}

static int on_bytes(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct prelux_alluxio_part *p = arg;
  if (off != p->pos || len > p->end - p->pos)
    return -EPROTO;
  return prelux_alluxio_pass(p, buf, len);
}

static int read_entered(struct prelux_alluxio *x, struct prelux_alluxio_part *part, struct prelux_problem *why)
{
  struct prelux_object obj;
  uint64_t before = part->pos;
  int rc = x->under->ops->stat(x->under, part->name->path, &obj, why);
  if (rc == -ENOENT)
    return prelux_problem(why, ESTALE, "/%s: the cluster knows it, its under store does not", part->name->path);
  if (rc < 0)
    return rc;
  if (!same(x, &obj, part->expect))
    return prelux_problem(why, ESTALE,
                          "/%s: the under store's file (%" PRIu64 " bytes, mtime %" PRId64 " ms) is not the one that the cluster tells of (%s)",
                          part->name->path, obj.size, obj.mtime_ns / 1000000, part->expect->version);
  rc = x->under->ops->read(x->under, part->name->path, &obj, part->pos, part->end - part->pos, on_bytes, part, why);
  if (part->pos > before)
    prelux_alluxio_count(x->health, PRELUX_ALLUXIO_FROM_UNDER, part->pos - before);
  if (rc == 0 && part->pos != part->end)
    return prelux_problem(why, EPROTO, "/%s: the under store gave less than was asked for", part->name->path);
  return rc;
}

int prelux_alluxio_under_read(struct prelux_alluxio *x, struct prelux_alluxio_part *part, enum prelux_alluxio_plight plight,
                              struct prelux_problem *why)
{
  bool counted;
  int rc = enter(x, plight, &counted, why);
  if (rc < 0)
    return rc;
  rc = read_entered(x, part, why);
  leave(x, counted);
  if (rc == 0 || part->stopped < 0)
    return rc;
  return blame(x, rc == -EAGAIN ? -EIO : rc, why);
}
