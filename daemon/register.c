/* A table is found again by (path of the configuration, working directory, HOME, bare) and by the keyed digest of the
 * environment that it used, as long as none of the files that were read has changed. So a thousand processes that start
 * under one configuration compile it once, and two jobs with other credentials never meet. */
#include "daemon/register.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/compile.h"
#include "daemon/files.h"
#include "lib/base/errlog.h"
#include "lib/base/log.h"
#include "lib/ipc/runtime.h"

#define SOURCE_MAX (8u << 20) /* bytes of one configuration file */
#define NAME_MAX_BYTES 256u   /* of an environment variable that is asked for */

/* The command line sends these unasked: not mentioned means not set. The library sends nothing unasked: its buffers are small. */
static const char *const sent_unasked[] = {"PRELUX_", "AWS_", "AZURE_", "AZFUSE_", "QD_", "HOME", "XDG_"};

struct asker {
  struct prelux_daemon *d;
  struct prelux_sent_env env;
  const char *cwd, *home;
  bool bare;
  char source[PATH_MAX];
  bool only_good; /* for match(): broken tables do not count */
};

static int record_file(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  struct prelux_snapshot *s = arg;
  struct stat st;
  char *text = NULL, *keep = NULL;
  size_t len = 0;
  memset(&st, 0, sizeof st);
  int err = prelux_file_read(path, SOURCE_MAX, &text, &len, &st);
  if (err == 0 && !secret && (keep = malloc(len + 1)))
    memcpy(keep, text, len + 1);
  if (!prelux_snapshot_file(s, path))
    prelux_snapshot_add_file(s, strdup(path), keep, len, err, &st);
  else
    free(keep);
  if (err == 0)
  {
    *ret = text;
    *ret_len = len;
  }
  return err;
}

static int replay_file(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  const struct prelux_source_file *f = prelux_snapshot_file(arg, path);
  if (secret)
    return prelux_file_read(path, SOURCE_MAX, ret, ret_len, NULL);
  if (!f || !f->text)
    return -ENOENT;
  char *copy = malloc(f->len + 1);
  if (!copy)
    return -ENOMEM;
  memcpy(copy, f->text, f->len + 1);
  *ret = copy;
  *ret_len = f->len;
  return 0;
}

static bool match(const struct prelux_live_table *t, void *arg)
{
  const struct asker *a = arg;
  unsigned char bound[16];
  const struct prelux_snapshot *s = &t->snapshot;
  if (a->only_good && t->broken)
    return false;
  if (s->bare != a->bare || strcmp(s->source, a->source) != 0)
    return false;
  if (strcmp(s->cwd, a->cwd) != 0 || strcmp(s->home, a->home) != 0)
    return false;
  return prelux_bound_digest(a->d->key, s->env, s->n_env, &a->env, bound) == 0 && memcmp(bound, t->bound, 16) == 0;
}

static void answer_table(struct prelux_answer *ans, const struct prelux_live_table *t, int status, const char *text)
{
  if (!prelux_answer_begin_large(ans, status))
    return;
  prelux_msg_put(&ans->msg, PRELUX_FIELD_TABLE, t->table->hash, sizeof t->table->hash);
  prelux_answer_text(ans, t->path);
  if (text)
    prelux_answer_text(ans, text);
}

static void answer_live(struct prelux_answer *ans, const struct prelux_live_table *t)
{
  if (t->broken)
    answer_table(ans, t, -EINVAL, (const char *)t->table + t->table->error.off);
  else
    answer_table(ans, t, 0, NULL);
}

static void answer_none(struct prelux_answer *ans, int status, const char *text)
{
  if (!prelux_answer_begin_large(ans, status))
    return;
  prelux_answer_text(ans, "");
  prelux_answer_text(ans, text);
}

static bool asked_for(const struct asker *a, const char *name)
{
  for (size_t i = 0; !a->bare && i < sizeof sent_unasked / sizeof *sent_unasked; i++)
    if (strncmp(name, sent_unasked[i], strlen(sent_unasked[i])) == 0)
      return false;
  return !prelux_sent_env_mentions(&a->env, name);
}

