/* Shared by the files of lib/conf; nobody else includes this.
 *
 * Theory of operation. A load has one loader: where its result and its complaints go. Each file read is a doc: a libyaml
 * document whose size was bounded before it was built, and whose walk is bounded again, since aliases can make a small
 * document a huge tree. Everything that walks a doc goes on after a mistake, so that one pass names them all; a mistake is
 * said once, by the code that saw it, and what hangs on the broken value keeps quiet.
 * int functions return 0, -EINVAL (complained) or -ENOMEM. */
#ifndef PRELUX_CONF_INTERNAL_H
#define PRELUX_CONF_INTERNAL_H

#include <yaml.h>

#include "lib/conf/conf.h"

#define PRELUX_CONF_FILE_MAX ((size_t)16 << 20)
#define PRELUX_CONF_SECRET_MAX ((size_t)64 << 10)
#define PRELUX_CONF_PATH_MAX 4096
#define PRELUX_CONF_NODES_MAX 1000000u  /* of a document as written */
#define PRELUX_CONF_VISITS_MAX 4000000u /* of the tree behind its aliases */
#define PRELUX_CONF_DEPTH_MAX 64
#define PRELUX_CONF_ANCHORS_MAX 4096u /* libyaml searches them one by one */
#define PRELUX_CONF_ALIASES_MAX 65536u
#define PRELUX_CONF_KEYS_MAX 4096u /* of one map: duplicates are searched one by one */
#define PRELUX_CONF_ERRORS_MAX 200u
#define PRELUX_CONF_WARNINGS_MAX 100u
#define PRELUX_CONF_NAME_MAX 64  /* of a key, with its NUL */
#define PRELUX_CONF_ROWS_MAX 256 /* of the key table */

/* memory.c: blocks that live and die with a conf. */
struct prelux_conf_memory *prelux_conf_memory_create(void);
void prelux_conf_memory_free(struct prelux_conf_memory *m); /* wipes */
void *prelux_conf_alloc(struct prelux_conf_memory *m, size_t bytes); /* zeroed; NULL: no memory */
char *prelux_conf_dup(struct prelux_conf_memory *m, const char *s, size_t len);

struct prelux_conf_at {
  const char *file;
  int order; /* of the file among those read */
  int line, column;
};

struct prelux_conf_complaint {
  struct prelux_conf_at at;
  char *text;
};

struct prelux_conf_loader {
  const struct prelux_conf_input *in;
  struct prelux_conf *conf;
  char *home;                              /* "" where nobody knows */
  struct prelux_conf_complaint *complaints; /* malloc'd */
  size_t n_complaints, dropped;
  size_t cap_env;
  int files;
  bool no_memory;
};

