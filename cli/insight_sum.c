/* A report as one JSON object. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/insight.h"
#include "include/prelux/version.h"

#define PROGRAMS_MAX 200
#define SLOWEST_MAX 30
#define PIDS_MAX 5

static const char *const family_names[PRELUX_REPORT_FAMILIES] = {"open", "write", "stat", "list", "load", "change", "close"};

static void number(cJSON *o, const char *key, double value)
{
  cJSON_AddNumberToObject(o, key, value);
}

static void more(cJSON *o, const char *key, double value)
{
  cJSON *n = cJSON_GetObjectItemCaseSensitive(o, key);
  if (n)
    cJSON_SetNumberValue(n, n->valuedouble + value);
  else
    number(o, key, value);
}

static uint32_t slots(const struct prelux_insight *x)
{
  uint32_t n = __atomic_load_n(&x->report->next_process, __ATOMIC_ACQUIRE);
  return n < PRELUX_REPORT_PROCESSES ? n : PRELUX_REPORT_PROCESSES;
}

/* The loader that came along with this command (lib/base/own.h): the command itself. */
static bool is_bundled(const struct prelux_report_process *p)
{
  static const char loader[] = "/lib/prelux/rt/ld.so";
  size_t n = strlen(p->program);
  return n >= sizeof loader - 1 && strcmp(p->program + n - (sizeof loader - 1), loader) == 0;
}

/* What `run` starts in front of the program. */
static bool is_launcher(const struct prelux_report_process *p)
{
  return p->ready && strcmp(p->word, "--deep-exec") == 0;
}

static bool is_ours(const struct prelux_insight *x, const struct prelux_report_process *p)
{
  bool others = p == &x->report->processes[0], deep = is_launcher(p) || strcmp(p->word, "--deep-inside") == 0;
  return !p->ready || strcmp(p->word, "--exec-inside") == 0 || deep || is_bundled(p) || (others && !x->report->more_processes);
}

/* ---- what was counted */

static void add_counts(cJSON *o, const struct prelux_report_family_count *c)
{
  more(o, "calls", (double)c->calls);
  more(o, "hits", (double)(c->calls - c->asked));
  more(o, "asked", (double)c->asked);
  more(o, "missing", (double)c->missing);
  more(o, "failed", (double)c->failed);
  more(o, "wait_s", (double)c->wait_ns / 1e9);
}

static void sum_calls(const struct prelux_insight *x, cJSON *out)
{
  cJSON *calls = cJSON_AddObjectToObject(out, "calls"), *total = cJSON_CreateObject();
  for (int f = 0; f < PRELUX_REPORT_FAMILIES; f++)
  {
    cJSON *o = cJSON_AddObjectToObject(calls, family_names[f]);
    for (uint32_t i = 0; i < slots(x); i++)
    {
      add_counts(o, &x->report->processes[i].families[f]);
      add_counts(total, &x->report->processes[i].families[f]);
    }
    cJSON *times = cJSON_AddArrayToObject(o, "waits_log2_ns");
    int last = PRELUX_REPORT_TIMES;
    while (last > 0 && x->report->times[f][last - 1] == 0)
      last--;
    for (int b = 0; b < last; b++)
      cJSON_AddItemToArray(times, cJSON_CreateNumber((double)x->report->times[f][b]));
  }
  cJSON_AddItemToObject(calls, "all", total);
}

/* The last names of two paths. */
static bool same_name(const char *a, const char *b)
{
  const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
  return strcmp(x ? x + 1 : a, y ? y + 1 : b) == 0;
}

static bool has_begun(const struct prelux_insight *x, pid_t pid, int64_t from_ns, const char *exe)
{
  for (uint32_t i = 0; i < slots(x); i++)
  {
    const struct prelux_report_process *p = &x->report->processes[i];
    if (p->ready && p->pid == pid && p->begun_ns >= from_ns && (!exe || same_name(p->program, exe)))
      return true;
  }
  return false;
}

/* 1: the launcher of --deep had set the filter before; 2: its calls were counted by the supervisor, too. */
static int is_supervised(const struct prelux_insight *x, const struct prelux_report_exec *e)
{
  int ret = 0;
  for (uint32_t i = 1; i < slots(x) && ret < 2; i++)
  {
    const struct prelux_report_process *p = &x->report->processes[i];
    if (!p->ready || p->pid != e->pid)
      continue;
    if ((p->flags & PRELUX_REPORT_SUPERVISED) && p->begun_ns >= e->at_ns)
      ret = 2;
    else if (p->begun_ns <= e->at_ns && is_launcher(p))
      ret = 1;
  }
  return ret;
}

