/* load: jobs by which the remote reads a path into its own caches. PATH is a logical path, or the remote's own URI, which
 * belongs to whichever backend of the table says so. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "lib/map/match.h"

static const char *const verbs[] = {
    [PRELUX_LOAD_SUBMIT] = "submit", [PRELUX_LOAD_PROGRESS] = "progress", [PRELUX_LOAD_STOP] = "stop"};
static const char *const states[] = {
    [PRELUX_LOAD_STARTING] = "starting", [PRELUX_LOAD_RUNNING] = "running", [PRELUX_LOAD_DONE] = "done",
    [PRELUX_LOAD_STOPPED] = "stopped",   [PRELUX_LOAD_FAILED] = "failed",   [PRELUX_LOAD_UNKNOWN] = "unknown"};

/* One request as the arguments say it. */
struct load
{
  struct prelux_ctl *x;
  enum prelux_load_verb verb;
  struct prelux_load_options options;
  const char *path;
  const struct prelux_live_mapping *mapping; /* of whose backend it is */
  char *object;                              /* malloc'd: path in it, or URI */
  struct prelux_load result;
};

static int parse_verb(struct load *l, const char *word, struct prelux_problem *why)
{
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (strcmp(verbs[i], word) == 0)
    {
      l->verb = (enum prelux_load_verb)i;
      return 0;
    }
  return prelux_problem(why, EINVAL, "load: there are submit, progress, stop");
}

static int parse_option(struct prelux_load_options *o, const char *word, struct prelux_problem *why)
{
  const struct
  {
    const char *name;
    bool *flag;
  } flags[] = {{"verify", &o->verify},
               {"metadata-only", &o->metadata_only},
               {"skip-if-exists", &o->skip_if_exists},
               {"partial-listing", &o->partial_listing}};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    if (strcmp(flags[i].name, word) == 0)
    {
      *flags[i].flag = true;
      return 0;
    }
  char *end = NULL;
  if (strncmp(word, "bandwidth=", 10) == 0 && word[10] >= '1' && word[10] <= '9')
    o->bandwidth = strtoull(word + 10, &end, 10);
  return end && *end == 0 && o->bandwidth <= INT64_MAX ? 0 : prelux_problem(why, EINVAL, "load: unknown option %s", word);
}

static int parse(struct load *l, struct prelux_problem *why)
{
  int err = parse_verb(l, l->x->args[0], why);
  l->path = l->x->args[1];
  for (unsigned i = 2; i < l->x->n_args && err == 0; i++)
    err = parse_option(&l->options, l->x->args[i], why);
  return err;
}

static int ask(struct load *l, struct prelux_problem *why)
{
  return prelux_instance_load(l->mapping->instance, l->object, l->verb, &l->options, &l->result, why);
}

char *prelux_ctl_uri(const char *path)
{
  size_t scheme = strcspn(path, ":/");
  char *out = NULL;
  if (scheme == 0 || path[scheme] != ':' || path[scheme + 1] != '/')
    return NULL;
  const char *rest = path + scheme + 1;
  bool local = scheme == 4 && strncmp(path, "file", 4) == 0;
  return asprintf(&out, "%.*s://%s", (int)scheme, path, rest + !local) < 0 ? NULL : out;
}

/* The first backend of the table that knows the URI. */
static int ask_by_uri(struct load *l, struct prelux_problem *why)
{
  struct prelux_live_table *t = l->x->table;
  struct prelux_problem last = {.text = "no backend has load jobs"};
  if (!(l->object = prelux_ctl_uri(l->path)))
    return prelux_problem(why, ENOENT, "%s is in no mapping", l->path);
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    struct prelux_problem cause = {0};
    bool seen = t->mappings[i].broken;
    for (uint32_t k = 0; k < i && !seen; k++)
      seen = !t->mappings[k].broken && t->mappings[k].instance == t->mappings[i].instance;
    if (seen)
      continue;
    l->mapping = &t->mappings[i];
    int err = ask(l, &cause);
    if (err != -EOPNOTSUPP)
    {
      *why = cause;
      return err;
    }
    last = cause;
  }
  return prelux_problem(why, ENOENT, "%s is in no mapping; %.300s", l->path, last.text);
}

static int ask_by_path(struct load *l, const struct prelux_target *t, struct prelux_problem *why)
{
  l->mapping = prelux_target_mapping(t);
  if (l->mapping->broken)
    return prelux_problem(why, EIO, "%s", l->mapping->cause ? l->mapping->cause : "the configuration is broken");
  const char *root = l->mapping->root;
  if (asprintf(&l->object, "%s%s%s", root, root[0] && t->rel[0] ? "/" : "", t->rel) < 0)
  {
    l->object = NULL;
    return -ENOMEM;
  }
  return ask(l, why);
}

static cJSON *result_json(const struct load *l)
{
  const struct prelux_load *r = &l->result;
  cJSON *out = cJSON_CreateObject();
  prelux_json_text(out, "path", l->path);
  prelux_json_text(out, "remote", l->object);
  prelux_json_text(out, "backend", l->mapping->backend);
  cJSON_AddStringToObject(out, "state", states[r->state]);
  cJSON_AddBoolToObject(out, "attached", r->attached);
  cJSON_AddNumberToObject(out, "bytes_done", (double)r->bytes_done);
  cJSON_AddNumberToObject(out, "bytes_total", (double)r->bytes_total);
  cJSON_AddNumberToObject(out, "files_failed", (double)r->files_failed);
  prelux_json_text(out, "job", r->job);
  prelux_json_text(out, "text", r->text);
  return out;
}

bool prelux_ctl_load(struct prelux_ctl *x)
{
  struct load l = {.x = x};
  struct prelux_target t;
  struct prelux_problem why = {0};
  int err = parse(&l, &why), mapped = 0;
  if (err == 0)
    err = mapped = prelux_ctl_target(x, l.path, &t, NULL);
  if (err >= 0 && l.path)
    err = mapped ? ask_by_path(&l, &t, &why) : ask_by_uri(&l, &why);
  bool done = err < 0 ? prelux_ctl_fail(x, err, &why) : prelux_ctl_answer(x, result_json(&l));
  free(l.object);
  if (mapped > 0)
    prelux_target_release(&t);
  return done;
}
