/* Verbs about logical paths. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/listing.h"
#include "lib/map/match.h"

static const char *const state_names[] = {
    [PRELUX_STATE_ABSENT] = "absent",
    [PRELUX_STATE_CACHED] = "cached",
    [PRELUX_STATE_PARTIAL] = "partial",
    [PRELUX_STATE_NEGATIVE] = "negative",
    [PRELUX_STATE_DIRECTORY] = "directory",
};

/* The remote as configured, and the rest of the path. */
static void add_remote(cJSON *out, const char *remote, const char *rel)
{
  size_t n = strlen(remote);
  char *text = malloc(n + strlen(rel) + 2);
  if (!text)
    return;
  strcpy(text, remote);
  if (rel[0] && n && remote[n - 1] != '/' && remote[n - 1] != ':')
    strcat(text, "/");
  strcat(text, rel);
  prelux_json_text(out, "remote", text);
  free(text);
}

/* The object below the backend's root; malloc'd. */
static char *object_of(const struct prelux_live_mapping *m, const char *rel)
{
  char *out = NULL;
  return asprintf(&out, "%s%s%s", m->root, m->root[0] && rel[0] ? "/" : "", rel) < 0 ? NULL : out;
}

static int add_owner(void *arg, const char *owner)
{
  cJSON_AddItemToArray(arg, cJSON_CreateString(owner));
  return 0;
}

/* Which workers would be asked; who they are may have to be asked for first. */
static void add_owners(cJSON *out, const struct prelux_live_mapping *m, const char *rel)
{
  struct prelux_problem why = {0};
  cJSON *list = cJSON_AddArrayToObject(out, "owners");
  char *object = m->broken ? NULL : object_of(m, rel);
  if (object && prelux_instance_owners(m->instance, object, add_owner, list, &why) < 0)
    prelux_json_text(out, "owners_cause", why.text);
  free(object);
}

bool prelux_ctl_map(struct prelux_ctl *x)
{
  struct prelux_target t;
  struct prelux_object_info info = {0};
  cJSON *out;
  int ret = prelux_ctl_target(x, x->args[0], &t, NULL);
  if (ret < 0)
    return prelux_ctl_fail(x, ret, NULL);
  out = cJSON_CreateObject();
  prelux_json_text(out, "path", x->args[0]);
  if (ret == 0)
  {
    cJSON_AddNullToObject(out, "mapping");
    return prelux_ctl_answer(x, out);
  }
  const struct prelux_table_mapping *tm = &prelux_table_mappings(x->table->table)[t.mapping];
  const struct prelux_live_mapping *m = prelux_target_mapping(&t);
  const char *local = prelux_table_str(x->table->table, tm->local);
  const char *tree = m->broken && m->cache ? m->cache : prelux_table_str(x->table->table, tm->tree);
  char *cache = prelux_join(tree, t.rel);
  if (!m->broken)
    prelux_store_info(&m->view, t.object, &info);
  prelux_json_text(out, "mapping", local[0] ? local : "/");
  add_remote(out, prelux_table_str(x->table->table, tm->remote), t.rel);
  prelux_json_text(out, "cache", cache ? cache : "");
  cJSON_AddStringToObject(out, "freshness", prelux_freshness_name(tm->freshness));
  int owed = m->broken ? -ENOENT : prelux_store_owed_state(&m->view, t.object);
  cJSON_AddStringToObject(out, "state", owed < 0 ? state_names[info.state] : owed == PRELUX_OWED_OPEN ? "dirty" : "pending");
  prelux_json_text(out, "version", info.version);
  add_owners(out, m, t.rel);
  if (m->broken)
    prelux_json_text(out, "broken", m->cause ? m->cause : "the configuration is broken");
  free(cache);
  prelux_target_release(&t);
  return prelux_ctl_answer(x, out);
}

static const char *type_name(unsigned type)
{
  return type == PRELUX_DIR ? "directory" : "file";
}

static void add_attr(cJSON *o, unsigned type, uint64_t size, int64_t mtime_ns, uint32_t mode, uint64_t ino)
{
  cJSON_AddStringToObject(o, "type", type_name(type));
  cJSON_AddNumberToObject(o, "size", (double)size);
  char digits[24]; /* 64 bits do not fit into a double */
  cJSON_AddNumberToObject(o, "mtime", (double)mtime_ns / 1e9);
  snprintf(digits, sizeof digits, "%lld", (long long)mtime_ns);
  cJSON_AddRawToObject(o, "mtime_ns", digits);
  cJSON_AddNumberToObject(o, "mode", mode);
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)ino);
  cJSON_AddRawToObject(o, "ino", digits);
}

/* Unmapped paths are nothing of ours: ENOENT with a word of explanation. */
static bool unmapped(struct prelux_ctl *x, const char *path)
{
  struct prelux_problem why = {0};
  return prelux_ctl_fail(x, prelux_problem(&why, ENOENT, "%s is in no mapping", path), &why);
}

