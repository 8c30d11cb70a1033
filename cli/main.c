/* prelux: the table of commands, and how words become options. A row in the table is a command: its help, its options and
 * the tests of both come from here. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "deep/deep.h"
#include "include/prelux/version.h"
#include "lib/base/own.h"
#include "lib/ipc/runtime.h"

extern char **environ;

const struct prelux_cli_command prelux_cli_commands[] = {
    {.name = "run", .args = "[--] CMD [ARG...]", .program = true, .min_args = 1, .max_args = -1, .run = prelux_cmd_run,
     .help = "run a program that sees the mappings",
     .more = "The exit status is the program's own: 128+n when signal n ended it, 127 when it was not found, 126 when it could\n"
             "not be executed. Signals sent to prelux are passed on to the program; as process 1 it reaps orphans.\n"
             "At the end it waits for the uploads of what was written, as long as they get on (after SIGTERM for `grace`); when\n"
             "something is not on the remote then, it says what, and the exit status is 3 instead of 0.\n"
             "--deep: programs that nothing can be loaded into (static ones, Go's, those of another libc) are supervised by seccomp user\n"
             "notification, without privileges: each of their calls that names a path costs some microseconds. Other programs are not\n"
             "slower, but with --deep=all, for programs that make system calls of their own beside libc's (`prelux doctor CMD` names them),\n"
             "all of the tree are supervised. Who is supervised has `no_new_privs`, without which the kernel lets only root set a filter:\n"
             "sudo, su and ping, started by him, have no privileges. docs/SEMANTICS.md says what differs.\n"
             "A report says at the end what the programs did below the mappings (calls, hits, bytes, where they waited) and which of\n"
             "them the library did not get into, and why; to the standard error, or to FILE: as JSON when its name ends in .json, as a\n"
             "page with plots in .html, else as text. What cannot be seen is said there. The exit status stays the program's.",
     .options = {{"no-wait", 0, NULL, "at the end do not wait for uploads"},
                 {"strict", 0, NULL, "exit status 3 when any upload failed, were it sent later"},
                 {"deep", 0, "[WHICH]", "also programs that the library does not get into; all: that call the kernel past it"},
                 {"report", 0, "[FILE]", "say at the end what the programs did, and which were out of reach"},
                 {"json", 0, NULL, "the report as JSON"}}},
    {.name = "env", .json = true, .run = prelux_cmd_env,
     .help = "print the environment that makes programs see the mappings",
     .more = "For a shell: eval \"$(prelux env)\""},
    {.name = "status", .json = true, .run = prelux_cmd_status,
     .help = "show backends, mappings, cache and recent errors",
     .more = "Exit status 3 when a mapping or a backend is not in order."},
    {.name = "stats", .json = true, .run = prelux_cmd_stats,
     .help = "show requests, hits, misses, bytes and times of each mapping",
     .more = "Of requests that reached the daemon since it began, of all configurations; what programs find in the index themselves costs\n"
             "no request (`prelux run --report` counts those, too). A miss asked the remote. 95% BELOW: of opens.",
     .options = {{"watch", 'w', "[SECONDS]", "again and again, each 2 s; OPENS and REMOTE are rates then"},
                 {"rounds", 0, "N", "--watch: end after so many"}}},
    {.name = "metrics", .run = prelux_cmd_metrics,
     .help = "print what the daemon has counted, in Prometheus's text format",
     .more = "The same as `metrics.listen` of the configuration serves over HTTP."},
    {.name = "doctor", .args = "[CMD [ARG...]]", .json = true, .program = true, .max_args = -1, .run = prelux_cmd_doctor,
     .help = "say what works and what does not, and why",
     .more = "With CMD: what kind of program that is, by its file and its loader (static, set-uid, another libc or word size, Go,\n"
             "io_uring, system calls of its own), what a wrapper such as env, nice, sudo, ssh starts, and whether its words, or\n"
             "scripts among them, have names such as s3://... that libraries open without open(): pandas, PyArrow, Ray, boto3\n"
             "and others. It is not run; `prelux run --report` says what it and its children do.\n"
             "Exit status 3 when something is not in order."},
    {.name = "errors", .args = "[PATH]", .json = true, .max_args = 1, .run = prelux_cmd_errors,
     .help = "show the errors that prelux has given to programs, newest last",
     .more = "With PATH: only those at or below it. Works without a daemon.",
     .options = {{"last", 'n', "N", "only the last N"}}},
    {.name = "config", .args = "check|show|init|keys", .json = true, .min_args = 1, .max_args = 1, .run = prelux_cmd_config,
     .help = "check a configuration, show what it means, print an example, list all keys",
     .more = "check  reads the configuration and names every mistake by file:line:column\n"
             "show   prints it with all defaults; secrets are not shown\n"
             "init   prints a commented example\n"
             "keys   prints every key with type, default and meaning, as Markdown"},
    {.name = "map", .args = "PATH", .json = true, .min_args = 1, .max_args = 1, .run = prelux_cmd_map,
     .help = "say where a path leads to: mapping, remote, cache file, state, workers",
     .more = "owners: the workers that would be asked, the first first. Exit status 1 when no mapping covers it."},
    {.name = "ls", .args = "PATH", .json = true, .min_args = 1, .max_args = 1, .run = prelux_cmd_ls,
     .help = "list a mapped folder"},
    {.name = "stat", .args = "PATH", .json = true, .min_args = 1, .max_args = 1, .run = prelux_cmd_stat,
     .help = "show the attributes of a mapped path"},
    {.name = "prefetch", .args = "PATH...", .json = true, .max_args = -1, .run = prelux_cmd_prefetch,
     .help = "bring files into the cache",
     .more = "A folder means everything below it. PATH may be a pattern ('/lake/*/part-[0-9].bin', in quotes, unless there is a file\n"
             "of that name). `-` reads paths from the standard input, a line each. What is in the cache already and fresh is not\n"
             "fetched again, so the same command goes on after Ctrl-C, a kill or an outage. Exit status 1 when something failed.",
     .options = {{"from", 0, "FILE", "read paths from FILE, a line each; -: the standard input"},
                 {"files-from", 0, "FILE", "the same"},
                 {"from-log", 0, "FILE", "the paths that a former run waited for: FILE is of `prelux run --report=FILE.json`"},
                 {"null", '0', NULL, "paths in FILE or the standard input end with a NUL byte"},
                 {"recursive", 'r', NULL, "folders with all below them, as without it"},
                 {"progress", 0, "FORM", "bar, lines, json or none, to the standard error (auto: bar on a terminal, else lines)"}}},
    {.name = "evict", .args = "PATH...", .json = true, .min_args = 1, .max_args = -1, .run = prelux_cmd_evict,
     .help = "drop files from the cache, and what is known of them",
     .more = "Files that a program has open stay. Exit status 3 when some did. What is pinned goes, too, and comes back when it is read.\n"
             "`-` reads paths from the standard input, a line each.",
     .options = {{"null", '0', NULL, "paths in the standard input end with a NUL byte"}}},
    {.name = "verify", .args = "PATH...", .json = true, .min_args = 1, .max_args = -1, .run = prelux_cmd_verify,
     .help = "hold cached files beside the remote",
     .more = "stale: the remote has another version. gone: it has none. damaged: the cache file is not what was put there, or its bytes\n"
             "are not those of the checksum that the remote offers. What cannot be told (a server that shows neither version, time nor\n"
             "checksum) is told with --data. Exit status 3 when something is wrong and was not mended, 1 when the remote failed or a\n"
             "mapping is broken. `-` reads paths from the standard input, a line each.",
     .options = {{"data", 0, NULL, "read the remote's bytes, too, and compare each"},
                 {"repair", 0, NULL, "drop what is wrong, and fetch it anew"},
                 {"null", '0', NULL, "paths in the standard input end with a NUL byte"},
                 {"progress", 0, "FORM", "bar, lines, json or none, to the standard error (auto: bar on a terminal, else lines)"}}},
    {.name = "pin", .args = "[PATH...]", .json = true, .max_args = -1, .run = prelux_cmd_pin,
     .help = "fetch files, and keep them from eviction",
     .more = "A folder means everything that is, or comes, below it. Pins outlive the daemon, and are kept in the catalogue of the cache\n"
             "folder. What is pinned counts for `cache.max_size` as all else: when pins fill the cache, what does not fit beside them is\n"
             "ENOSPC (files that are pinned and not there yet, too), with a message that says so.\n"
             "PATH is no pattern. `-` reads paths from the standard input, a line each.",
     .options = {{"list", 'l', NULL, "what is pinned, and what of it is in the cache"},
                 {"no-fetch", 0, NULL, "keep what is there and what comes; fetch nothing"},
                 {"null", '0', NULL, "paths in the standard input end with a NUL byte"},
                 {"progress", 0, "FORM", "bar, lines, json or none, to the standard error (auto: bar on a terminal, else lines)"}}},
    {.name = "unpin", .args = "PATH...", .json = true, .min_args = 1, .max_args = -1, .run = prelux_cmd_unpin,
     .help = "let eviction have what was pinned",
     .more = "PATH as it was pinned, `-`: those of the standard input, a line each. Nothing is dropped by it. Exit status 1 when no PATH\n"
             "was pinned.",
     .options = {{"null", '0', NULL, "paths in the standard input end with a NUL byte"}}},
    {.name = "flush", .args = "[PATH...]", .json = true, .max_args = -1, .run = prelux_cmd_flush,
     .help = "wait until what was written is on the remote",
     .more = "Without PATH: all of the configuration; `-` reads paths from the standard input, a line each. What was put off is tried\n"
             "at once. Exit status 3 when something is left: refused, still open, or failing without an end in sight (for as long as\n"
             "`grace`).",
     .options = {{"timeout", 0, "SECONDS", "wait so long at most"},
                 {"null", '0', NULL, "paths in the standard input end with a NUL byte"},
                 {"progress", 0, "FORM", "bar, lines, json or none, to the standard error (auto: bar on a terminal, else lines)"}}},
    {.name = "pending", .args = "list|retry|drop|export ...", .json = true, .min_args = 1, .max_args = -1, .run = prelux_cmd_pending,
     .help = "show what was written and is not on the remote; try it again, drop it, copy it out",
     .more = "list [PATH...]   files and changes of names with their ID, state (open, waiting, sending, refused, recovered, away:\n"
             "                 of a remote that no configuration in use has), what is to be done, and why it is not\n"
             "retry ID         send it again, on the same condition: what the remote has now must be what its writer began from\n"
             "drop ID          give its bytes, or the change, up; the path shows the remote's object\n"
             "export ID FILE   copy its bytes to a new FILE; it stays",
     .options = {{"overwrite", 0, NULL, "retry: whatever the remote has now"}}},
    {.name = "load", .args = "submit|progress|stop PATH", .json = true, .min_args = 2, .max_args = 2, .run = prelux_cmd_load,
     .help = "have the remote (Alluxio) read a path into its own caches",
     .more = "PATH is a mapped path, or the remote's own URI (s3://...) below the root of a backend of the configuration.\n"
             "submit attaches to a job for that path which runs already. Exit status 0 when the job is done (stop: stopped),\n"
             "1 when it failed or there is none, 3 while it runs.",
     .options = {{"wait", 0, NULL, "submit, progress: until the job is over (default on a terminal)"},
                 {"no-wait", 0, NULL, "submit, progress: return at once"},
                 {"verify", 0, NULL, "submit: check afterwards that everything was loaded"},
                 {"metadata-only", 0, NULL, "submit: names and attributes, no data"},
                 {"skip-if-exists", 0, NULL, "submit: leave out files that are cached in full"},
                 {"partial-listing", 0, NULL, "submit: begin before the listing is complete"},
                 {"bandwidth", 0, "SIZE", "submit: at most so many bytes a second (10MiB)"}}},
    {.name = "cluster", .args = "free|mount|unmount|setattr|info|locate PATH...", .json = true, .min_args = 2, .max_args = -1,
     .run = prelux_cmd_cluster,
     .help = "what Alluxio does with a path rather than with its bytes: caches, mounts, attributes, places",
     .more = "free PATH...      workers give up their copies (in the background); the under store keeps the files\n"
             "mount PATH URI    the under store's folder URI appears at PATH\n"
             "unmount PATH...   it goes; nothing in the under store is removed\n"
             "setattr PATH...   set what the options say\n"
             "info PATH...      what the remote says of the path, in its own words\n"
             "locate PATH...    where it lies: workers, blocks, under store, endpoint\n"
             "PATH is a mapped path, BACKEND:/path, or the remote's own URI (s3://..., alluxio://HOST:PORT/...). Without wildcards:\n"
             "it need not be visible. Changes made on this node that are not on the remote yet have to be sent before (prelux flush).\n"
             "--json: an object for one PATH, an array for several; each has path, and info, blocks, ... or errno and cause.\n"
             "Exit status 1 when one of them failed. docs/BACKENDS.md says which backend can do what.",
     .options = {{"recursive", 'r', NULL, "free, setattr: a folder with all below it"},
                 {"forced", 0, NULL, "free: also what is pinned"},
                 {"read-only", 0, NULL, "mount: nothing can be written below it"},
                 {"shared", 0, NULL, "mount: every user of Alluxio may use it"},
                 {"properties", 0, "FILE", "mount: options and credentials, a line KEY=VALUE each; - reads them from the standard input"},
                 {"owner", 0, "NAME", "setattr: a name, as Alluxio knows it"},
                 {"group", 0, "NAME", "setattr: the same"},
                 {"mode", 0, "OCTAL", "setattr: 0 to 777"},
                 {"pinned", 0, "BOOL", "setattr: true: workers keep it"},
                 {"persisted", 0, "BOOL", "setattr: true: what is in workers only is written to the under store"},
                 {"ttl", 0, "TIME", "setattr: how long it lives: 90s, 30m, 24h, 7d, a number of milliseconds, or never"},
                 {"ttl-action", 0, "NAME", "setattr: what happens then: DELETE or FREE"},
                 {"replication-min", 0, "N", "setattr: so many copies in workers at least"},
                 {"replication-max", 0, "N", "setattr: so many at most; -1: any number"}}},
    {.name = "daemon", .args = "start|stop|status|log", .json = true, .min_args = 1, .max_args = 1, .run = prelux_cmd_daemon,
     .help = "start, stop or look at the daemon",
     .more = "stop sends what was written before, within `grace`; exit status 3 when something stays for the next daemon.",
     .options = {{"no-wait", 0, NULL, "stop: at once; what was written stays for the next daemon"},
                 {"level", 0, "LEVEL", "log: set the level (error, warn, info, debug) instead of printing the log"},
                 {"last", 'n', "N", "log: only the last N lines"}}},
    {.name = "version", .json = true, .run = prelux_cmd_version, .help = "print the versions of prelux and of the running daemon"},
    {.name = NULL},
};

