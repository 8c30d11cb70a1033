/* Backend `azure`, writing: copies within the container, and renames made of them.
 *
 * Theory of operation. Copy Blob copies within the account without a byte passing here, and is done when it is
 * answered, nearly always; when it is not ("pending"), the target is asked until it is. Meanwhile Azure shows the
 * target without its bytes, which readers here are told (-EBUSY, azure_look.c). The source is pinned by
 * x-ms-source-if-match. Metadata go along, written out, since a time that the source does not keep would become that of
 * the copy.
 *
 * A rename is a copy, then the old name goes, if it is still what was copied; was it changed meanwhile the copy is made
 * again. Where the old name may not go the copy goes again, if nothing was in its place before. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure_write.h"

#define LOOKS 8
#define POLLS 60 /* with pauses of 0.1 s, doubling to 10 s: about 9 minutes */
#define SOURCE_URL_MAX 2048

static struct prelux_azure *self(struct prelux_backend *b)
{
  return (struct prelux_azure *)b;
}

struct copying
{
  struct prelux_azure *z;
  const char *from, *to;
  const struct prelux_put *how;
  struct prelux_azure_seen source;
  struct prelux_azure_target target;
  struct prelux_object *ret;
  struct prelux_problem *why;
};

static int open_source(struct copying *c, const char *version)
{
  int rc = prelux_azure_look(c->z, c->from, &c->source, c->why);
  if (rc < 0)
    return rc;
  if (c->source.obj.type == PRELUX_NONE)
    return prelux_problem(c->why, ENOENT, "%.200s: there is no such blob, and none below", c->from);
  if (c->source.obj.type == PRELUX_DIR)
    return prelux_problem(c->why, EISDIR, "%.200s is a folder", c->from);
  if (version[0] && strcmp(version, c->source.obj.version) != 0)
    return prelux_problem(c->why, ESTALE, "%.200s is not of version %.100s", c->from, version);
  return 0;
}

/* What the copy is to have: what is said, else what the source has. */
static int open_target(struct copying *c)
{
  struct prelux_put how = *c->how;
  if (!(how.set.which & PRELUX_SET_MODE))
    how.set.mode = c->source.obj.mode;
  if (!(how.set.which & PRELUX_SET_MTIME))
    how.set.mtime_ns = c->source.obj.mtime_ns;
  how.set.which = PRELUX_SET_MODE | PRELUX_SET_MTIME;
  return prelux_azure_target_open(c->z, c->to, &how, &c->target, c->why);
}

static int make_head(struct copying *c, struct prelux_azure_meta *head)
{
  char *url = malloc(PRELUX_URL_MAX), *line = NULL, match[PRELUX_VERSION_MAX + 40];
  const char *sas = prelux_azure_cred_query(c->z->cred);
  int rc = url ? prelux_azure_blob_url(c->z, c->from, url, PRELUX_URL_MAX, c->why)
               : prelux_problem(c->why, ENOMEM, "no memory for a URL");
  if (rc == 0 && strlen(url) > SOURCE_URL_MAX)
    rc = prelux_problem(c->why, EOPNOTSUPP, "%.200s: Azure copies no blob of so long a name", c->from);
  if (rc == 0)
  {
    snprintf(match, sizeof(match), "x-ms-source-if-match: \"%s\"", c->source.obj.version + 2);
    if (asprintf(&line, "x-ms-copy-source: %s%s%s", url, sas ? "?" : "", sas ? sas : "") < 0)
      line = NULL;
    if (!line || prelux_azure_meta_line(head, line) < 0 || prelux_azure_meta_line(head, match) < 0 ||
        prelux_azure_meta_copy(head, &c->source.answer) < 0 ||
        prelux_azure_meta_set(head, c->target.mode, true, c->target.mtime_ns) < 0)
      rc = prelux_problem(c->why, EOPNOTSUPP, "%.200s: too much metadata", c->from);
  }
  if (line)
    explicit_bzero(line, strlen(line));
  free(line);
  free(url);
  return rc;
}

