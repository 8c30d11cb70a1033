/* Begin and end of a report. Nothing here decides what becomes of the program: a report that cannot be made or written is a line on the
 * standard error, and the run's exit status is what it would be without. */
#include "cli/insight.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/prelux/ctl.h"

#define LOOK_NS 20000000ll        /* between two looks at the tree, in the beginning, */
#define LOOK_MAX_NS 500000000ll   /* and later */
#define BEGIN_ROUNDS 200
#define LOOK_SHARE 50             /* a look may take one part in so many of the time */

static int open_file(struct prelux_insight *x)
{
  const char *dot = strrchr(x->file, '.');
  x->out = open(x->file, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
  if (x->out < 0)
    return prelux_cli_fail("%s: %s", x->file, strerror(errno));
  if (dot && strcmp(dot, ".json") == 0)
    x->form = PRELUX_INSIGHT_JSON;
  if (dot && (strcmp(dot, ".html") == 0 || strcmp(dot, ".htm") == 0))
    x->form = PRELUX_INSIGHT_HTML;
  return 0;
}

/* The memory, and its name in the environment. 0 or -errno. */
static int make_memory(struct prelux_insight *x)
{
  char name[96];
  struct stat st;
  x->fd = memfd_create("prelux-report", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (x->fd < 0)
    return -errno;
  int err = posix_fallocate(x->fd, 0, (off_t)sizeof *x->report); /* a page that is not there could be one too many later: SIGBUS */
  if (err)
    return -err;
  if (fcntl(x->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 || fstat(x->fd, &st) < 0)
    return -errno;
  x->report = mmap(NULL, sizeof *x->report, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd, 0);
  if (x->report == MAP_FAILED)
    return -errno;
  x->report->bytes = sizeof *x->report;
  x->report->uid = getuid();
  x->report->processes[0].ready = 1; /* for those who find no other */
  strcpy(x->report->processes[0].program, "(others)");
  x->report->next_process = 1;
  x->report->magic = PRELUX_REPORT_MAGIC;
  snprintf(name, sizeof name, "/proc/%ld/fd/%d:%llu", (long)getpid(), x->fd, (unsigned long long)st.st_ino);
  return setenv(PRELUX_REPORT_ENV, name, 1) < 0 ? -errno : 0;
}

static cJSON *ask_daemon(struct prelux_cli *cli)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_STATUS, .table = true, .quiet = true};
  cJSON *answer = NULL;
  if (prelux_cli_ask(cli, &call, &answer, NULL) == 0)
    return answer;
  cJSON_Delete(answer);
  return NULL;
}

static void release(struct prelux_insight *x)
{
  if (x->report && x->report != MAP_FAILED)
    munmap(x->report, sizeof *x->report);
  if (x->fd >= 0)
    close(x->fd);
  if (x->out >= 0)
    close(x->out);
  cJSON_Delete(x->before);
  cJSON_Delete(x->after);
  prelux_tree_release(&x->tree);
  free((char *)x->tree.own);
  free(x);
}

int prelux_insight_begin(struct prelux_cli *cli, struct prelux_insight **ret)
{
  const char *file = prelux_cli_option(cli, "report");
  bool json = prelux_cli_option(cli, "json") != NULL;
  *ret = NULL;
  if (!file)
    return json ? prelux_cli_usage(cli, "--json is the form of a report: --report --json") : 0;
  struct prelux_insight *x = calloc(1, sizeof *x);
  if (!x)
    return prelux_cli_fail("out of memory");
  x->cli = cli;
  x->fd = x->out = -1;
  x->file = *file ? file : NULL;
  if (x->file && open_file(x) != 0)
  {
    release(x);
    return PRELUX_EXIT_FAILED;
  }
  if (json)
    x->form = PRELUX_INSIGHT_JSON;
  int err = make_memory(x);
  if (err < 0)
  {
    prelux_cli_fail("no report: %s", strerror(-err));
    release(x);
    return 0;
  }
  x->tree.own = realpath("/proc/self/exe", NULL);
  x->before = ask_daemon(cli);
  x->began_ns = prelux_tree_clock();
  x->step_ns = LOOK_NS;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  x->wall_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
  *ret = x;
  return 0;
}

/* ---- while it runs */

static void add_point(struct prelux_insight *x, int64_t now)
{
  struct prelux_insight_point p = {.at_s = (double)(now - x->began_ns) / 1e9, .alive = (unsigned)prelux_tree_alive(&x->tree)};
  uint32_t n = __atomic_load_n(&x->report->next_process, __ATOMIC_RELAXED);
  for (uint32_t i = 0; i < n && i < PRELUX_REPORT_PROCESSES; i++)
    for (int f = 0; f < PRELUX_REPORT_FAMILIES; f++)
    {
      p.calls += __atomic_load_n(&x->report->processes[i].families[f].calls, __ATOMIC_RELAXED);
      p.asked += __atomic_load_n(&x->report->processes[i].families[f].asked, __ATOMIC_RELAXED);
    }
  if (x->n_points == PRELUX_INSIGHT_POINTS) /* every second one stays */
  {
    for (unsigned i = 0; i < PRELUX_INSIGHT_POINTS / 2; i++)
      x->points[i] = x->points[2 * i + 1];
    x->n_points = PRELUX_INSIGHT_POINTS / 2;
    x->step_ns *= 2;
  }
  x->points[x->n_points++] = p;
  x->next_point_ns = now + x->step_ns;
}

/* Programs that the library is in, and that have no room to say so themselves: their notes go. Those of other users' programs, which have no right
 * to, stay: the report says that it does not count them. */
static void believe_tree(struct prelux_insight *x)
{
  for (size_t k = 0; k < x->tree.n; k++)
  {
    struct prelux_tree_image *i = &x->tree.images[k];
    if (!i->reached || i->told)
      continue;
    i->told = true;
    for (int n = 0; n < PRELUX_REPORT_EXECS; n++)
    {
      struct prelux_report_exec *e = &x->report->execs[n];
      uint32_t tried = PRELUX_REPORT_TRIED;
      if (e->pid == i->pid && !(e->flags & (PRELUX_REPORT_BARRED | PRELUX_REPORT_APART)) && e->at_ns <= i->seen_ns)
        __atomic_compare_exchange_n(&e->state, &tried, PRELUX_REPORT_FREE, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
  }
}

struct timespec prelux_insight_look(struct prelux_insight *x, pid_t child)
{
  int64_t now = prelux_tree_clock(), age = now - x->began_ns;
  x->child = child;
  prelux_tree_look(&x->tree, child);
  believe_tree(x);
  if (now >= x->next_point_ns)
    add_point(x, now);
  int64_t cost = prelux_tree_clock() - now, pause = LOOK_NS + age / 50;
  if (pause > LOOK_MAX_NS)
    pause = LOOK_MAX_NS;
  if (pause < cost * LOOK_SHARE)
    pause = cost * LOOK_SHARE;
  return (struct timespec){pause / 1000000000, pause % 1000000000};
}

void prelux_insight_ended(struct prelux_insight *x, int status)
{
  x->status = status;
  x->ended_ns = prelux_tree_clock();
  prelux_tree_look(&x->tree, x->child);
  believe_tree(x);
  add_point(x, x->ended_ns);
}

/* ---- the end */

static void write_json(FILE *f, const cJSON *sum)
{
  char *text = cJSON_Print(sum);
  if (text)
    fprintf(f, "%s\n", text);
  free(text);
}

static int print(const struct prelux_insight *x, FILE *f, const cJSON *sum)
{
  if (x->form == PRELUX_INSIGHT_JSON)
    write_json(f, sum);
  else if (x->form == PRELUX_INSIGHT_HTML)
    prelux_insight_html(f, sum);
  else
    prelux_insight_text(f, sum);
  return fflush(f) != 0 || ferror(f) ? -errno : 0;
}

/* What was executed just now, and lives, may not have come to say so. */
static void let_begin(struct prelux_insight *x)
{
  x->settled_ns = prelux_tree_clock();
  for (int i = 0; i < BEGIN_ROUNDS && prelux_insight_begins(x); i++)
    nanosleep(&(struct timespec){0, 10000000}, NULL);
}

/* Whoever reads it may be gone, and files may have a limit: that is no end for us. */
static void ignore_signals(void)
{
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  sigaction(SIGPIPE, &ignore, NULL);
  sigaction(SIGXFSZ, &ignore, NULL);
}

void prelux_insight_end(struct prelux_insight *x)
{
  ignore_signals();
  let_begin(x);
  x->after = ask_daemon(x->cli);
  cJSON *sum = prelux_insight_sum(x);
  int fd = x->file ? dup(x->out) : dup(STDERR_FILENO), err = 0;
  FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
  prelux_print_clean(sum);
  if (!f)
    err = -errno;
  else
  {
    if (x->file && ftruncate(fd, 0) < 0 && errno != EINVAL)
      err = -errno;
    int rc = print(x, f, sum);
    err = err ? err : rc;
    if (fclose(f) != 0 && !err)
      err = -errno;
  }
  if (err)
    prelux_cli_fail("the report was not written: %s%s%s", x->file ? x->file : "", x->file ? ": " : "", strerror(-err));
  cJSON_Delete(sum);
  release(x);
}
