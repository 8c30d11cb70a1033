/* The under store instead of workers of whom none could help: another backend, asked by the same path below its own root. It is never
 * asked after "not there" or "permission denied": those are answers. Its objects are given the cluster's form of version, so that a
 * file keeps its version when the workers die and when they come back; its bytes are taken when its length and time are those that the
 * cluster told. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"

/* What the under store says is said of it, behind what the workers said. */
static int blame(const struct prelux_ee *e, int rc, const struct prelux_problem *workers, struct prelux_problem *why)
{
  if (rc < 0 && rc != -ENOENT && why)
  {
    struct prelux_problem under = *why;
    prelux_problem(why, under.err ? under.err : EIO, "%.220s; under store of %s: %.220s", workers->text, e->options.name, under.text);
  }
  return rc == -EAGAIN ? -EIO : rc;
}

/* Answers are final. */
static bool is_answer(int rc)
{
  return rc != -EIO && rc != -EPROTO;
}

/* It refused the keys that were learnt of it: are there others? Then they are in *under and *learnt. */
static bool renewed(struct prelux_ee *e, struct prelux_backend **under, struct prelux_ee_learnt **learnt)
{
  if (!*learnt || !prelux_ee_learn_again(e, *learnt))
    return false;
  prelux_ee_under_drop(e, *learnt);
  *under = prelux_ee_under_take(e, learnt);
  return *under != NULL;
}

int prelux_ee_under_stat(struct prelux_ee *e, const char *path, int rc, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_problem workers = why ? *why : (struct prelux_problem){0};
  struct prelux_object obj;
  struct prelux_ee_learnt *learnt = NULL;
  struct prelux_backend *under = is_answer(rc) ? NULL : prelux_ee_under_take(e, &learnt);
  if (!under)
    return rc;
  rc = under->ops->stat(under, path, &obj, why);
  if (rc == -EACCES && renewed(e, &under, &learnt))
    rc = under->ops->stat(under, path, &obj, why);
  prelux_ee_under_drop(e, learnt);
  if (rc == 0)
    prelux_alluxio_translate(e->whole_seconds, &obj, ret);
  return blame(e, rc, &workers, why);
}

struct passing
{
  const struct prelux_ee *e;
  prelux_list_fn add;
  void *arg;
  bool exact, any; /* something was passed on */
};

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct passing *p = arg;
  struct prelux_object mine = *obj;
  if (p->exact)
    prelux_alluxio_translate(p->e->whole_seconds, obj, &mine);
  else if (mine.type == PRELUX_FILE) /* an index page shows rounded sizes: each name is to be looked at */
    mine = (struct prelux_object){.type = PRELUX_FILE, .size = UINT64_MAX};
  p->any = true;
  return p->add(p->arg, name, len, &mine);
}

int prelux_ee_under_list(struct prelux_ee *e, const char *path, int rc, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  struct prelux_problem workers = why ? *why : (struct prelux_problem){0};
  struct passing p = {.e = e, .add = add, .arg = arg};
  struct prelux_ee_learnt *learnt = NULL;
  struct prelux_backend *under = is_answer(rc) ? NULL : prelux_ee_under_take(e, &learnt);
  if (!under)
    return rc;
  p.exact = under->ops->caps & PRELUX_CAP_LIST_EXACT;
  rc = under->ops->list(under, path, on_name, &p, why);
  if (rc == -EACCES && !p.any && renewed(e, &under, &learnt))
    rc = under->ops->list(under, path, on_name, &p, why);
  prelux_ee_under_drop(e, learnt);
  return blame(e, rc, &workers, why);
}

static int read_it(struct prelux_backend *under, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                   prelux_read_fn sink, void *arg, bool *ret_begun, struct prelux_problem *why)
{
  struct prelux_object obj;
  int rc = under->ops->stat(under, path, &obj, why);
  *ret_begun = rc == 0;
  if (rc == -ENOENT || (rc == 0 && !prelux_alluxio_fits(&obj, expect)))
    return prelux_problem(why, ESTALE, "/%s: the under store's file is not the one that the cluster told of (%s)", path, expect->version);
  return rc == 0 ? under->ops->read(under, path, &obj, off, len, sink, arg, why) : rc;
}

int prelux_ee_under_read(struct prelux_ee *e, const char *path, int rc, const struct prelux_object *expect, uint64_t off, uint64_t len,
                         prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_problem workers = why ? *why : (struct prelux_problem){0};
  struct prelux_ee_learnt *learnt = NULL;
  struct prelux_backend *under = is_answer(rc) ? NULL : prelux_ee_under_take(e, &learnt);
  if (!under)
    return rc;
  bool begun;
  rc = read_it(under, path, expect, off, len, sink, arg, &begun, why);
  if (rc == -EACCES && !begun && renewed(e, &under, &learnt))
    rc = read_it(under, path, expect, off, len, sink, arg, &begun, why);
  prelux_ee_under_drop(e, learnt);
  return rc == -ESTALE ? rc : blame(e, rc, &workers, why);
}