const char *prelux_cli_option(const struct prelux_cli *cli, const char *name)
{
  for (int i = 0; i < PRELUX_CLI_OPTIONS && cli->command->options[i].name; i++)
    if (strcmp(cli->command->options[i].name, name) == 0)
      return cli->values[i];
  return NULL;
}

static void complain(const char *fmt, va_list ap)
{
  char *text = NULL;
  if (vasprintf(&text, fmt, ap) < 0)
    abort();
  char *shown = prelux_print_name(text); /* names, and what remotes say, may hold what a terminal obeys */
  fflush(stdout);
  fprintf(stderr, "prelux: %s\n", shown);
  free(shown);
  free(text);
}

int prelux_cli_fail(const char *fmt, ...)
{
  va_list ap;
  va_start(ap, fmt);
  complain(fmt, ap);
  va_end(ap);
  return PRELUX_EXIT_FAILED;
}

int prelux_cli_usage(const struct prelux_cli *cli, const char *fmt, ...)
{
  va_list ap;
  va_start(ap, fmt);
  complain(fmt, ap);
  va_end(ap);
  if (cli->command)
    fprintf(stderr, "Try: prelux %s --help\n", cli->command->name);
  else
    fputs("Try: prelux --help\n", stderr);
  return PRELUX_EXIT_USAGE;
}

