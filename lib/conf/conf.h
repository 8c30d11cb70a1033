/* Configuration: YAML -> structs. Only daemon and CLI link this (libyaml).
 * Keys come from one const table (keys.c): name, where, type, default, range, help; from it the parser, `prelux config
 * show`, the example and docs/CONFIGURATION are made. */
#ifndef PRELUX_CONF_CONF_H
#define PRELUX_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum prelux_conf_where { PRELUX_AT_TOP, PRELUX_AT_CACHE, PRELUX_AT_LOG, PRELUX_AT_METRICS, PRELUX_AT_MAPPING, PRELUX_AT_BACKEND };

enum prelux_conf_type {
  PRELUX_T_STRING,
  PRELUX_T_SECRET,   /* string; ${ENV} and file:PATH allowed; never shown */
  PRELUX_T_BOOL,
  PRELUX_T_INT,
  PRELUX_T_SIZE,     /* 512, 4KiB, 4MB (= 4 MiB, Alluxio's way), 200GiB -> bytes */
  PRELUX_T_SHARE,    /* 0.9 or 5% -> stored as double in 0..1; where a size is allowed too: see key */
  PRELUX_T_DURATION, /* 500ms, 60s, 5m, 2h, 1d -> ns */
  PRELUX_T_MODE,     /* 0644 octal */
  PRELUX_T_ENUM,
  PRELUX_T_LIST,     /* list of strings, or one comma-separated string */
  PRELUX_T_MAP,      /* map string -> string (headers, options) */
  PRELUX_T_FRESHNESS,/* immutable | always | skip | {max_age: 60s}; text is the word ("max_age"), number the age in ns */
  PRELUX_T_PATH,     /* local path: ~ expanded, made absolute against cwd */
  PRELUX_T_URL,      /* http:// or https:// and a host */
  PRELUX_T_ADDRESS,  /* host:port; [v6]:port */
  PRELUX_T_SHARE_OR_SIZE, /* a share sets `share`, a size `number`; the other is 0 */
  PRELUX_T_SECTION,  /* has keys of its own: its rows are those of another `where` */
};

struct prelux_conf_key {
  enum prelux_conf_where where;
  const char *backend;  /* AT_BACKEND: its type, "*" for all types; else NULL */
  const char *name;     /* dotted for nested maps: "tls.ca_file" */
  enum prelux_conf_type type;
  const char *fallback; /* default as text, NULL: none */
  const char *choices;  /* ENUM: "a|b|c"; INT/SIZE/DURATION: "min..max" or NULL */
  bool required;
  bool hidden;          /* holds secrets (every SECRET, a MAP of headers): file:PATH allowed, never shown */
  bool later;           /* accepted and checked, but this version (read side only) does nothing with it */
  const char *sample;   /* a valid value as YAML, for the example and the tests; NULL: the default will do */
  const char *help;     /* one line */
};
extern const struct prelux_conf_key prelux_conf_keys[]; /* ends with name NULL */

struct prelux_conf_kind { /* a backend type */
  const char *type;
  bool later;           /* parsed and checked; this version cannot serve it */
  const char *const *env; /* variables of the run's environment that such a backend looks at by itself, NULL-terminated; NULL: none */
  const char *help;
};
extern const struct prelux_conf_kind prelux_conf_kinds[]; /* ends with type NULL */

struct prelux_conf_value { /* one given or defaulted key */
  const struct prelux_conf_key *key;
  char *text;            /* scalar as text, ${ENV} and file: resolved; ENUM: as in `choices`; NULL for LIST and MAP */
  char *raw;             /* scalar as written where ${ENV} or file: was resolved, else NULL: what may be shown */
  int64_t number;        /* BOOL, INT, SIZE, DURATION, MODE; ENUM: index of the choice */
  double share;
  char **items;          /* LIST: strings; MAP: "key", "value" alternating */
  size_t n_items;
  struct prelux_conf_place { int line, column; } *places; /* MAP: where the values stand, n_items / 2 of them */
  int line, column;      /* 0: default */
};

struct prelux_conf_backend {
  char *name;
  char *type;
  struct prelux_conf_value *values;
  size_t n_values;
  char **env;        /* "NAME=value" of those of the kind's variables that are set; NULL-terminated, NULL: none. HOME may be among them */
  const struct prelux_conf_backend *under; /* what `under_store` names, NULL: none */
  bool written;      /* a mapping of this configuration writes by it */
  int line, column;
};

