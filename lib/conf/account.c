/* azfuse's storage accounts: `storage_account: name` in a mapping -> FOLDER/name.yaml, with `_base_` includes -> a backend. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/path.h"
#include "lib/conf/internal.h"

#define BASES_MAX 16 /* `_base_` in `_base_` */

enum field { ACCOUNT, CONTAINER, KEY, SAS, DEFAULT_CRED, FIELDS };
static const char *const field_names[FIELDS] = {"account_name", "container_name", "account_key", "sas_token", "use_default_azure_cred"};

struct account {
  const char *value[FIELDS]; /* NULL: not given, null or empty */
  struct prelux_conf_at at[FIELDS];
  struct prelux_conf_at root; /* of the account's own file */
};

struct include { /* the files that lead to this one */
  const struct include *from;
  const char *path;
  int depth;
};

static int read_account(struct prelux_conf_loader *l, const char *path, struct prelux_conf_at at, const struct include *from,
                        struct account *ret);

/* `_base_`: what the named file says, before the including one overlays it. Of what azfuse overlays leaf by leaf only the
 * five fields count, all scalars; so laying one over the other whole comes to the same. */
static int read_base(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const struct prelux_conf_pair *p,
                     const struct include *here, struct account *ret)
{
  char path[PRELUX_CONF_PATH_MAX], folder[PRELUX_CONF_PATH_MAX];
  const char *name = prelux_conf_scalar(l, d, p->value, "_base_", "the name of a file");
  if (!name)
    return -EINVAL;
  snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(d->file, '/') - d->file) + 1, d->file);
  if (prelux_path_join(path, sizeof path, folder, name) < 0)
  {
    prelux_conf_complain(l, prelux_conf_doc_at(d, p->value), "`_base_` is too long");
    return -EINVAL;
  }
  return read_account(l, path, prelux_conf_doc_at(d, p->value), here, ret);
}

static int take_fields(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const struct prelux_conf_map *m, struct account *ret)
{
  int bad = 0;
  for (int f = 0; f < FIELDS; f++)
  {
    const struct prelux_conf_pair *p = prelux_conf_map_find(m, field_names[f]);
    if (!p)
      continue;
    ret->at[f] = prelux_conf_doc_at(d, p->value);
    ret->value[f] = NULL;
    if (prelux_conf_is_null(p->value))
      continue;
    const char *text = prelux_conf_scalar(l, d, p->value, field_names[f], "a string");
    if (!text)
      bad = -EINVAL;
    else if (*text && !(ret->value[f] = prelux_conf_dup(l->conf->memory, text, strlen(text))))
      return -ENOMEM;
    if ((f == KEY || f == SAS) && ret->value[f] && prelux_conf_exposed(l, d->file)) /* azfuse takes it, and jobs of azfuse are to run as they are */
      if (prelux_conf_warn(l, ret->at[f], "`%s` is a secret, and every user of this machine can read the file: chmod o-r", field_names[f]) < 0)
        return -ENOMEM;
  }
  return bad;
}

static int parse_account(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const struct include *here, struct account *ret)
{
  yaml_node_t *root = prelux_conf_doc_root(d);
  struct prelux_conf_map m;
  if (!root || root->type != YAML_MAPPING_NODE)
  {
    prelux_conf_complain(l, prelux_conf_doc_at(d, root), "a storage account must be a map");
    return -EINVAL;
  }
  int bad = prelux_conf_map_open(l, d, root, &m);
  const struct prelux_conf_pair *base = prelux_conf_map_find(&m, "_base_");
  if (base && bad == 0)
    bad = read_base(l, d, base, here, ret);
  ret->root = prelux_conf_doc_at(d, root);
  if (bad == 0)
    bad = take_fields(l, d, &m, ret);
  prelux_conf_map_close(&m);
  return bad;
}