static void help_all(void)
{
  struct prelux_print_table t = {.columns = 2};
  puts("prelux: unmodified programs read remote files as if they were local\n\nUsage: prelux [--config FILE] COMMAND ...\n");
  for (const struct prelux_cli_command *c = prelux_cli_commands; c->name; c++)
  {
    char left[64];
    snprintf(left, sizeof left, "  %s %s", c->name, c->args ? c->args : "");
    prelux_print_row(&t, left, c->help);
  }
  prelux_print_table(&t);
  puts("\nprelux COMMAND --help tells more. Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 degraded.");
}

static void help_one(const struct prelux_cli_command *c)
{
  struct prelux_print_table t = {.columns = 2};
  printf("Usage: prelux %s [OPTION]...%s%s\n\n%s.\n", c->name, c->args ? " " : "", c->args ? c->args : "", c->help);
  if (c->more)
    printf("\n%s\n", c->more);
  puts("");
  for (int i = 0; i < PRELUX_CLI_OPTIONS && c->options[i].name; i++)
  {
    const struct prelux_cli_option *o = &c->options[i];
    char left[64], letter[8] = "";
    if (o->letter)
      snprintf(letter, sizeof letter, "-%c, ", o->letter);
    if (o->value && o->value[0] == '[')
      snprintf(left, sizeof left, "  %s--%s[=%s", letter, o->name, o->value + 1);
    else
      snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
    prelux_print_row(&t, left, o->help);
  }
  if (c->json)
    prelux_print_row(&t, "  --json", "JSON to the standard output");
  prelux_print_row(&t, "  --config FILE", "configuration (default: PRELUX_CONFIG, then the user's, then the system's)");
  prelux_print_row(&t, "  --help", "this text");
  prelux_print_table(&t);
}