static cJSON *row_of(cJSON *list, const char *program, const char *key, const char *value)
{
  cJSON *o;
  cJSON_ArrayForEach(o, list)
    if (strcmp(prelux_json_str(o, "program", ""), program) == 0 && strcmp(prelux_json_str(o, key, ""), value) == 0)
      return o;
  if (cJSON_GetArraySize(list) >= PROGRAMS_MAX)
    return NULL;
  o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "program", program);
  cJSON_AddStringToObject(o, key, value);
  cJSON_AddItemToArray(list, o);
  return o;
}

static int by_processes(const void *a, const void *b)
{
  double x = prelux_json_num(*(cJSON *const *)a, "calls", 0), y = prelux_json_num(*(cJSON *const *)b, "calls", 0);
  return x < y ? 1 : x > y ? -1 : 0;
}

static int by_wait(const void *a, const void *b)
{
  double x = prelux_json_num(*(cJSON *const *)a, "wait_s", 0), y = prelux_json_num(*(cJSON *const *)b, "wait_s", 0);
  return x < y ? 1 : x > y ? -1 : 0;
}

/* Puts the members of a list in order, and drops those behind `max`. */
static void sort(cJSON *list, int (*order)(const void *, const void *), int max)
{
  int n = cJSON_GetArraySize(list);
  cJSON **items = calloc((size_t)n + 1, sizeof *items);
  if (!items)
    return;
  for (int i = 0; i < n; i++)
    items[i] = cJSON_DetachItemFromArray(list, 0);
  qsort(items, (size_t)n, sizeof *items, order);
  for (int i = 0; i < n; i++)
    if (i < max)
      cJSON_AddItemToArray(list, items[i]);
    else
      cJSON_Delete(items[i]);
  free(items);
}

/* What its loader did, or it by itself, beside libc, was counted by the supervisor. */
static bool is_reached_too(const struct prelux_insight *x, const struct prelux_report_process *p)
{
  for (uint32_t i = 1; i < slots(x); i++)
  {
    const struct prelux_report_process *q = &x->report->processes[i];
    if (q->ready && q->pid == p->pid && !(q->flags & PRELUX_REPORT_SUPERVISED) && strcmp(q->program, p->program) == 0)
      return true;
  }
  return false;
}

/* Programs that were supervised and made no call that is asked about. */
static double sum_silent(const struct prelux_insight *x, cJSON *list)
{
  double n = 0;
  for (int k = 0; k < PRELUX_REPORT_EXECS; k++)
  {
    const struct prelux_report_exec *e = &x->report->execs[k];
    if (__atomic_load_n(&e->state, __ATOMIC_ACQUIRE) != PRELUX_REPORT_TRIED || !(e->flags & PRELUX_REPORT_BARRED) || is_supervised(x, e) != 1)
      continue;
    cJSON *o = row_of(list, e->path, "word", "");
    n++;
    if (!o)
      continue;
    more(o, "starts", 1);
    more(o, "supervised", 1);
  }
  return n;
}

static void sum_programs(const struct prelux_insight *x, cJSON *out)
{
  cJSON *list = cJSON_AddArrayToObject(out, "programs");
  double starts = 0, forks = 0, lost = 0, supervised = 0;
  for (uint32_t i = 0; i < slots(x); i++)
  {
    const struct prelux_report_process *p = &x->report->processes[i];
    if (is_ours(x, p))
      continue;
    bool forked = (p->flags & PRELUX_REPORT_FORKED) || ((p->flags & PRELUX_REPORT_SUPERVISED) && is_reached_too(x, p));
    bool deep = !forked && (p->flags & PRELUX_REPORT_SUPERVISED);
    starts += !forked && !deep && i > 0;
    supervised += deep;
    forks += (p->flags & PRELUX_REPORT_FORKED) != 0;
    lost += (p->flags & PRELUX_REPORT_LOST) != 0;
    cJSON *o = row_of(list, p->program, "word", p->word);
    if (!o)
      o = row_of(list, "(others)", "word", "");
    if (!o)
      continue;
    more(o, "starts", i ? !forked : (double)x->report->more_processes);
    more(o, "supervised", deep);
    more(o, "forks", (p->flags & PRELUX_REPORT_FORKED) != 0);
    more(o, "cached_bytes", (double)p->cached_bytes);
    more(o, "asked_bytes", (double)p->asked_bytes);
    for (int f = 0; f < PRELUX_REPORT_FAMILIES; f++)
      add_counts(o, &p->families[f]);
  }
  supervised += sum_silent(x, list);
  sort(list, by_processes, PROGRAMS_MAX);
  cJSON *reached = cJSON_AddObjectToObject(out, "reached");
  number(reached, "starts", starts);
  number(reached, "supervised", supervised);
  number(reached, "forks", forks);
  number(reached, "without_configuration", lost);
  number(reached, "more", (double)x->report->more_processes);
}