/* Names of "${NAME}" in a text, added to `names` (its env list) when the client has not said anything about them. */
static int scan(const struct asker *a, const char *text, struct prelux_snapshot *names)
{
  char name[NAME_MAX_BYTES];
  for (const char *p = text; (p = strstr(p, "${")); p += 2)
  {
    size_t n = 0;
    while (n + 1 < sizeof name && (isalnum((unsigned char)p[2 + n]) || p[2 + n] == '_'))
      n++;
    if (n == 0 || p[2 + n] != '}')
      continue;
    memcpy(name, p + 2, n);
    name[n] = 0;
    if (asked_for(a, name) && prelux_snapshot_add_env(names, name) < 0)
      return -ENOMEM;
  }
  return 0;
}

/* True: the client has been asked for variables. */
static bool answer_need(const struct asker *a, const struct prelux_snapshot *s, const struct prelux_conf *conf,
                        struct prelux_answer *ans)
{
  struct prelux_snapshot names = {0};
  for (size_t i = 0; i < s->n_files; i++)
    if (s->files[i].text)
      scan(a, s->files[i].text, &names);
  for (size_t i = 0; conf && i < conf->n_used_env; i++)
    if (asked_for(a, conf->used_env[i]))
      prelux_snapshot_add_env(&names, conf->used_env[i]);
  bool need = names.n_env > 0 && prelux_answer_begin_large(ans, -EAGAIN);
  for (size_t i = 0; need && i < names.n_env; i++)
    prelux_msg_put_str(&ans->msg, PRELUX_FIELD_NEED, names.env[i]);
  prelux_snapshot_release(&names);
  return need;
}

static void record_broken(struct prelux_daemon *d, const char *source, const char *text, const char *what)
{
  char first[512];
  size_t n = strcspn(text, "\n");
  n = n < sizeof first - 1 ? n : sizeof first - 1;
  memcpy(first, text, n);
  first[n] = 0;
  prelux_error("%s: %s", what, first);
  struct prelux_error_record rec = {
      .err = EINVAL,
      .call = "configuration",
      .path = source,
      .cause = first,
      .advice = "prelux config check shows all mistakes",
  };
  prelux_error_record(d->runtime, &rec);
}

/* Names into the snapshot, digest into `in`. */
static int bind_env(const struct asker *a, const struct prelux_conf *conf, struct prelux_compile *in)
{
  int err = 0;
  for (size_t i = 0; err == 0 && i < conf->n_used_env; i++)
    if (!prelux_bound_ignores(conf->used_env[i]))
      err = prelux_snapshot_add_env(in->snapshot, conf->used_env[i]);
  if (err == 0)
    err = prelux_bound_digest(a->d->key, in->snapshot->env, in->snapshot->n_env, &a->env, in->bound);
  return err;
}

/* The file is broken: the last good table if there is one, else a table of what could be read of it, where all is
 * EIO. */
static void answer_broken(struct asker *a, const struct prelux_conf *conf, struct prelux_snapshot *s, const char *text,
                          struct prelux_answer *ans)
{
  struct prelux_problem why = {0};
  struct prelux_live_table *t;
  const struct prelux_conf nothing = {0};
  struct prelux_compile in = {.conf = conf ? conf : &nothing, .snapshot = s, .error = text};
  a->only_good = true;
  t = prelux_tables_find(a->d->tables, match, a);
  a->only_good = false;
  if (t)
  {
    record_broken(a->d, a->source, text, "broken edit, the last good configuration stays in use");
    answer_table(ans, t, 0, text);
    prelux_live_table_drop(t);
    return;
  }
  record_broken(a->d, a->source, text, "broken configuration");
  int err = bind_env(a, in.conf, &in);
  if (err == 0)
    err = prelux_compile(a->d, &in, &t, &why);
  if (err < 0)
  {
    answer_none(ans, -EINVAL, text);
    return;
  }
  prelux_tables_add(a->d->tables, t);
  answer_table(ans, t, -EINVAL, text);
  prelux_live_table_drop(t);
}

