/* The command line tool. main.c has the table of commands and parses words; each cmd_*.c is one command; connect.c speaks
 * to the daemon; print.c is how things look. */
#ifndef PRELUX_CLI_CLI_H
#define PRELUX_CLI_CLI_H

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/ipc/client.h"

/* Exit statuses. `run` gives the program's own instead. */
enum { PRELUX_EXIT_OK = 0, PRELUX_EXIT_FAILED = 1, PRELUX_EXIT_USAGE = 2, PRELUX_EXIT_DEGRADED = 3 };

#define PRELUX_CLI_OPTIONS 18

struct prelux_cli_option {
  const char *name;  /* "from", without dashes; NULL ends the list */
  char letter;       /* 0: none */
  const char *value; /* what it takes, for the help; NULL: a switch; "[FILE]": it may be left out, and is only taken behind '=' */
  const char *help;
};

struct prelux_cli;

struct prelux_cli_command {
  const char *name;
  const char *args; /* for the help, "PATH..." */
  const char *help; /* one line */
  const char *more; /* paragraph for --help, or NULL */
  bool json;        /* has --json */
  bool program;     /* words after the first that is no option are a program's */
  int min_args, max_args; /* -1: any number */
  struct prelux_cli_option options[PRELUX_CLI_OPTIONS];
  int (*run)(struct prelux_cli *cli); /* exit status */
};

struct prelux_cli {
  const struct prelux_cli_command *command;
  const char *config;                     /* --config, or NULL */
  bool json;                              /* --json */
  const char *values[PRELUX_CLI_OPTIONS]; /* of command->options: NULL not given; switches: "" */
  char **args;
  int n_args;
  char *const *env;
  char cwd[PATH_MAX];
  char runtime[PATH_MAX];
  char bin[PATH_MAX];    /* folder of this program */
  char daemon[PATH_MAX]; /* preluxd beside it */
  /* Filled by prelux_cli_register() */
  unsigned char table[16];
  char table_path[PATH_MAX];
  char *answer; /* the last answer as it came: cJSON cannot hold 64-bit numbers */
  char cause[1024]; /* why the last call failed */
};

extern const struct prelux_cli_command prelux_cli_commands[]; /* ends with name NULL */

