/* A table is found again by (path of the configuration, working directory, HOME, bare) and by the keyed digest of the
 * environment that it used, as long as none of the files that were read has changed. So a thousand processes that start
 * under one configuration compile it once, and two jobs with other credentials never meet. */
#include "daemon/register.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/compile.h"
#include "daemon/files.h"
#include "daemon/node.h"
#include "lib/base/errlog.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/ipc/runtime.h"

#define SOURCE_MAX (8u << 20) /* bytes of one configuration file */
#define NAME_MAX_BYTES 256u   /* of an environment variable that is asked for */

struct asker {
  struct prelux_daemon *d;
  struct prelux_sent_env env;
  const char *cwd, *home;
  bool bare;
  char source[PATH_MAX];
  bool only_good; /* for same_place() and match(): broken tables do not count */
  bool whole;     /* `env` is all there is: nobody can be asked for more */
};

struct recording {
  struct prelux_snapshot *s;
  int passing; /* why a file could not be read, though it may be right: the configuration is not to be called broken */
};

static int record_file(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  struct recording *r = arg;
  struct prelux_snapshot *s = r->s;
  struct stat st;
  char *text = NULL, *keep = NULL;
  size_t len = 0;
  memset(&st, 0, sizeof st);
  int err = prelux_file_read(path, SOURCE_MAX, &text, &len, &st);
  if (err == -EMFILE || err == -ENFILE || err == -ENOMEM)
    r->passing = err;
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

static bool same_place(const struct prelux_live_table *t, void *arg)
{
  const struct asker *a = arg;
  const struct prelux_snapshot *s = &t->snapshot;
  if (a->only_good && t->broken)
    return false;
  if (s->bare != a->bare || strcmp(s->source, a->source) != 0)
    return false;
  return strcmp(s->cwd, a->cwd) == 0 && strcmp(s->home, a->home) == 0;
}

/* "Not mentioned" is never taken for "not set": a job with a token must not get the table of one without. */
static bool mentions_all(const struct asker *a, const struct prelux_snapshot *known)
{
  size_t i = 0;
  if (a->whole)
    return true;
  while (i < known->n_env && prelux_sent_env_mentions(&a->env, known->env[i]))
    i++;
  return i == known->n_env;
}

static bool match(const struct prelux_live_table *t, void *arg)
{
  const struct asker *a = arg;
  const struct prelux_snapshot *s = &t->snapshot;
  unsigned char bound[16];
  if (!same_place(t, arg) || !mentions_all(a, s))
    return false;
  if (prelux_bound_digest(a->d->key, s->env, s->n_env, &a->env, bound) < 0)
    return false;
  return memcmp(bound, t->bound, 16) == 0;
}

static void answer_table(const struct prelux_daemon *d, struct prelux_answer *ans, const struct prelux_live_table *t, int status, const char *text)
{
  if (!prelux_answer_begin_large(ans, status))
    return;
  prelux_msg_put(&ans->msg, PRELUX_FIELD_TABLE, t->table->hash, sizeof t->table->hash);
  prelux_answer_text(ans, d->node ? d->node->table : t->path);
  if (text)
    prelux_answer_text(ans, text);
}

static void answer_live(struct prelux_daemon *d, struct prelux_answer *ans, struct prelux_live_table *t)
{
  prelux_compile_restore(d, t);
  if (t->broken)
    answer_table(d, ans, t, -EINVAL, (const char *)t->table + t->table->error.off);
  else
    answer_table(d, ans, t, 0, NULL);
}

static void answer_none(struct prelux_answer *ans, int status, const char *text)
{
  if (!prelux_answer_begin_large(ans, status))
    return;
  prelux_answer_text(ans, "");
  prelux_answer_text(ans, text);
}

/* Adds the names of "${NAME}" in a text to the names that the configuration depends on. */
static int scan(const char *text, struct prelux_snapshot *s)
{
  char name[NAME_MAX_BYTES];
  int err = 0;
  for (const char *p = text; err == 0 && (p = strstr(p, "${")); p += 2)
  {
    size_t n = 0;
    while (n + 1 < sizeof name && (isalnum((unsigned char)p[2 + n]) || p[2 + n] == '_'))
      n++;
    memcpy(name, p + 2, n);
    name[n] = 0;
    if (n > 0 && p[2 + n] == '}' && strcmp(name, "HOME") != 0) /* has a field of its own */
      err = prelux_snapshot_add_env(s, name);
  }
  return err;
}

/* What the configuration depends on: variables that it names, and those that its keys imply. */
static int collect_names(struct prelux_snapshot *s, const struct prelux_conf *conf)
{
  int err = 0;
  for (size_t i = 0; err == 0 && i < s->n_files; i++)
    if (s->files[i].text)
      err = scan(s->files[i].text, s);
  for (size_t i = 0; err == 0 && conf && i < conf->n_used_env; i++)
    if (!prelux_bound_ignores(conf->used_env[i]))
      err = prelux_snapshot_add_env(s, conf->used_env[i]);
  return err;
}

/* True: the client has been asked for variables, because it said nothing of some. All are named, so that its next message
 * can be complete whatever it remembers of this one. */
static bool answer_need(const struct asker *a, const struct prelux_snapshot *known, struct prelux_answer *ans)
{
  if (mentions_all(a, known) || !prelux_answer_begin_large(ans, -EAGAIN))
    return false;
  for (size_t i = 0; i < known->n_env; i++)
    prelux_msg_put_str(&ans->msg, PRELUX_FIELD_NEED, known->env[i]);
  return true;
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
  t = prelux_tables_find(a->d->tables, same_place, a); /* it may depend on more than can be read of the file now */
  for (size_t i = 0; t && i < t->snapshot.n_env; i++)
    prelux_snapshot_add_env(s, t->snapshot.env[i]);
  prelux_live_table_drop(t);
  bool need = answer_need(a, s, ans);
  t = need ? NULL : prelux_tables_find(a->d->tables, match, a);
  a->only_good = false;
  if (need)
    return;
  if (t)
  {
    record_broken(a->d, a->source, text, "broken edit, the last good configuration stays in use");
    answer_table(a->d, ans, t, 0, text);
    prelux_live_table_drop(t);
    return;
  }
  record_broken(a->d, a->source, text, "broken configuration");
  int err = prelux_bound_digest(a->d->key, s->env, s->n_env, &a->env, in.bound);
  if (err == 0)
    err = prelux_compile(a->d, &in, &t, &why);
  if (err < 0)
  {
    answer_none(ans, -EINVAL, text);
    return;
  }
  prelux_tables_add(a->d->tables, t);
  answer_table(a->d, ans, t, -EINVAL, text);
  prelux_live_table_drop(t);
}

static void answer_good(struct asker *a, const struct prelux_conf *conf, struct prelux_snapshot *s,
                        struct prelux_answer *ans)
{
  struct prelux_problem why = {0};
  struct prelux_live_table *t;
  struct prelux_compile in = {.conf = conf, .snapshot = s};
  int err = prelux_bound_digest(a->d->key, s->env, s->n_env, &a->env, in.bound);
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
    answer_table(a->d, ans, t, 0, NULL);
    prelux_live_table_drop(t);
  }
}