struct prelux_conf_mapping {
  char *local;       /* absolute normalised (cwd at load), or URI "s3:/bucket/x" */
  char *remote;      /* as written, ${ENV} resolved */
  char *backend;     /* name before the colon */
  char *path;        /* object path below the backend's root, no slash at either end */
  char *cache;       /* folder given for this mapping (absolute), or NULL */
  char *staging;     /* the same of staging */
  uint32_t freshness; /* enum prelux_freshness */
  uint64_t max_age_ns, negative_age_ns;
  uint32_t file_mode, dir_mode;
  bool exec_auto;
  struct prelux_conf_value *values; /* all keys, for showing; empty in an azfuse list */
  size_t n_values;
  int line, column;
};

struct prelux_conf {
  char *source;      /* absolute path of the file */
  bool azfuse;       /* a list at top level: first match wins, immutable */
  bool azfuse_off;   /* azfuse list and USE_FUSE says off: no mapping is active */
  struct prelux_conf_backend *backends;
  size_t n_backends;
  struct prelux_conf_mapping *mappings;
  size_t n_mappings;
  /* cache */
  char *cache_dir;         /* NULL: choose (DESIGN 6 "Places") */
  uint64_t cache_max_size; /* 0: half of the file system */
  double cache_high, cache_low;
  uint64_t cache_staging;  /* 0: as cache_max_size */
  double min_free_share;   /* 0 when given in bytes */
  uint64_t min_free_bytes;
  /* others */
  bool outside_links;
  uint64_t daemon_timeout_ns, idle_exit_ns, grace_ns;
  char *log_file, *log_level, *log_format;
  char *metrics_listen;
  /* Names of the environment variables that were looked at (${X}, AZFUSE_USE_FUSE, ...), set or not, each once; not HOME.
   * Complete in the conf of a lenient load too: the names to ask a client for. */
  char **used_env;
  size_t n_used_env;
  char **warnings; /* "file:line:col: message": no mistakes, but worth a word */
  size_t n_warnings;
  struct prelux_conf_value *values; /* all keys of top level, cache, log and metrics, for showing */
  size_t n_values;
  struct prelux_conf_memory *memory; /* owns every string and array above, and this struct; wiped when freed */
};

struct prelux_conf_input {
  const char *file;   /* NULL: find by the order of DESIGN 7 */
  const char *cwd;
  char *const *env;   /* NAME=value */
  bool bare;          /* bare preload: azfuse's USE_FUSE defaults to off */
  /* How files are read: the configuration itself and (secret = true) file:PATH secrets and azfuse's account files with their
   * includes, which hold keys. malloc'd text of *ret_len bytes and a NUL behind it; 0 or -errno. NULL: plain reading.
   * The daemon records and replays what was read (snapshots of tables). Configuration files found by name go through it too. */
  int (*read_file)(void *arg, const char *path, bool secret, char **ret, size_t *ret_len);
  void *read_arg;
  bool replayed; /* what read_file gives was read before: who may read the files now is of no interest */
};

struct prelux_conf_error { char *text; /* "file:line:col: message" lines, '\n' between */ };

/* 0; -ENOENT no configuration anywhere; -ENOMEM; -EINVAL with err->text filled (caller frees it; err may be NULL), one line
 * per mistake, all that can be found in one pass.
 * With lenient = true a broken file still yields a conf beside -EINVAL, for failing closed: mappings[] holds whatever `local:`
 * could be read, even from broken YAML, and only `local` is sure to be set there. Otherwise *ret is untouched on failure. */
int prelux_conf_load(const struct prelux_conf_input *in, bool lenient, struct prelux_conf **ret,
                     struct prelux_conf_error *err);
/* The file that would be loaded: --config > PRELUX_CONFIG > AZFUSE_CLOUD_FUSE_CONFIG_FILE (QD_ first), or azfuse's default
 * file where USE_FUSE is set and not 0 > XDG > /etc. A file that is named is taken, there or not.
 * 0 and an absolute path in out, -ENOENT or -ENAMETOOLONG. */
int prelux_conf_find(const struct prelux_conf_input *in, char *out, size_t cap);
void prelux_conf_free(struct prelux_conf *c);

/* Value of a backend's key, its default where not given, NULL when neither. */
const struct prelux_conf_value *prelux_conf_get(const struct prelux_conf_backend *b, const char *key);
const char *prelux_conf_str(const struct prelux_conf_backend *b, const char *key); /* NULL when unset */
int64_t prelux_conf_num(const struct prelux_conf_backend *b, const char *key);     /* 0 when unset */
/* Value of one of the kind's environment variables, NULL when it is not set. */
const char *prelux_conf_backend_env(const struct prelux_conf_backend *b, const char *name);
/* NULL or an item of the MAP `key`, by name. */
const char *prelux_conf_item(const struct prelux_conf_backend *b, const char *key, const char *name);
const struct prelux_conf_backend *prelux_conf_backend(const struct prelux_conf *c, const char *name);

#endif