static const struct prelux_cli_command *find_command(const char *name)
{
  for (const struct prelux_cli_command *c = prelux_cli_commands; c->name; c++)
    if (strcmp(c->name, name) == 0)
      return c;
  return NULL;
}

/* Does `word` give the option? *value: what is behind '=', else NULL. */
static bool is_option(const char *word, const char *name, char letter, const char **value)
{
  size_t n = strlen(name);
  *value = NULL;
  if (letter && word[0] == '-' && word[1] == letter)
  {
    *value = word[2] ? word + 2 : NULL;
    return true;
  }
  if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, n) != 0 || (word[2 + n] && word[2 + n] != '='))
    return false;
  *value = word[2 + n] ? word + 3 + n : NULL;
  return true;
}

/* Takes the option at words[*i] (and its value). 0, -1: not an option, or an exit status + 1. */
static int take_option(struct prelux_cli *cli, char **words, int *i)
{
  const struct prelux_cli_command *c = cli->command;
  const char *word = words[*i], *value, **slot = NULL, *takes = NULL;
  if (word[0] != '-' || word[1] == 0 || strcmp(word, "--") == 0)
    return -1;
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
  {
    if (c)
      help_one(c);
    else
      help_all();
    return PRELUX_EXIT_OK + 1;
  }
  if (is_option(word, "config", 0, &value))
  {
    slot = &cli->config;
    takes = "FILE";
  }
  else if (is_option(word, "json", 0, &value) && (!c || c->json))
  {
    cli->json = true;
    return value ? prelux_cli_usage(cli, "--json takes no value") + 1 : 0;
  }
  for (int k = 0; !slot && c && k < PRELUX_CLI_OPTIONS && c->options[k].name; k++)
    if (is_option(word, c->options[k].name, c->options[k].letter, &value))
    {
      slot = &cli->values[k];
      takes = c->options[k].value;
    }
  if (!slot)
    return prelux_cli_usage(cli, "unknown option %s", word) + 1;
  if (takes && *takes != '[' && !value && !(value = words[++*i]))
    return prelux_cli_usage(cli, "%s wants a value: %s", word, takes) + 1;
  if (!takes && value)
    return prelux_cli_usage(cli, "%s takes no value", word) + 1;
  *slot = value ? value : "";
  return 0;
}