static void sum_paths(const struct prelux_insight *x, cJSON *out)
{
  cJSON *list = cJSON_AddArrayToObject(out, "slowest"), *all = cJSON_AddArrayToObject(out, "waited_for"); /* for prefetch --from-log */
  for (int i = 0; i < PRELUX_REPORT_PATHS; i++)
  {
    const struct prelux_report_path *p = &x->report->paths[i];
    if (__atomic_load_n(&p->lock, __ATOMIC_ACQUIRE) || !p->hash)
      continue;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", p->path);
    cJSON_AddStringToObject(o, "call", p->call);
    if (*p->path == '/') /* not the end of a longer one */
      cJSON_AddItemToArray(all, cJSON_CreateString(p->path));
    number(o, "requests", (double)p->requests);
    number(o, "wait_s", (double)p->wait_ns / 1e9);
    number(o, "longest_s", (double)p->longest_ns / 1e9);
    cJSON_AddItemToArray(list, o);
  }
  sort(list, by_wait, SLOWEST_MAX);
}

/* ---- bytes */

static double filled(const cJSON *status)
{
  const cJSON *s, *stores = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(status, "cache"), "stores");
  double sum = 0;
  cJSON_ArrayForEach(s, stores) sum += prelux_json_num(s, "filled_bytes", 0);
  return sum;
}

/* Of the sources of all backends whose name begins so. */
static double from(const cJSON *status, const char *source)
{
  const cJSON *b, *r;
  double sum = 0;
  cJSON_ArrayForEach(b, cJSON_GetObjectItemCaseSensitive(status, "backends"))
    cJSON_ArrayForEach(r, cJSON_GetObjectItemCaseSensitive(b, "reads"))
      if (strncmp(r->string, source, strlen(source)) == 0)
        sum += prelux_json_num(r, "bytes", 0);
  return sum;
}

static double at_least_0(double n)
{
  return n > 0 ? n : 0;
}

static void sum_bytes(const struct prelux_insight *x, cJSON *out)
{
  cJSON *o = cJSON_AddObjectToObject(out, "bytes");
  double cached = 0, asked = 0;
  for (uint32_t i = 0; i < slots(x); i++)
  {
    cached += (double)x->report->processes[i].cached_bytes;
    asked += (double)x->report->processes[i].asked_bytes;
  }
  number(o, "opened_cached", cached);
  number(o, "opened_asked", asked);
  if (!x->after)
    return;
  bool same = x->before && prelux_json_num(x->before, "pid", 0) == prelux_json_num(x->after, "pid", -1);
  const cJSON *before = same ? x->before : NULL;
  double all = at_least_0(filled(x->after) - filled(before)), worker = at_least_0(from(x->after, "worker") - from(before, "worker"));
  double under = at_least_0(from(x->after, "under_store") - from(before, "under_store"));
  number(o, "fetched", all);
  number(o, "fetched_worker", worker);
  number(o, "fetched_under_store", under);
  number(o, "fetched_remote", at_least_0(all - worker - under));
  cJSON_AddBoolToObject(o, "daemon_restarted", x->before && !same);
}

/* ---- who was not reached */

