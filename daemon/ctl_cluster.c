/* cluster: what is done to the cluster behind a path rather than to its bytes.
 *
 * What the remote does here happens behind the store's back. So nothing of it may be under way on this node: a change below the path that
 * is not on the remote yet would be sent to something else, or undo it (-EBUSY: flush first). And afterwards, were it done or not, what is
 * known of the path is forgotten, in every mapping of the same data. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "daemon/report.h"
#include "include/prelux/ctl.h"
#include "lib/base/errlog.h"
#include "lib/base/log.h"
#include "lib/base/path.h"
#include "lib/map/match.h"

#define OBJECT_MAX 8192

static const char *const verbs[] = {
    [PRELUX_CLUSTER_FREE] = "free",       [PRELUX_CLUSTER_MOUNT] = "mount", [PRELUX_CLUSTER_UNMOUNT] = "unmount",
    [PRELUX_CLUSTER_SETATTR] = "setattr", [PRELUX_CLUSTER_INFO] = "info",   [PRELUX_CLUSTER_LOCATE] = "locate",
};

/* The object in one tree of this node. */
struct place {
  const struct prelux_view *view;
  char *object; /* malloc'd */
};

/* One request as the arguments say it. */
struct cluster {
  struct prelux_ctl *x;
  struct prelux_cluster call;
  char **properties; /* as call.properties: of n_properties pairs */
  size_t n_properties;
  const char *path;
  const struct prelux_live_mapping *mapping; /* of whose backend it is */
  char object[OBJECT_MAX];                   /* below that backend's root */
  struct place *places;
  size_t n_places;
  struct prelux_live_table **tables; /* held: places are in them */
  size_t n_tables;
};

/* ---- arguments ---- */

#define FREE (1u << PRELUX_CLUSTER_FREE)
#define MOUNT (1u << PRELUX_CLUSTER_MOUNT)
#define SETATTR (1u << PRELUX_CLUSTER_SETATTR)
#define AT(member) offsetof(struct prelux_cluster, member)

static const struct option {
  const char *name;
  enum { FLAG, TEXT, BOOL, MODE, NUMBER } kind; /* FLAG: no value */
  unsigned verbs;
  size_t at; /* of the member */
  unsigned bit; /* enum prelux_cluster_bits; 0: none */
} options[] = {
    {"recursive", FLAG, FREE | SETATTR, AT(recursive), 0},
    {"forced", FLAG, FREE, AT(forced), 0},
    {"read-only", FLAG, MOUNT, AT(read_only), 0},
    {"shared", FLAG, MOUNT, AT(shared), 0},
    {"source", TEXT, MOUNT, AT(source), 0},
    {"owner", TEXT, SETATTR, AT(owner), 0},
    {"group", TEXT, SETATTR, AT(group), 0},
    {"ttl-action", TEXT, SETATTR, AT(ttl_action), 0},
    {"mode", MODE, SETATTR, AT(mode), PRELUX_CLUSTER_MODE},
    {"pinned", BOOL, SETATTR, AT(pinned), PRELUX_CLUSTER_PINNED},
    {"persisted", BOOL, SETATTR, AT(persisted), PRELUX_CLUSTER_PERSISTED},
    {"ttl", NUMBER, SETATTR, AT(ttl_ms), PRELUX_CLUSTER_TTL},
    {"replication-min", NUMBER, SETATTR, AT(replication_min), PRELUX_CLUSTER_REPLICATION_MIN},
    {"replication-max", NUMBER, SETATTR, AT(replication_max), PRELUX_CLUSTER_REPLICATION_MAX},
};