static void load(struct asker *a, struct prelux_answer *ans)
{
  struct prelux_snapshot s = {.source = strdup(a->source), .cwd = strdup(a->cwd), .home = strdup(a->home),
                              .bare = a->bare};
  struct recording rec = {.s = &s};
  struct prelux_conf_input in = {
      .file = a->source, .cwd = a->cwd, .env = a->env.set, .bare = a->bare, .read_file = record_file, .read_arg = &rec};
  struct prelux_conf *conf = NULL;
  struct prelux_conf_error err = {NULL};
  int ret = s.source && s.cwd && s.home ? prelux_conf_load(&in, true, &conf, &err) : -ENOMEM;
  if (ret != -ENOMEM && collect_names(&s, conf) < 0)
    ret = -ENOMEM;
  if (ret < 0 && rec.passing)
    ret = rec.passing;
  bool passing = ret == -ENOMEM || (ret < 0 && ret == rec.passing);
  if (!passing && answer_need(a, &s, ans))
    ;
  else if (ret == 0)
    answer_good(a, conf, &s, ans);
  else if (passing)
    answer_none(ans, ret, ret == -ENOMEM ? "no memory" : strerror(-ret));
  else
    answer_broken(a, conf, &s, err.text ? err.text : strerror(-ret), ans);
  prelux_conf_free(conf);
  free(err.text);
  prelux_snapshot_release(&s);
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
  if (answer_need(a, &s, ans))
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
        .file = s.source, .cwd = s.cwd, .env = a->env.set, .bare = s.bare, .read_file = replay_file, .read_arg = &s, .replayed = true};
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