/* Options before the command, the command, its options and arguments. 0, or an exit status + 1. */
static int parse(struct prelux_cli *cli, int argc, char **argv)
{
  bool options = true;
  for (int i = 1; i < argc; i++)
  {
    if (options && strcmp(argv[i], "--") == 0)
    {
      options = false;
      continue;
    }
    int ret = options ? take_option(cli, argv, &i) : -1;
    if (ret > 0)
      return ret;
    if (ret == 0)
      continue;
    if (!cli->command)
    {
      cli->command = find_command(argv[i]);
      if (!cli->command)
        return prelux_cli_usage(cli, "unknown command %s", argv[i]) + 1;
      if (cli->json && !cli->command->json)
        return prelux_cli_usage(cli, "%s has no --json", argv[i]) + 1;
      continue;
    }
    if (cli->command->program)
      options = false;
    cli->args[cli->n_args++] = argv[i];
  }
  return 0;
}

/* Where this program, its daemon and the runtime folder are. */
static int find_places(struct prelux_cli *cli)
{
  long n = prelux_own_path(cli->bin, sizeof cli->bin, "prelux");
  if (n < 0)
    return prelux_cli_fail("/proc/self/exe: %s", strerror((int)-n));
  *strrchr(cli->bin, '/') = 0;
  if (snprintf(cli->daemon, sizeof cli->daemon, "%s/preluxd", cli->bin) >= (int)sizeof cli->daemon)
    return prelux_cli_fail("%s: path too long", cli->bin);
  /* A folder that was removed under the shell: only relative paths are a problem then. */
  if (!getcwd(cli->cwd, sizeof cli->cwd) || cli->cwd[0] != '/')
    strcpy(cli->cwd, "/");
  if (prelux_runtime_path(cli->runtime, sizeof cli->runtime, cli->env) < 0)
    return prelux_cli_fail("the path of the runtime folder is too long; set PRELUX_RUNTIME_DIR");
  return 0;
}