/* False: no value of that kind. */
static bool take_value(const struct option *o, const char *value, void *to)
{
  char *end = NULL;
  long long n;
  switch (o->kind)
  {
  case FLAG:
    *(bool *)to = true;
    return value == NULL;
  case TEXT:
    *(const char **)to = value;
    return value && *value;
  case BOOL:
    *(bool *)to = value && strcmp(value, "true") == 0;
    return value && (*(bool *)to || strcmp(value, "false") == 0);
  case MODE:
    n = value && *value >= '0' && *value <= '7' ? strtoll(value, &end, 8) : -1;
    *(uint32_t *)to = (uint32_t)n & 0777;
    return n >= 0 && n <= 0777 && *end == 0;
  case NUMBER:
    errno = 0;
    n = value && *value ? strtoll(value, &end, 10) : -2;
    *(int64_t *)to = n;
    return n >= -1 && *end == 0 && errno == 0;
  }
  return false;
}

/* "KEY=VALUE". The text may be a secret: it is in no message. */
static int take_property(struct cluster *c, const char *text, struct prelux_problem *why)
{
  const char *equals = strchr(text, '=');
  if (!equals || equals == text)
    return prelux_problem(why, EINVAL, "cluster mount: a property is KEY=VALUE");
  char **more = realloc(c->properties, (2 * c->n_properties + 3) * sizeof *more);
  char *key = strndup(text, (size_t)(equals - text)), *value = strdup(equals + 1);
  c->properties = more ? more : c->properties;
  if (!more || !key || !value)
  {
    free(key);
    free(value);
    return -ENOMEM;
  }
  more[2 * c->n_properties] = key;
  more[2 * c->n_properties + 1] = value;
  more[2 * ++c->n_properties] = NULL;
  return 0;
}

static int take_option(struct cluster *c, const char *word, struct prelux_problem *why)
{
  size_t len = strcspn(word, "=");
  const char *value = word[len] ? word + len + 1 : NULL;
  if (len == 8 && strncmp(word, "property", len) == 0 && c->call.verb == PRELUX_CLUSTER_MOUNT)
    return take_property(c, value ? value : "", why);
  for (size_t i = 0; i < sizeof options / sizeof *options; i++)
  {
    const struct option *o = &options[i];
    if (strlen(o->name) != len || strncmp(o->name, word, len) != 0)
      continue;
    if (!(o->verbs & 1u << c->call.verb))
      return prelux_problem(why, EINVAL, "cluster %s takes no %s", verbs[c->call.verb], o->name);
    if (!take_value(o, value, (char *)&c->call + o->at))
      return prelux_problem(why, EINVAL, "cluster %s: %s: %s is no value for it", verbs[c->call.verb], o->name, value ? value : "nothing");
    c->call.which |= o->bit;
    return 0;
  }
  return prelux_problem(why, EINVAL, "cluster: unknown option %.*s", (int)len, word);
}

static int parse(struct cluster *c, struct prelux_problem *why)
{
  size_t verb = 0;
  while (verb < sizeof verbs / sizeof *verbs && strcmp(verbs[verb], c->x->args[0]) != 0)
    verb++;
  if (verb == sizeof verbs / sizeof *verbs)
    return prelux_problem(why, EINVAL, "cluster: there are free, mount, unmount, setattr, info, locate");
  c->call.verb = (enum prelux_cluster_verb)verb;
  c->path = c->x->args[1];
  int err = 0;
  for (unsigned i = 2; i < c->x->n_args && err == 0; i++)
    err = take_option(c, c->x->args[i], why);
  if (err == 0 && verb == PRELUX_CLUSTER_MOUNT && !c->call.source)
    return prelux_problem(why, EINVAL, "cluster mount: what is to be mounted?");
  if (err == 0 && verb == PRELUX_CLUSTER_SETATTR && !c->call.which && !c->call.owner && !c->call.group && !c->call.ttl_action)
    return prelux_problem(why, EINVAL, "cluster setattr: there is nothing to set");
  c->call.properties = (const char *const *)c->properties;
  return err;
}

/* ---- whose it is ---- */