bool prelux_ctl_stat(struct prelux_ctl *x)
{
  struct prelux_target t;
  struct prelux_attr attr;
  struct prelux_problem why = {0};
  int ret = prelux_ctl_target(x, x->args[0], &t, NULL);
  if (ret <= 0)
    return ret < 0 ? prelux_ctl_fail(x, ret, NULL) : unmapped(x, x->args[0]);
  ret = prelux_target_ask(x->d, &t, PRELUX_ASK_STAT, 0, &attr, NULL, &why);
  prelux_target_release(&t);
  if (ret < 0)
    return prelux_ctl_fail(x, ret, &why);
  cJSON *out = cJSON_CreateObject();
  prelux_json_text(out, "path", x->args[0]);
  add_attr(out, attr.type, attr.size, attr.mtime_ns, attr.mode, attr.ino);
  cJSON_AddBoolToObject(out, "cached", attr.cached);
  return prelux_ctl_answer(x, out);
}

static void add_child(const char *name, size_t len, bool is_root, int mapping, void *arg)
{
  char *copy = strndup(name, len);
  cJSON *o = cJSON_CreateObject(), *old, *list = arg;
  if (copy)
  {
    cJSON_ArrayForEach(old, list)
    {
      const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(old, "name"));
      if (s && strcmp(s, copy) == 0) /* the mapping hides the remote's own entry */
        break;
    }
    if (old)
      cJSON_Delete(cJSON_DetachItemViaPointer(list, old));
    prelux_json_text(o, "name", copy);
    add_attr(o, PRELUX_DIR, 0, 0, 0, 0);
    cJSON_AddItemToArray(list, o);
  }
  else
    cJSON_Delete(o);
  free(copy);
}

static int list_into(struct prelux_ctl *x, const struct prelux_target *t, cJSON *list, struct prelux_problem *why)
{
  struct prelux_attr attr;
  struct prelux_list l;
  int fd = -1, ret = prelux_target_ask(x->d, t, PRELUX_ASK_LIST, 0, &attr, &fd, why);
  if (ret == 0)
    ret = prelux_list_open(&l, fd);
  if (ret < 0)
    return ret;
  for (uint32_t i = 0; i < l.head->count; i++)
  {
    const struct prelux_listing_entry *e = &l.head->entries[i];
    cJSON *o = cJSON_CreateObject();
    prelux_json_text(o, "name", prelux_list_name(&l, i));
    add_attr(o, e->type, e->size, e->mtime_ns, e->mode, e->ino);
    cJSON_AddItemToArray(list, o);
  }
  prelux_list_close(&l);
  return 0;
}

bool prelux_ctl_ls(struct prelux_ctl *x)
{
  struct prelux_target t;
  struct prelux_problem why = {0};
  bool below = false;
  int ret = prelux_ctl_target(x, x->args[0], &t, &below);
  if (ret < 0)
    return prelux_ctl_fail(x, ret, NULL);
  if (ret == 0 && !below)
    return unmapped(x, x->args[0]);
  cJSON *out = cJSON_CreateObject();
  prelux_json_text(out, "path", x->args[0]);
  cJSON *list = cJSON_AddArrayToObject(out, "entries");
  if (ret == 1)
  {
    ret = list_into(x, &t, list, &why);
    prelux_target_release(&t);
    if (ret < 0)
    {
      cJSON_Delete(out);
      return prelux_ctl_fail(x, ret, &why);
    }
  }
  if (below)
    prelux_table_children(x->table->table, x->args[0], add_child, list);
  return prelux_ctl_answer(x, out);
}

struct evicted {
  uint64_t files, bytes, busy;
};

static int evict_one(const struct prelux_target *t, struct evicted *sum)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  uint64_t files = 0, bytes = 0, busy = 0;
  if (m->broken)
    return -EIO;
  int ret = prelux_store_evict(&m->view, t->object, &files, &bytes, &busy);
  sum->files += files;
  sum->bytes += bytes;
  sum->busy += busy;
  return ret;
}

/* PATH and every mapping below it. */
static int evict_path(struct prelux_ctl *x, const char *path, struct evicted *sum)
{
  struct prelux_target *targets;
  size_t n;
  int ret = prelux_ctl_targets(x, path, &targets, &n);
  if (ret == 0 && n == 0)
    ret = -ENOENT;
  for (size_t i = 0; ret == 0 && i < n; i++)
    ret = evict_one(&targets[i], sum);
  prelux_ctl_targets_free(targets, n);
  return ret;
}

bool prelux_ctl_evict(struct prelux_ctl *x)
{
  struct evicted sum = {0};
  for (unsigned i = 0; i < x->n_args; i++)
  {
    int ret = evict_path(x, x->args[i], &sum);
    if (ret == -ENOENT)
      return unmapped(x, x->args[i]);
    if (ret < 0)
      return prelux_ctl_fail(x, ret, NULL);
  }
  cJSON *out = cJSON_CreateObject();
  cJSON_AddNumberToObject(out, "files", (double)sum.files);
  cJSON_AddNumberToObject(out, "bytes", (double)sum.bytes);
  cJSON_AddNumberToObject(out, "busy", (double)sum.busy);
  return prelux_ctl_answer(x, out);
}