/* Reads one file of an account; `at` is where it was asked for. */
static int read_account(struct prelux_conf_loader *l, const char *path, struct prelux_conf_at at, const struct include *from,
                        struct account *ret)
{
  struct include here = {.from = from, .path = path, .depth = from ? from->depth + 1 : 0};
  struct prelux_conf_doc d = {.last_wins = true};
  char *text, q[PRELUX_CONF_QUOTED];
  size_t len;
  int err = here.depth > BASES_MAX ? -ELOOP : 0;
  for (const struct include *i = from; i; i = i->from)
    if (strcmp(i->path, path) == 0)
      err = -ELOOP;
  if (err == 0)
    err = prelux_conf_slurp(l, path, true, PRELUX_CONF_FILE_MAX, &text, &len);
  if (err == -ENOMEM)
    return err;
  if (err < 0)
  {
    prelux_conf_complain(l, at, "the storage account's file %s %s%s", prelux_conf_quote(q, path),
                         err == -ELOOP   ? "includes itself, or files nested too deeply"
                         : err == -EFBIG ? "is larger than 16 MiB"
                                         : "cannot be read: ",
                         err == -ELOOP || err == -EFBIG ? "" : strerror(-err));
    return -EINVAL;
  }
  const char *file = prelux_conf_dup(l->conf->memory, path, strlen(path));
  err = file ? prelux_conf_doc_parse(l, &d, file, text, len) : -ENOMEM;
  if (err == 0)
    err = parse_account(l, &d, &here, ret);
  prelux_conf_doc_release(&d);
  explicit_bzero(text, len);
  free(text);
  return err;
}

/* Adds one value to a backend whose array has room. */
static void add_value(struct prelux_conf_backend *b, const char *key, const char *text, int64_t number)
{
  const struct prelux_conf_key *row = prelux_conf_row(PRELUX_AT_BACKEND, strcmp(key, "type") == 0 ? "*" : "azure", key);
  b->values[b->n_values++] =
      (struct prelux_conf_value){.key = row, .text = (char *)text, .number = number, .line = b->line, .column = b->column};
}

/* The credential that azfuse would take, and only that: SAS, key, default credential, none. */
static int take_account(struct prelux_conf_loader *l, const struct account *a, struct prelux_conf_backend *b)
{
  int64_t cred = 0, type;
  const char *word;
  size_t len;
  if (a->value[DEFAULT_CRED] && prelux_conf_parse_bool(a->value[DEFAULT_CRED], &cred) < 0 &&
      (prelux_conf_parse_int(a->value[DEFAULT_CRED], &cred) < 0))
  {
    prelux_conf_complain(l, a->at[DEFAULT_CRED], "`use_default_azure_cred` must be true or false");
    return -EINVAL;
  }
  for (int f = ACCOUNT; f <= CONTAINER; f++)
    if (!a->value[f])
    {
      prelux_conf_complain(l, a->root, "the key `%s` is missing or empty", field_names[f]);
      return -EINVAL;
    }
  b->values = prelux_conf_alloc(l->conf->memory, PRELUX_CONF_ROWS_MAX * sizeof *b->values);
  if (!b->values)
    return -ENOMEM;
  prelux_conf_parse_enum(prelux_conf_row(PRELUX_AT_BACKEND, "*", "type")->choices, "azure", &type, &word, &len);
  b->type = (char *)"azure";
  add_value(b, "type", b->type, type);
  add_value(b, "account", a->value[ACCOUNT], 0);
  add_value(b, "container", a->value[CONTAINER], 0);
  if (a->value[SAS])
    add_value(b, "sas_token", a->value[SAS] + (a->value[SAS][0] == '?'), 0);
  else if (a->value[KEY])
    add_value(b, "account_key", a->value[KEY], 0);
  else if (cred)
    add_value(b, "default_credential", "true", 1);
  return prelux_conf_section_defaults(l, PRELUX_AT_BACKEND, "azure", b->values, &b->n_values);
}

int prelux_conf_account_use(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *name)
{
  struct prelux_conf *c = l->conf;
  struct prelux_conf_backend *b = &c->backends[c->n_backends];
  struct account a = {.root = at};
  const char *folder;
  char used[64], path[PRELUX_CONF_PATH_MAX], file[PRELUX_CONF_PATH_MAX];
  if (prelux_conf_backend(c, name))
    return 0;
  int err = prelux_conf_azfuse_env(l, "STORAGE_ACCOUNT_CONFIG_FOLDER", &folder, used);
  if (err < 0)
    return err;
  *b = (struct prelux_conf_backend){.name = prelux_conf_dup(c->memory, name, strlen(name)), .line = at.line, .column = at.column};
  if (!b->name)
    return -ENOMEM;
  c->n_backends++;
  if (snprintf(file, sizeof file, "%s/%s.yaml", folder ? folder : "./aux_data/storage_account", name) >= (int)sizeof file ||
      prelux_path_join(path, sizeof path, l->in->cwd, file) < 0)
  {
    prelux_conf_complain(l, at, "the path of the storage account's file is too long, or relative to an unknown folder");
    return -EINVAL;
  }
  err = read_account(l, path, at, NULL, &a);
  return err < 0 ? err : take_account(l, &a, b);
}