static int by_path(struct cluster *c, struct prelux_problem *why)
{
  struct prelux_target t;
  int err = prelux_ctl_target(c->x, c->path, &t, NULL);
  if (err <= 0)
    return err < 0 ? err : -ENOENT;
  c->mapping = prelux_target_mapping(&t);
  const char *root = c->mapping->broken ? "" : c->mapping->root;
  int n = snprintf(c->object, sizeof c->object, "%s%s%s", root, root[0] && t.rel[0] ? "/" : "", t.rel);
  prelux_target_release(&t); /* the verb holds the table */
  return n < 0 || (size_t)n >= sizeof c->object ? -ENAMETOOLONG : 0;
}

/* The remote's own URI, or BACKEND:/object: so what no mapping shows can be reached. -ENOENT: neither. */
static int by_uri(struct cluster *c)
{
  struct prelux_live_table *t = c->x->table;
  char *uri = prelux_ctl_uri(c->path);
  size_t name = strcspn(c->path, ":/");
  int err = -ENOENT;
  for (uint32_t i = 0; uri && err == -ENOENT && i < t->n_mappings; i++)
    if (!t->mappings[i].broken && (err = prelux_instance_object(t->mappings[i].instance, uri, c->object, sizeof c->object)) == 0)
      c->mapping = &t->mappings[i];
    else if (err == -EOPNOTSUPP || t->mappings[i].broken)
      err = -ENOENT;
  for (uint32_t i = 0; uri && err == -ENOENT && i < t->n_mappings; i++)
    if (strlen(t->mappings[i].backend) == name && strncmp(t->mappings[i].backend, c->path, name) == 0)
    {
      const char *object = c->path + name + 1;
      c->mapping = &t->mappings[i];
      err = snprintf(c->object, sizeof c->object, "%s", object + (*object == '/')) < (int)sizeof c->object ? 0 : -ENAMETOOLONG;
    }
  free(uri);
  return err;
}

static int find(struct cluster *c, struct prelux_problem *why)
{
  int err = by_path(c, why);
  if (err == -ENOENT)
    err = by_uri(c);
  if (err == -ENOENT)
    return prelux_problem(why, ENOENT, "%s is in no mapping", c->path);
  if (err == 0 && c->mapping->broken)
    return prelux_problem(why, EIO, "%s", c->mapping->cause ? c->mapping->cause : "the configuration is broken");
  return err;
}

/* ---- this node ---- */

/* Object paths: "" is above all. */
static bool below(const char *path, const char *folder, const char **ret_rel)
{
  *ret_rel = path;
  return !*folder || prelux_path_below(path, folder, ret_rel);
}

/* The object in the mapping's tree, malloc'd; NULL: nothing of it, or below it, is in that. */
static char *in_tree(const struct cluster *c, const struct prelux_live_table *t, uint32_t mapping)
{
  const struct prelux_live_mapping *m = &t->mappings[mapping];
  if (m->broken || strcmp(prelux_instance_identity(m->instance), prelux_instance_identity(c->mapping->instance)) != 0)
    return NULL;
  const char *inner = prelux_table_str(t->table, prelux_table_mappings(t->table)[mapping].object), *rel;
  size_t root = strlen(m->root), len = strlen(inner) < root ? root - strlen(inner) : 0; /* the tree is a mirror of this much of m's root */
  char *top = strndup(m->root, len && m->root[len - 1] == '/' ? len - 1 : len), *found = NULL;
  if (top && below(c->object, top, &rel))
    found = strdup(rel);
  else if (top && below(top, c->object, &rel))
    found = strdup("");
  free(top);
  return found;
}

static int add_place(struct cluster *c, const struct prelux_live_table *t, uint32_t mapping)
{
  char *object = in_tree(c, t, mapping);
  const struct prelux_live_mapping *m = &t->mappings[mapping];
  for (size_t i = 0; object && i < c->n_places; i++)
    if (c->places[i].view->tree == m->view.tree) /* shared by mappings, also of other configurations */
    {
      free(object);
      return 0;
    }
  if (!object)
    return 0;
  struct place *more = realloc(c->places, (c->n_places + 1) * sizeof *more);
  if (!more)
  {
    free(object);
    return -ENOMEM;
  }
  c->places = more;
  c->places[c->n_places++] = (struct place){&m->view, object};
  return 0;
}