static void answer_good(struct asker *a, const struct prelux_conf *conf, struct prelux_snapshot *s,
                        struct prelux_answer *ans)
{
  struct prelux_problem why = {0};
  struct prelux_live_table *t;
  struct prelux_compile in = {.conf = conf, .snapshot = s};
  int err = bind_env(a, conf, &in);
  if (err < 0)
    prelux_problem(&why, -err, "no memory");
  else
    err = prelux_compile(a->d, &in, &t, &why);
  if (err == -EEXIST)
    answer_broken(a, conf, s, why.text, ans);
  else if (err < 0)
  {
    prelux_error("%s: %s", a->source, why.text);
    answer_none(ans, err, why.text);
  }
  else
  {
    prelux_logfile_configure(&a->d->log, conf->log_file, conf->log_level, conf->log_format);
    prelux_tables_add(a->d->tables, t);
    prelux_info("table %s for %s in %s, %u mappings", t->hex, a->source, a->cwd, t->table->n_mappings);
    answer_table(ans, t, 0, NULL);
    prelux_live_table_drop(t);
  }
}

static void load(struct asker *a, struct prelux_answer *ans)
{
  struct prelux_snapshot s = {.source = strdup(a->source), .cwd = strdup(a->cwd), .home = strdup(a->home),
                              .bare = a->bare};
  struct prelux_conf_input in = {
      .file = a->source, .cwd = a->cwd, .env = a->env.set, .bare = a->bare, .read_file = record_file, .read_arg = &s};
  struct prelux_conf *conf = NULL;
  struct prelux_conf_error err = {NULL};
  int ret = s.source && s.cwd && s.home ? prelux_conf_load(&in, true, &conf, &err) : -ENOMEM;
  if (answer_need(a, &s, conf, ans))
    ;
  else if (ret == 0)
    answer_good(a, conf, &s, ans);
  else if (ret == -ENOMEM)
    answer_none(ans, ret, "no memory");
  else
    answer_broken(a, conf, &s, err.text ? err.text : strerror(-ret), ans);
  prelux_conf_free(conf);
  free(err.text);
  prelux_snapshot_release(&s);
}

/* True: the client has been asked for variables that the table is bound to. */
static bool need_bound(const struct asker *a, const struct prelux_snapshot *known, struct prelux_answer *ans)
{
  bool need = false;
  for (size_t i = 0; i < known->n_env; i++)
    if (asked_for(a, known->env[i]))
    {
      if (!need && !prelux_answer_begin_large(ans, -EAGAIN))
        return false;
      need = true;
      prelux_msg_put_str(&ans->msg, PRELUX_FIELD_NEED, known->env[i]);
    }
  return need;
}

static int differs(const unsigned char a[16], const unsigned char b[16], const char *hex, struct prelux_problem *why)
{
  if (memcmp(a, b, 16) == 0)
    return 0;
  return prelux_problem(why, EACCES, "table %s was made with other values in its environment variables", hex);
}

/* A table that an earlier daemon made, from its snapshot. -EAGAIN: the client was asked for more (in ans). */
static int load_again(struct asker *a, const char *hex, struct prelux_answer *ans, struct prelux_live_table **ret,
                      struct prelux_problem *why)
{
  struct prelux_snapshot s = {0};
  struct prelux_compile in = {.snapshot = &s};
  struct prelux_conf *conf = NULL;
  struct prelux_conf_error text = {NULL};
  struct prelux_table *bytes = NULL;
  char name[64];
  snprintf(name, sizeof name, "%s.conf", hex);
  char *path = prelux_join(a->d->tables_dir, name);
  int err = path ? prelux_snapshot_read(path, &s) : -ENOMEM;
  free(path);
  if (err < 0)
    return prelux_problem(why, ENOENT, "table %s is not known here any more: %s", hex, strerror(-err));
  if (need_bound(a, &s, ans))
  {
    prelux_snapshot_release(&s);
    return -EAGAIN;
  }
  err = prelux_compile_read(a->d, hex, &bytes, why);
  if (err == 0 && (err = prelux_bound_digest(a->d->key, s.env, s.n_env, &a->env, in.bound)) == 0)
    err = differs(in.bound, bytes->credentials, hex, why);
  if (err == 0)
  {
    struct prelux_conf_input ci = {
        .file = s.source, .cwd = s.cwd, .env = a->env.set, .bare = s.bare, .read_file = replay_file, .read_arg = &s};
    err = prelux_conf_load(&ci, false, &conf, &text);
    in.conf = conf;
    if (err < 0)
      prelux_problem(why, -err, "%s", text.text ? text.text : strerror(-err));
    else
      err = prelux_compile_again(a->d, &in, bytes, ret, why);
  }
  if (err < 0)
    free(bytes);
  prelux_conf_free(conf);
  free(text.text);
  prelux_snapshot_release(&s);
  return err;
}