static void forget_head(struct prelux_azure_meta *head)
{
  if (head->n) /* a SAS may stand there */
    explicit_bzero(head->lines[0], strlen(head->lines[0]));
  prelux_azure_meta_free(head);
}

static bool header_is(const struct prelux_net_answer *a, const char *name, const char *value)
{
  char text[80];
  return prelux_net_header(a, name, text, sizeof(text)) > 0 && strcmp(text, value) == 0;
}

static int unknown(const struct copying *c, const char *text)
{
  return prelux_problem(c->why, PRELUX_EUNKNOWN, "copy to %.200s: %s", c->to, text);
}

/* One look at a copy that was not done at once: 1 not yet; 0; -PRELUX_EUNKNOWN. */
static int poll_once(struct copying *c, const char *id, struct prelux_net_answer *a)
{
  struct prelux_azure_call call = {.method = "HEAD", .url = c->target.url};
  int rc = prelux_azure_call(c->z, &call, a, c->why);
  if (rc < 0 || a->status >= 500)
    return 1;
  if (a->status != 200 || !header_is(a, "x-ms-copy-id", id))
    return unknown(c, "somebody else has written it meanwhile");
  if (header_is(a, "x-ms-copy-status", "success"))
    return 0;
  return header_is(a, "x-ms-copy-status", "pending")
             ? 1
             : unknown(c, "the server has failed, and may have left an empty blob");
}

static int wait_for_it(struct copying *c, struct prelux_net_answer *a)
{
  char id[80];
  if (header_is(a, "x-ms-copy-status", "success"))
    return 0;
  if (prelux_net_header(a, "x-ms-copy-id", id, sizeof(id)) <= 0)
    return unknown(c, "the server does not say what became of it");
  for (int n = 0; n < POLLS; n++)
  {
    if (prelux_net_backoff(c->z->net, n) < 0)
      return unknown(c, "the daemon ends before the server is ready");
    prelux_net_answer_free(a);
    int rc = poll_once(c, id, a);
    if (rc <= 0)
      return rc;
  }
  return unknown(c, "the server takes too long");
}

static int copy_blob(struct copying *c)
{
  struct prelux_azure_meta head = {0};
  struct prelux_azure_change change = {.call = {.method = "PUT", .url = c->target.url}, .expect = 202};
  int rc = prelux_azure_guard(&change.call, &c->how->cond, c->why);
  if (rc == 0)
    rc = make_head(c, &head);
  change.call.headers = (const char *const *)head.lines;
  change.harmless = change.call.etag || change.call.absent;
  if (rc == 0)
    rc = prelux_azure_change(c->z, &change, c->why);
  if (rc == 0)
    rc = wait_for_it(c, &change.answer);
  if (rc == 0)
    prelux_azure_made(&c->target, &change.answer, c->source.obj.size, c->source.obj.md5, c->ret);
  prelux_net_answer_free(&change.answer);
  forget_head(&head);
  return rc;
}

static int copy(struct copying *c, const char *source_version)
{
  int rc = open_source(c, source_version);
  if (rc == 0)
    rc = open_target(c);
  if (rc == 0)
    rc = copy_blob(c);
  prelux_azure_target_free(&c->target);
  return rc;
}

int prelux_azure_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                      const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct copying c = {.z = self(b), .from = from, .to = to, .how = how, .ret = ret, .why = why};
  bool any = !source_version[0] && how->cond.must == PRELUX_MUST_NOTHING;
  int rc = -ESTALE;
  for (int looks = 0; looks < LOOKS && rc == -ESTALE; looks += any ? 1 : LOOKS)
  {
    rc = copy(&c, source_version);
    prelux_azure_seen_free(&c.source);
  }
  return any && rc == -ESTALE ? prelux_problem(why, EBUSY, "%.200s: others write it all the time", from) : rc;
}

/* rename */