static void hold_table(struct prelux_live_table *t, void *arg)
{
  struct cluster *c = arg;
  struct prelux_live_table **more = realloc(c->tables, (c->n_tables + 1) * sizeof *more);
  if (!more)
    return;
  c->tables = more;
  c->tables[c->n_tables++] = t;
  atomic_fetch_add(&t->refs, 1);
}

/* Where this node has to do with it, in all configurations that it serves. */
static int find_places(struct cluster *c)
{
  int err = 0;
  prelux_tables_each(c->x->d->tables, hold_table, c);
  for (uint32_t i = 0; i < c->x->table->n_mappings && err == 0; i++)
    err = add_place(c, c->x->table, i);
  for (size_t k = 0; k < c->n_tables; k++)
    for (uint32_t i = 0; i < c->tables[k]->n_mappings && err == 0; i++)
      err = add_place(c, c->tables[k], i);
  return err;
}

struct owing {
  const struct place *place;
  bool below;
  uint64_t n;
};

static bool touches(const struct owing *w, const char *path)
{
  const char *rel;
  return path && below(path, w->place->object, &rel) && (w->below || !*rel);
}

static int count_owed(void *arg, const struct prelux_owed *o)
{
  struct owing *w = arg;
  w->n += o->tree == w->place->view->tree && (touches(w, o->path) || touches(w, o->to));
  return 0;
}

static int nothing_owed(const struct cluster *c, struct prelux_problem *why)
{
  struct owing w = {.below = c->call.verb != PRELUX_CLUSTER_SETATTR || c->call.recursive};
  for (size_t i = 0; i < c->n_places && w.n == 0; i++)
  {
    w.place = &c->places[i];
    prelux_store_owed(prelux_tree_store(w.place->view->tree), count_owed, &w);
  }
  if (w.n == 0)
    return 0;
  prelux_problem(why, EBUSY, "%s: %" PRIu64 " changes made on this node are not on the remote yet", c->path, w.n);
  if (why)
    snprintf(why->advice, sizeof why->advice, "prelux flush, then again; prelux pending list shows them");
  return -EBUSY;
}

/* A mount point that came or went has other files below it: those cached are of no use. After setattr the object is looked at at once, so
 * that an answer from before, which is still on its way to somebody, is the older one. */
static void forget(const struct cluster *c)
{
  const struct prelux_cluster *call = &c->call;
  bool moved = call->verb == PRELUX_CLUSTER_MOUNT || call->verb == PRELUX_CLUSTER_UNMOUNT;
  uint32_t which = (call->which & PRELUX_CLUSTER_MODE ? PRELUX_SETATTR_MODE : 0) | (call->owner ? PRELUX_SETATTR_UID : 0) |
                   (call->group ? PRELUX_SETATTR_GID : 0);
  for (size_t i = 0; i < c->n_places; i++)
  {
    const struct place *p = &c->places[i];
    uint64_t files, bytes, busy;
    struct prelux_attr attr;
    int err = moved ? prelux_store_evict(p->view, p->object, &files, &bytes, &busy) : 0;
    if (err == 0)
      err = prelux_store_forget(p->view, p->object, which, call->recursive || moved);
    if (err < 0)
      prelux_warn("cluster %s %s: what this node knows of it: %s", verbs[call->verb], c->path, strerror(-err));
    if (call->verb == PRELUX_CLUSTER_SETATTR)
      prelux_store_stat(p->view, p->object, 0, &attr, NULL);
  }
  prelux_request_changed();
}

/* ---- answer ---- */

static int add_owner(void *arg, const char *owner)
{
  cJSON_AddItemToArray(arg, cJSON_CreateString(owner));
  return 0;
}