static void register_known(struct asker *a, const unsigned char hash[16], struct prelux_answer *ans)
{
  struct prelux_problem why = {0};
  unsigned char bound[16];
  char hex[33];
  int err = 0;
  prelux_hex(hash, hex);
  struct prelux_live_table *t = prelux_tables_get(a->d->tables, hash);
  if (t && t->retry_ms && prelux_clock_ms() >= t->retry_ms) /* perhaps it is whole now */
  {
    prelux_live_table_drop(t);
    t = NULL;
  }
  if (t && need_bound(a, &t->snapshot, ans))
    err = -EAGAIN;
  else if (t && (err = prelux_bound_digest(a->d->key, t->snapshot.env, t->snapshot.n_env, &a->env, bound)) == 0)
    err = differs(bound, t->bound, hex, &why);
  else if (!t && (err = load_again(a, hex, ans, &t, &why)) == 0)
  {
    prelux_info("table %s of %s is in use again", hex, t->snapshot.source);
    prelux_tables_add(a->d->tables, t);
  }
  if (err == 0)
    answer_live(ans, t);
  else if (err != -EAGAIN) /* that answer is made */
    answer_none(ans, err, why.text[0] ? why.text : strerror(-err));
  prelux_live_table_drop(t);
}

static void register_file(struct asker *a, const char *config, struct prelux_answer *ans)
{
  struct prelux_conf_input in = {.file = config, .cwd = a->cwd, .env = a->env.set, .bare = a->bare};
  int err = prelux_conf_find(&in, a->source, sizeof a->source);
  if (err < 0)
  {
    answer_none(ans, err, err == -ENOENT ? "no configuration: set PRELUX_CONFIG or give --config" : strerror(-err));
    return;
  }
  unsigned char hash[16];
  const char *base = strrchr(a->source, '/');
  if (base && strncmp(a->source, a->d->tables_dir, (size_t)(base - a->source)) == 0 &&
      strlen(a->d->tables_dir) == (size_t)(base - a->source) && prelux_unhex(base + 1, hash) == 0)
  {
    register_known(a, hash, ans);
    return;
  }
  struct prelux_live_table *t = prelux_tables_find(a->d->tables, match, a);
  if (t && prelux_snapshot_current(&t->snapshot) && (t->retry_ms == 0 || prelux_clock_ms() < t->retry_ms))
    answer_live(ans, t);
  else
    load(a, ans);
  prelux_live_table_drop(t);
}

void prelux_register(struct prelux_daemon *d, const void *msg, struct prelux_answer *ans)
{
  struct asker a = {
      .d = d,
      .cwd = prelux_msg_str(msg, PRELUX_FIELD_CWD),
      .home = prelux_msg_str(msg, PRELUX_FIELD_HOME),
  };
  size_t pos = 0, len = 0;
  const void *table = prelux_msg_next(msg, PRELUX_FIELD_TABLE, &pos, &len);
  const char *config = prelux_msg_str(msg, PRELUX_FIELD_CONFIG);
  a.bare = prelux_msg_u32(msg, PRELUX_FIELD_BARE, 0) != 0;
  if ((table && len != 16) || (!table && (!a.cwd || a.cwd[0] != '/')))
  {
    answer_none(ans, -EBADMSG, "REGISTER without a working directory, or with a bad table");
    return;
  }
  if (prelux_sent_env_read(msg, &a.env) < 0)
  {
    answer_none(ans, -ENOMEM, "no memory");
    return;
  }
  if (!a.home && !(a.home = prelux_env_get(a.env.set, "HOME")))
    a.home = "";
  pthread_mutex_lock(&d->compiling);
  if (table)
    register_known(&a, table, ans);
  else
    register_file(&a, config && config[0] ? config : NULL, ans);
  pthread_mutex_unlock(&d->compiling);
  prelux_sent_env_release(&a.env);
}