static void missed(cJSON *list, const char *program, const char *why, pid_t pid, const char *by)
{
  cJSON *o = row_of(list, program, "why", why);
  if (!o)
    o = row_of(list, "(others)", "why", "see the others");
  if (!o)
    return;
  cJSON *pids = cJSON_GetObjectItemCaseSensitive(o, "pids");
  if (!pids)
  {
    cJSON_AddStringToObject(o, "seen_by", by);
    pids = cJSON_AddArrayToObject(o, "pids");
  }
  more(o, "processes", 1);
  if (cJSON_GetArraySize(pids) < PIDS_MAX)
    cJSON_AddItemToArray(pids, cJSON_CreateNumber(pid));
}

/* Whether the library is in it is not known: what has not said so, could not. */
static bool is_apart(const struct prelux_report_exec *e)
{
  return __atomic_load_n(&e->state, __ATOMIC_ACQUIRE) == PRELUX_REPORT_TRIED && (e->flags & PRELUX_REPORT_APART);
}

static bool is_missed(const struct prelux_insight *x, const struct prelux_report_exec *e)
{
  bool barred = (e->flags & PRELUX_REPORT_BARRED) != 0; /* but a loader that is called by its name loads */
  if (__atomic_load_n(&e->state, __ATOMIC_ACQUIRE) != PRELUX_REPORT_TRIED || e->pid <= 0 || e->at_ns > x->settled_ns || (!barred && is_apart(e)))
    return false;
  return !has_begun(x, e->pid, e->at_ns, barred ? e->path : NULL) && !(barred && is_supervised(x, e));
}

bool prelux_insight_begins(const struct prelux_insight *x)
{
  for (int k = 0; k < PRELUX_REPORT_EXECS; k++)
  {
    const struct prelux_report_exec *e = &x->report->execs[k];
    if (!(e->flags & (PRELUX_REPORT_BARRED | PRELUX_REPORT_OFF)) && e->pid > 0 && kill(e->pid, 0) == 0 && is_missed(x, e))
      return true;
  }
  return false;
}

static void missed_exec(const struct prelux_report_exec *e, cJSON *list)
{
  struct prelux_cli_finding finding;
  const char *why = "PRELUX_OFF is set in its environment";
  if (!(e->flags & PRELUX_REPORT_OFF))
  {
    prelux_cli_inspect(e->path, &finding);
    size_t n = strlen(e->path);
    why = finding.ok ? "it ended before the library had begun, or the loader did not find it there, or it could not say so (chroot, container, limits)" : finding.text;
    if (!finding.ok && strncmp(why, e->path, n) == 0 && why[n] == ' ')
      why += n + 1;
  }
  missed(list, e->path, why, e->pid, "exec");
}

/* The process has told what it executes, at most so long before it was seen. */
static bool is_noted(const struct prelux_insight *x, const struct prelux_tree_image *i)
{
  for (int k = 0; k < PRELUX_REPORT_EXECS; k++)
  {
    const struct prelux_report_exec *e = &x->report->execs[k];
    if (e->pid == i->pid && e->at_ns <= i->seen_ns && is_missed(x, e))
      return true;
  }
  return false;
}

/* Filters are inherited: a child of who was supervised is, whether it has made a call that is asked about or not. */
static bool is_filtered(const struct prelux_insight *x, const struct prelux_tree_image *i, int depth)
{
  for (uint32_t k = 1; k < slots(x); k++)
  {
    const struct prelux_report_process *p = &x->report->processes[k];
    if (p->ready && p->pid == i->parent && p->begun_ns <= i->seen_ns && ((p->flags & PRELUX_REPORT_SUPERVISED) || is_launcher(p)))
      return true;
  }
  for (size_t k = 0; k < x->tree.n && depth < 64; k++)
    if (x->tree.images[k].pid == i->parent && x->tree.images[k].began_ns <= i->began_ns)
      return is_filtered(x, &x->tree.images[k], depth + 1);
  return false;
}

static void sum_missed(const struct prelux_insight *x, cJSON *out)
{
  cJSON *list = cJSON_AddArrayToObject(out, "not_reached");
  for (int k = 0; k < PRELUX_REPORT_EXECS; k++)
    if (is_missed(x, &x->report->execs[k]))
      missed_exec(&x->report->execs[k], list);
  for (size_t k = 0; k < x->tree.n; k++)
  {
    const struct prelux_tree_image *i = &x->tree.images[k];
    bool own = x->tree.own && strcmp(i->exe, x->tree.own) == 0;
    if (i->reached || own || (i->looks < 2 && !*i->why) || has_begun(x, i->pid, i->began_ns, i->exe) || is_noted(x, i) || is_filtered(x, i, 0))
      continue;
    missed(list, i->exe, *i->why ? i->why : "the library is not in its memory, and nothing says why (container, other file system?)", i->pid, "proc");
  }
}