static int add_owners(const struct cluster *c, cJSON *out, struct prelux_problem *why)
{
  const char *identity = prelux_instance_identity(c->mapping->instance), *colon = strchr(identity, ':');
  prelux_json_text(out, "endpoint", colon ? colon + 1 : identity);
  return prelux_instance_owners(c->mapping->instance, c->object, add_owner, cJSON_AddArrayToObject(out, "owners"), why);
}

static cJSON *begin_answer(const struct cluster *c)
{
  char remote[OBJECT_MAX + 300];
  cJSON *out = cJSON_CreateObject();
  snprintf(remote, sizeof remote, "%.256s:/%s", c->mapping->backend, c->object);
  prelux_json_text(out, "path", c->path);
  prelux_json_text(out, "remote", remote);
  prelux_json_text(out, "backend", c->mapping->backend);
  cJSON_AddStringToObject(out, "verb", verbs[c->call.verb]);
  return out;
}

/* A record, as of what a program is refused. That there is no such path is none. */
static void record(const struct cluster *c, int err, const struct prelux_problem *why)
{
  char call[32];
  if (err == -ENOENT || !c->mapping)
    return;
  snprintf(call, sizeof call, "cluster %s", verbs[c->call.verb]);
  const struct prelux_error_record rec = {
      .err = -prelux_report_errno(err), .call = call, .path = c->path, .cause = why->text[0] ? why->text : strerror(-err),
      .backend = c->mapping->backend, .advice = why->advice[0] ? why->advice : NULL};
  prelux_warn("%s %s: %s: %s", call, c->path, prelux_errno_name(rec.err), rec.cause);
  prelux_error_record(c->x->d->runtime, &rec);
}

static int perform(struct cluster *c, cJSON **ret, struct prelux_problem *why)
{
  bool changes = c->call.verb != PRELUX_CLUSTER_INFO && c->call.verb != PRELUX_CLUSTER_LOCATE;
  int err = changes ? find_places(c) : 0;
  if (err == 0 && changes)
    err = nothing_owed(c, why);
  if (err < 0)
    return err;
  *ret = begin_answer(c);
  err = c->call.verb == PRELUX_CLUSTER_LOCATE ? add_owners(c, *ret, why) : 0;
  if (err == 0)
    err = prelux_instance_cluster(c->mapping->instance, c->object, &c->call, *ret, why);
  if (changes && (err == 0 || err == -PRELUX_EUNKNOWN || err == -EIO))
    forget(c);
  if (err == -PRELUX_EUNKNOWN)
    err = prelux_problem(why, EIO, "%s: its answer is lost: it may have been done", c->path);
  return err;
}

static void release(struct cluster *c)
{
  for (size_t i = 0; i < 2 * c->n_properties; i++)
  {
    explicit_bzero(c->properties[i], strlen(c->properties[i]));
    free(c->properties[i]);
  }
  free(c->properties);
  for (size_t i = 0; i < c->n_places; i++)
    free(c->places[i].object);
  free(c->places);
  for (size_t i = 0; i < c->n_tables; i++)
    prelux_live_table_drop(c->tables[i]);
  free(c->tables);
  free(c);
}

bool prelux_ctl_cluster(struct prelux_ctl *x)
{
  struct cluster *c = calloc(1, sizeof *c);
  struct prelux_problem why = {0};
  cJSON *out = NULL;
  if (!c)
    return prelux_ctl_fail(x, -ENOMEM, NULL);
  c->x = x;
  int err = parse(c, &why);
  if (err == 0)
    err = find(c, &why);
  if (err == 0 && (err = perform(c, &out, &why)) < 0)
    record(c, err, &why);
  if (err < 0)
    cJSON_Delete(out);
  bool done = err < 0 ? prelux_ctl_fail(x, err, &why) : prelux_ctl_answer(x, out);
  release(c);
  return done;
}