/* It is in use: prune.c goes by this. */
static void touch_snapshot(struct prelux_daemon *d, const char *hex)
{
  char name[64];
  snprintf(name, sizeof name, "%s.conf", hex);
  char *path = prelux_join(d->tables_dir, name);
  int fd = path ? prelux_os.open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
  if (fd >= 0)
  {
    prelux_os.futimens(fd, NULL);
    prelux_os.close(fd);
  }
  free(path);
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
  if (t && answer_need(a, &t->snapshot, ans))
    err = -EAGAIN;
  else if (t && (err = prelux_bound_digest(a->d->key, t->snapshot.env, t->snapshot.n_env, &a->env, bound)) == 0)
    err = differs(bound, t->bound, hex, &why);
  else if (!t && (err = load_again(a, hex, ans, &t, &why)) == 0)
  {
    prelux_info("table %s of %s is in use again", hex, t->snapshot.source);
    touch_snapshot(a->d, hex);
    prelux_tables_add(a->d->tables, t);
  }
  if (err == 0)
    answer_live(a->d, ans, t);
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
  struct prelux_live_table *t = prelux_tables_find(a->d->tables, same_place, a);
  bool first = a->env.n_unset == 0 && a->env.n_set <= 1; /* HOME at most: the client does not know what to send yet */
  bool need = t && first && prelux_snapshot_current(&t->snapshot) && answer_need(a, &t->snapshot, ans);
  prelux_live_table_drop(t);
  if (need)
    return;
  t = prelux_tables_find(a->d->tables, match, a);
  if (t && prelux_snapshot_current(&t->snapshot) && (t->retry_ms == 0 || prelux_clock_ms() < t->retry_ms))
  {
    prelux_compile_metrics(a->d, t, t->broken); /* an edit may have been taken back */
    answer_live(a->d, ans, t);
  }
  else
    load(a, ans);
  prelux_live_table_drop(t);
}

/* As nobody asks, with the daemon's own environment. */
static struct asker node_asker(struct prelux_daemon *d)
{
  struct asker a = {.d = d, .env = d->node->env, .cwd = "/", .home = prelux_env_get(d->node->env.set, "HOME"), .whole = true};
  a.home = a.home ? a.home : "";
  snprintf(a.source, sizeof a.source, "%s", d->node->source);
  return a;
}

void prelux_register_node(struct prelux_daemon *d, struct prelux_answer *ans)
{
  struct asker a = node_asker(d);
  pthread_mutex_lock(&d->compiling);
  load(&a, ans);
  pthread_mutex_unlock(&d->compiling);
}

static void answer_node(struct prelux_daemon *d, const char *config, const char *cwd, const void *table, struct prelux_answer *ans)
{
  struct prelux_problem why = {0};
  struct asker a = node_asker(d);
  int err = prelux_node_names(d->node, config, cwd, table, &why);
  pthread_mutex_lock(&d->compiling);
  if (err < 0)
    answer_none(ans, err, why.text);
  else
    register_known(&a, d->node->hash, ans);
  pthread_mutex_unlock(&d->compiling);
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
  if (d->node)
  {
    answer_node(d, config, a.cwd, table, ans);
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