/* Value of an option of the command, "" for a switch that is on, NULL when not given. */
const char *prelux_cli_option(const struct prelux_cli *cli, const char *name);
/* "prelux: ..." to stderr; returns PRELUX_EXIT_FAILED. */
int prelux_cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with a hint at --help; PRELUX_EXIT_USAGE. */
int prelux_cli_usage(const struct prelux_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* connect.c */

/* Compiles the configuration (starting a daemon where none runs) into cli->table and table_path. 0, or an exit status
 * after saying why: USAGE for a missing or broken configuration, FAILED for anything else. */
int prelux_cli_register(struct prelux_cli *cli);
/* Is the file a compiled configuration? */
bool prelux_cli_is_table(const char *path);
/* start: where no daemon runs, one is started. */
void prelux_cli_client(const struct prelux_cli *cli, bool start, struct prelux_client_opts *ret);

struct prelux_progress; /* progress.h */

struct prelux_cli_call {
  const char *verb;
  char *const *args;
  int n_args;
  bool table;  /* register first and name the table */
  bool start;  /* start a daemon where none runs */
  bool quiet;  /* the caller says what went wrong */
  int n_more;  /* prelux_cli_ask_all(): the last so many of args go with each request */
  bool pages;  /* prelux_cli_ask_all(): what an answer has no room for is asked for, too */
  struct prelux_progress *progress; /* is shown what the daemon tells meanwhile; may be NULL */
};
/* Asks the daemon. 0 and *ret (caller deletes), or an exit status after saying why; *ret_err (may be NULL) gets 0 or
 * -errno of the call: -ENOTCONN when no daemon runs. A failed call may still bring an answer: then *ret is set. */
int prelux_cli_ask(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret, int *ret_err);
/* batch.c: any number of paths */
struct prelux_cli_paths {
  char **list; /* absolute */
  int n, cap;
};
/* Arguments from `first` on; "-": those of the standard input, a line each, with --null up to a NUL each. 0, or an exit status after saying why. */
int prelux_cli_take_paths(struct prelux_cli *cli, int first, struct prelux_cli_paths *ret);
void prelux_cli_free_paths(struct prelux_cli_paths *p);
/* As prelux_cli_ask(), in as many requests as args need: *ret and cli->answer have the sums of counts, and lists joined. */
int prelux_cli_ask_all(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret);
/* `full`, absolute, has wildcards, and there is no file of that very name. */
bool prelux_cli_is_pattern(struct prelux_cli *cli, char *full);

/* Absolute form of a path argument: against cwd, lexically; URIs stay. 0 or -errno. */
int prelux_cli_absolute(const struct prelux_cli *cli, const char *path, char *out, size_t cap);
/* libprelux.so beside this program or in ../lib: 0 and its path, or -ENOENT. */
int prelux_cli_library(const struct prelux_cli *cli, char *out, size_t cap);
/* What LD_PRELOAD has to say: the library by a path that ld.so can read, then what was there. 0, or exit status. */
int prelux_cli_preload(const struct prelux_cli *cli, char *out, size_t cap);

/* What a program under the configuration is started with. */
struct prelux_guest {
  char preload[PATH_MAX * 2]; /* LD_PRELOAD */
  char *prefixes;             /* PRELUX_PREFIXES, malloc'd */
  bool writes;                /* some mapping can be written to */
};
/* Registers the configuration. 0, or exit status after saying why. */
int prelux_cli_guest(struct prelux_cli *cli, struct prelux_guest *ret);

/* elf.c: what keeps a preload out of a program */
struct prelux_cli_finding {
  bool ok;
  char text[512];
  char advice[256];
  char elf[PATH_MAX]; /* the file that the kernel would run in the end, "": none was found */
  bool script;        /* by way of a script */
  bool half;          /* the library gets into it, and sees only some of its calls */
};
/* `path`: a program or script (its interpreter is looked at, too). */
void prelux_cli_inspect(const char *path, struct prelux_cli_finding *ret);
/* The same for a file that is called `name` in the text. */
void prelux_cli_inspect_as(const char *name, const char *file, struct prelux_cli_finding *ret);

/* bypass.c: names such as s3://... in a command's words and scripts, which libraries would open without open(). Each is said once;
 * status "warn" or "info". `conf` may be NULL. */
struct prelux_conf;
typedef void prelux_cli_say(void *arg, const char *status, const char *text, const char *advice);
void prelux_cli_bypass(char *const *words, int n, const struct prelux_conf *conf, prelux_cli_say *say, void *arg);

/* program.c: `words` start with a program: what kind it is, and what wrappers (env, nice, sudo, ...) start. `preload`: as LD_PRELOAD, "": not known. */
void prelux_cli_program(char *const *words, int n, const char *preload, prelux_cli_say *say, void *arg);

/* print.c */

void prelux_print_json(cJSON *value); /* to stdout, then deletes it */
void prelux_print_clean(cJSON *value); /* its strings become UTF-8 */
void prelux_print_json_text(const char *json); /* the same for JSON's text, every number as it is */
/* "0 B", "1.5 MiB" */
const char *prelux_print_size(char *buf, size_t cap, double bytes);
/* "2024-01-31 12:00:00" local time; "-" for 0 */
const char *prelux_print_time(char *buf, size_t cap, int64_t ns);
const char *prelux_print_duration(char *buf, size_t cap, double seconds);
/* Names as a terminal may show them: control and non-UTF-8 bytes as \xNN. malloc'd. */
char *prelux_print_name(const char *name);

/* A table whose columns are aligned; cells are copied. */
struct prelux_print_table {
  int columns, rows, cap;
  char **cells;
  unsigned right; /* bit n: column n is aligned to the right */
};
void prelux_print_row(struct prelux_print_table *t, ...); /* `columns` strings */
void prelux_print_table(struct prelux_print_table *t);    /* prints and releases */

/* report.c: members of an object that a backend has made up, a line or more each, labels aligned: whatever they are. Leaves out those
 * named in `skip` (NULL-terminated). */
void prelux_print_report(const cJSON *o, const char *const *skip, const char *indent);
/* The same value in one line: "state ok, bytes 3 MiB, http (ok 1)". malloc'd. */
char *prelux_print_inline(const cJSON *value, const char *key);

/* Members of an answer; `missing` where absent or of another type. */
const char *prelux_json_str(const cJSON *o, const char *key, const char *missing);
double prelux_json_num(const cJSON *o, const char *key, double missing);
bool prelux_json_bool(const cJSON *o, const char *key);

/* commands */
int prelux_cmd_run(struct prelux_cli *cli);
int prelux_cmd_exec_inside(char **argv); /* hidden: what `run` starts for programs that only the library can see */
int prelux_cmd_deep_inside(char **argv); /* hidden: the supervisor of `run --deep` */
int prelux_cmd_env(struct prelux_cli *cli);
int prelux_cmd_status(struct prelux_cli *cli);
int prelux_cmd_doctor(struct prelux_cli *cli);
int prelux_cmd_errors(struct prelux_cli *cli);
int prelux_cmd_config(struct prelux_cli *cli);
int prelux_cmd_map(struct prelux_cli *cli);
int prelux_cmd_ls(struct prelux_cli *cli);
int prelux_cmd_stat(struct prelux_cli *cli);
int prelux_cmd_prefetch(struct prelux_cli *cli);
int prelux_cmd_verify(struct prelux_cli *cli);
int prelux_cmd_pin(struct prelux_cli *cli);
int prelux_cmd_unpin(struct prelux_cli *cli);
int prelux_cmd_stats(struct prelux_cli *cli);
int prelux_cmd_metrics(struct prelux_cli *cli);
int prelux_cmd_evict(struct prelux_cli *cli);
int prelux_cmd_flush(struct prelux_cli *cli);
int prelux_cmd_pending(struct prelux_cli *cli);
int prelux_cmd_load(struct prelux_cli *cli);
int prelux_cmd_cluster(struct prelux_cli *cli);
int prelux_cmd_daemon(struct prelux_cli *cli);
int prelux_cmd_version(struct prelux_cli *cli);

#endif