/* By packaging/launch.c. */
static void restore_preload(void)
{
  const char *all = getenv("PRELUX_LAUNCH_PRELOAD");
  if (!all)
    return;
  setenv("LD_PRELOAD", all, 1);
  unsetenv("PRELUX_LAUNCH_PRELOAD");
}

int main(int argc, char **argv)
{
  restore_preload();
  if (argc > 2 && strcmp(argv[1], "--exec-inside") == 0)
    return prelux_cmd_exec_inside(argv + 2);
  if (argc > 2 && strcmp(argv[1], "--deep-inside") == 0)
    return prelux_cmd_deep_inside(argv + 2);
  if (argc > 4 && strcmp(argv[1], "--deep-exec") == 0)
    return prelux_deep_exec(argv + 2);
  static struct prelux_cli cli;
  cli.env = environ;
  cli.args = calloc((size_t)argc + 1, sizeof *cli.args);
  if (!cli.args)
    return prelux_cli_fail("out of memory");
  int ret = parse(&cli, argc, argv);
  if (ret > 0)
    return ret - 1;
  if (!cli.command)
  {
    help_all();
    return PRELUX_EXIT_USAGE;
  }
  const struct prelux_cli_command *c = cli.command;
  if (cli.n_args < c->min_args || (c->max_args >= 0 && cli.n_args > c->max_args))
    return prelux_cli_usage(&cli, cli.n_args < c->min_args ? "%s wants %s" : "too many arguments: %s %s", c->name, c->args ? c->args : "");
  ret = find_places(&cli);
  if (ret == 0)
    ret = c->run(&cli);
  if ((fflush(stdout) != 0 || ferror(stdout)) && ret == 0)
    ret = prelux_cli_fail("standard output: %s", strerror(errno));
  free(cli.args);
  free(cli.answer);
  return ret;
}