static bool has_text(const cJSON *list, const char *text)
{
  const cJSON *o;
  cJSON_ArrayForEach(o, list) if (strcmp(cJSON_GetStringValue(o), text) == 0) return true;
  return false;
}

/* The library is in them, but they do not call libc for all that they do. */
static void add_half(cJSON *out, cJSON *list)
{
  const cJSON *o;
  const char *last = "";
  cJSON_ArrayForEach(o, cJSON_GetObjectItemCaseSensitive(out, "programs"))
  {
    const char *program = prelux_json_str(o, "program", "");
    struct prelux_cli_finding finding;
    char text[512];
    if (*program != '/' || strcmp(program, last) == 0)
      continue;
    last = program;
    prelux_cli_inspect_as("", program, &finding);
    snprintf(text, sizeof text, "what %s does by itself: it%.200s", program, finding.text);
    if (!finding.ok && finding.half && !has_text(list, text))
      cJSON_AddItemToArray(list, cJSON_CreateString(text));
  }
}

static void add_blind(const struct prelux_insight *x, cJSON *out)
{
  cJSON *list = cJSON_AddArrayToObject(out, "not_seen");
  const char *const always[] = {
      "programs that one which was not reached has started, when they lived for less than a look at the process tree (20 to 500 ms)",
      "what a program that was not reached did",
      "bytes: sizes of the files that were opened; what is read of them, by read or by memory, only the kernel knows",
      "fetched bytes: of all programs that the daemon served meanwhile",
  };
  for (size_t i = 0; i < sizeof always / sizeof *always; i++)
    cJSON_AddItemToArray(list, cJSON_CreateString(always[i]));
  add_half(out, list);
  int apart = 0;
  for (int k = 0; k < PRELUX_REPORT_EXECS; k++)
    apart += is_apart(&x->report->execs[k]) && !(x->report->execs[k].flags & PRELUX_REPORT_BARRED);
  char text[128];
  snprintf(text, sizeof text, "what %d programs did that see another /proc, or are another user's (container, chroot, su)", apart);
  if (apart)
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
  if (x->report->more_processes)
    cJSON_AddItemToArray(list, cJSON_CreateString("which program was which: there were too many, the later ones count together"));
  if (x->report->more_execs)
    cJSON_AddItemToArray(list, cJSON_CreateString("some programs that were not reached: there were too many"));
  if (!x->after)
    cJSON_AddItemToArray(list, cJSON_CreateString("fetched bytes: the daemon did not answer at the end"));
}

/* ---- all */

static void add_timeline(const struct prelux_insight *x, cJSON *out)
{
  cJSON *list = cJSON_AddArrayToObject(out, "timeline");
  for (unsigned i = 0; i < x->n_points; i++)
  {
    cJSON *o = cJSON_CreateObject();
    number(o, "at_s", x->points[i].at_s);
    number(o, "calls", (double)x->points[i].calls);
    number(o, "asked", (double)x->points[i].asked);
    number(o, "alive", x->points[i].alive);
    cJSON_AddItemToArray(list, o);
  }
}

cJSON *prelux_insight_sum(const struct prelux_insight *x)
{
  cJSON *out = cJSON_CreateObject(), *command = cJSON_AddArrayToObject(out, "command");
  char when[32];
  for (int i = 0; i < x->cli->n_args; i++)
    cJSON_AddItemToArray(command, cJSON_CreateString(x->cli->args[i]));
  cJSON_AddStringToObject(out, "version", PRELUX_VERSION);
  cJSON_AddStringToObject(out, "began", prelux_print_time(when, sizeof when, x->wall_ns));
  number(out, "status", x->status);
  number(out, "seconds", (double)(x->ended_ns - x->began_ns) / 1e9);
  sum_programs(x, out);
  sum_missed(x, out);
  sum_calls(x, out);
  sum_bytes(x, out);
  sum_paths(x, out);
  add_timeline(x, out);
  add_blind(x, out);
  return out;
}