/* report.c */
void prelux_conf_complain(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What is no mistake but worth a word: into conf->warnings. 0 or -ENOMEM. */
int prelux_conf_warn(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* All complaints by position, "file:line:column: message\n" each; malloc'd, NULL: none or no memory. */
char *prelux_conf_report(struct prelux_conf_loader *l);
void prelux_conf_report_release(struct prelux_conf_loader *l);
/* `s` for a message: cut, control characters replaced, in quotes. */
#define PRELUX_CONF_QUOTED 72
const char *prelux_conf_quote(char buf[PRELUX_CONF_QUOTED], const char *s);
/* The name that `wrong` was probably meant to be; false: none is near. next() gives NULL at the end. */
bool prelux_conf_nearest(const char *wrong, const char *(*next)(void *arg, size_t i), void *arg, char ret[PRELUX_CONF_NAME_MAX]);

/* env.c */
const char *prelux_conf_env(char *const *env, const char *name); /* NULL: unset */
int prelux_conf_env_use(struct prelux_conf_loader *l, const char *name, const char **ret); /* and notes it; NULL: unset */
/* Home folder of `user` (NULL: the caller's, HOME first); length, -ENOENT or -ENAMETOOLONG. */
long prelux_conf_home(char *const *env, const char *user, char *out, size_t cap);
/* ${NAME} -> value, $${ -> ${. *ret may be `text` itself. */
int prelux_conf_expand(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, const char **ret);
/* ~, ~user, relative -> absolute normalised path. `what` for the message. */
int prelux_conf_path(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *what, const char *text, char **ret);

/* doc.c */
struct prelux_conf_doc {
  const char *file;
  int order;
  yaml_document_t yaml;
  bool loaded, spent;
  bool last_wins; /* a repeated key is no mistake (azfuse) */
  size_t visits;
};
/* Whole file, NUL-terminated, malloc'd, by the input's reader if it has one. -errno; -EFBIG above max. Says nothing. */
int prelux_conf_slurp(struct prelux_conf_loader *l, const char *path, bool secret, size_t max, char **ret, size_t *ret_len);
/* `file` must outlive the doc. Release it in any case. */
int prelux_conf_doc_parse(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const char *file, const char *text, size_t len);
void prelux_conf_doc_release(struct prelux_conf_doc *d);
yaml_node_t *prelux_conf_doc_root(struct prelux_conf_doc *d); /* NULL: empty */
yaml_node_t *prelux_conf_doc_node(struct prelux_conf_doc *d, int index);
struct prelux_conf_at prelux_conf_doc_at(const struct prelux_conf_doc *d, const yaml_node_t *n);
bool prelux_conf_is_null(const yaml_node_t *n);
/* A scalar's text, or NULL after a complaint that `what` must be `must`. */
const char *prelux_conf_scalar(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const yaml_node_t *n, const char *what,
                               const char *must);
/* Takes one step of the walk; -EINVAL once the document has used up its steps. */
int prelux_conf_visit(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const yaml_node_t *n);

struct prelux_conf_pair {
  const char *name;
  yaml_node_t *key, *value;
};
struct prelux_conf_map {
  struct prelux_conf_pair *pairs; /* malloc'd */
  size_t n, cap;
};
/* The keys of a mapping node, `<<` merged in; complains of repeated and odd keys and leaves them out. */
int prelux_conf_map_open(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n, struct prelux_conf_map *ret);
void prelux_conf_map_close(struct prelux_conf_map *m);
const struct prelux_conf_pair *prelux_conf_map_find(const struct prelux_conf_map *m, const char *name);

/* scalar.c: texts to numbers; 0 or -EINVAL, -ERANGE. Nothing is said. */
int prelux_conf_parse_int(const char *s, int64_t *ret);
int prelux_conf_parse_size(const char *s, int64_t *ret);
int prelux_conf_parse_duration(const char *s, int64_t *ret);
int prelux_conf_parse_share(const char *s, double *ret);
int prelux_conf_parse_mode(const char *s, int64_t *ret);
int prelux_conf_parse_bool(const char *s, int64_t *ret);
int prelux_conf_parse_enum(const char *choices, const char *s, int64_t *ret, const char **ret_word, size_t *ret_len);
/* Sets number and share from v->text by v->key. -EINVAL: not of this type; -ERANGE: out of range. */
int prelux_conf_convert(struct prelux_conf_value *v);
const char *prelux_conf_type_name(enum prelux_conf_type t); /* "a size such as 4MiB" */

/* exposed.c: whether every user of this machine can read the file, now. */
bool prelux_conf_exposed(const struct prelux_conf_loader *l, const char *path);
/* A value as it is written at `at` (of an item of a map: by that name): -EINVAL, and complained of, when it is a secret in such a file. */
int prelux_conf_check_exposed(struct prelux_conf_loader *l, struct prelux_conf_at at, const struct prelux_conf_key *key, const char *name, const char *text);

/* value.c: *ret is untouched on failure; 1: null, as good as not given. */
int prelux_conf_value_read(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const struct prelux_conf_key *key,
                           yaml_node_t *n, struct prelux_conf_value *ret);
int prelux_conf_value_default(struct prelux_conf_loader *l, const struct prelux_conf_key *key, struct prelux_conf_value *ret);

/* section.c: all keys of one `where` from map node `n` (NULL: none given), defaults added. Goes on after mistakes: then the
 * value is missing and -EINVAL is returned at the end. */
int prelux_conf_section_read(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n,
                             enum prelux_conf_where where, const char *backend, struct prelux_conf_value **ret, size_t *ret_n);
/* Adds the defaults that are not among values[*n], which has room. 0 or -ENOMEM. */
int prelux_conf_section_defaults(struct prelux_conf_loader *l, enum prelux_conf_where where, const char *backend,
                                 struct prelux_conf_value *values, size_t *n);
const struct prelux_conf_key *prelux_conf_row(enum prelux_conf_where where, const char *backend, const char *name);
const struct prelux_conf_value *prelux_conf_find_value(const struct prelux_conf_value *v, size_t n, const char *name);

/* settings.c: top level, cache, log and metrics. The defaults are set first, so that a broken file has them too. */
int prelux_conf_settings_default(struct prelux_conf_loader *l);
int prelux_conf_settings_read(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *root,
                              const struct prelux_conf_map *top);

/* native.c, azfuse.c: fill l->conf from a parsed document. */
int prelux_conf_native(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *root);
int prelux_conf_azfuse(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *root);
/* Does azfuse's environment switch it off? Complains of what is no number. */
int prelux_conf_azfuse_switch(struct prelux_conf_loader *l, struct prelux_conf_at at, bool *ret_off);
/* Value of QD_name, else AZFUSE_name, else NULL; used: the name that counted. */
int prelux_conf_azfuse_env(struct prelux_conf_loader *l, const char *name, const char **ret, char used[64]);
/* Text as Python's int() reads it; false: no number. */
bool prelux_conf_python_int(const char *s, long *ret);
/* account.c: makes sure there is a backend for `storage_account: name`, read on first use. A broken one stays without a type
 * and is complained of once. */
int prelux_conf_account_use(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *name);
/* backend.c: what one row of the key table cannot say. */
int prelux_conf_backends_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d);
/* A mapping that promises more than its backend keeps. */
int prelux_conf_durable_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m);
/* alluxio.c: what `options` says by Alluxio's property names becomes the native keys' values. */
int prelux_conf_alluxio_fold(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, struct prelux_conf_backend *b);
/* host[:port], IPv6 in brackets; url: http:// or https:// may stand before it, a slash behind it. */
bool prelux_conf_is_place(const char *s, bool url);
/* Sets env and under of every backend that has a type. 0 or -ENOMEM. */
int prelux_conf_backends_bind(struct prelux_conf_loader *l);
/* Notes the variables that backends of this type look at. */
int prelux_conf_kind_env_use(struct prelux_conf_loader *l, const char *type);
/* place.c */
int prelux_conf_local(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, char **ret);
/* Slashes folded, none at either end; -EINVAL for "." and ".." and too long. */
int prelux_conf_object_path(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, char **ret);

/* Rules between mappings: none may be unreachable, none share a cache folder that shows something else. */
int prelux_conf_rules_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d);
/* Keys of writing that have no effect where they stand are warned of, those that cannot go together refused. */
int prelux_conf_writing_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m);

/* rescue.c: adds to conf->mappings every `local:` that a scan of the lines finds and that is not there. */
int prelux_conf_rescue(struct prelux_conf_loader *l, const char *text, size_t len);
/* Is this, as far as its first line tells, a list? */
bool prelux_conf_looks_like_list(const char *text, size_t len);

#endif