static int may_rename(const char *from, const char *to, unsigned flags, struct prelux_problem *why)
{
  if (!from[0] || !to[0])
    return prelux_problem(why, EBUSY, "the root stays");
  if (flags == (PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE))
    return prelux_problem(why, EINVAL, "%.200s: not to replace, and to exchange", from);
  if (flags & ~(unsigned)PRELUX_RENAME_NOREPLACE)
    return prelux_problem(why, EOPNOTSUPP, "%.200s: Azure cannot do that in one step", from);
  return 0;
}

/* The copy is there, the old name goes. -ESTALE: it is another now. */
static int remove_old(struct copying *c, bool fresh)
{
  struct prelux_problem own = {0};
  int rc = prelux_azure_remove_version(c->z, c->from, c->source.obj.version, &own);
  if (rc == -PRELUX_EUNKNOWN) /* this version, or not: in any case it was told to go, by its version */
    rc = prelux_azure_remove_version(c->z, c->from, c->source.obj.version, &own);
  if (rc == 0 || rc == -ENOENT || rc == -ESTALE)
    return rc == -ENOENT ? 0 : rc;
  if (rc != -PRELUX_EUNKNOWN && fresh && c->ret->version[0] &&
      prelux_azure_remove_version(c->z, c->to, c->ret->version, NULL) == 0)
  {
    c->ret->version[0] = 0; /* as if nothing had been done */
    if (c->why)
      *c->why = own;
    return rc;
  }
  return prelux_problem(c->why, PRELUX_EUNKNOWN, "%.100s was copied to %.100s, and is still there: %.200s", c->from,
                        c->to, own.text);
}

static int same_name(struct copying *c, unsigned flags)
{
  int rc = open_source(c, "");
  if (rc == -EISDIR)
    rc = 0;
  if (rc == 0 && flags)
    rc = prelux_problem(c->why, EEXIST, "%.200s is there", c->from);
  if (rc == 0)
    *c->ret = c->source.obj;
  prelux_azure_seen_free(&c->source);
  return rc;
}

int prelux_azure_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags,
                        struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_put how = {.cond.must = flags ? PRELUX_MUST_BE_ABSENT : PRELUX_MUST_NOTHING};
  struct prelux_object made = {0};
  struct copying c = {.z = self(b), .from = from, .to = to, .how = &how, .ret = &made, .why = why};
  int rc = may_rename(from, to, flags, why);
  if (rc < 0)
    return rc;
  c.ret = strcmp(from, to) == 0 ? ret : &made;
  if (c.ret == ret)
    return same_name(&c, flags);
  bool copied = false, fresh = false;
  for (int looks = 0; looks < LOOKS; looks++)
  {
    rc = copy(&c, "");
    if (rc == -EISDIR && c.source.obj.type == PRELUX_DIR)
      rc = prelux_problem(why, EOPNOTSUPP, "%.200s: Azure cannot rename a folder in one step", from);
    if (rc == 0 && !copied)
      fresh = flags || c.target.old.type == PRELUX_NONE;
    copied = copied || rc == 0;
    if (rc == 0)
      rc = remove_old(&c, fresh);
    prelux_azure_seen_free(&c.source);
    if (rc != -ESTALE)
      break;
    if (copied) /* the target is ours: what is copied next replaces it, and only it */
    {
      how.cond.must = made.version[0] ? PRELUX_MUST_BE_VERSION : PRELUX_MUST_NOTHING;
      memcpy(how.cond.version, made.version, sizeof(made.version));
    }
  }
  if (rc == 0)
    *ret = made;
  if (rc < 0 && rc != -PRELUX_EUNKNOWN && copied && made.version[0])
    rc = -ESTALE; /* a later copy failed: the first one is there */
  if (rc == -ESTALE && copied)
    return prelux_problem(why, PRELUX_EUNKNOWN, "%.100s was copied to %.100s, then changed by somebody else", from, to);
  return rc == -ESTALE ? prelux_problem(why, EBUSY, "%.200s: others write it all the time", from) : rc;
}
