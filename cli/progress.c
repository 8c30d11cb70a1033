#include "cli/progress.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/ipc/msg.h"

#define BAR_S 0.2    /* between two drawings of a bar, */
#define LINES_S 10.0 /* two lines, */
#define JSON_S 1.0   /* and two objects */
#define RATE_S 1.0   /* a rate is measured over so long at least, */
#define RATE_OLD 0.7 /* and weighs so much of the next one */
#define BAR_MAX 40

static char farewell[160];

static double now_s(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The daemon keeps what has come, and goes no further when we have left. */
static void on_signal(int sig)
{
  ssize_t n = write(STDERR_FILENO, farewell, strlen(farewell));
  (void)n;
  signal(sig, SIG_DFL);
  raise(sig);
}

void prelux_progress_catch(const struct prelux_progress *p, const char *what)
{
  static const int ends[] = {SIGINT, SIGTERM};
  struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_NODEFER}, old;
  snprintf(farewell, sizeof farewell, "%sprelux: %s: stopped; %s\n", p->form == PRELUX_PROGRESS_BAR ? "\r\033[K" : "", p->verb, what);
  sigemptyset(&act.sa_mask);
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
    if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* nohup, a shell's background */
      sigaction(ends[i], &act, NULL);
}

bool prelux_progress_start(struct prelux_progress *p, const char *verb, const char *word, bool quiet)
{
  static const char *const words[] = {[PRELUX_PROGRESS_NONE] = "none", [PRELUX_PROGRESS_BAR] = "bar",
                                      [PRELUX_PROGRESS_LINES] = "lines", [PRELUX_PROGRESS_JSON] = "json"};
  const char *term = getenv("TERM");
  bool plain = !isatty(STDERR_FILENO) || (term && strcmp(term, "dumb") == 0);
  size_t form = plain ? quiet ? PRELUX_PROGRESS_NONE : PRELUX_PROGRESS_LINES : PRELUX_PROGRESS_BAR;
  if (word && strcmp(word, "auto") != 0)
    for (form = 0; form < sizeof words / sizeof *words && strcmp(word, words[form]) != 0;)
      form++;
  if (form == sizeof words / sizeof *words)
    return false;
  *p = (struct prelux_progress){.verb = verb, .form = (enum prelux_progress_form)form, .began = now_s()};
  p->shown = p->rate_at = p->began;
  return true;
}

bool prelux_progress_begin(struct prelux_progress *p, const char *verb, const char *word, bool quiet)
{
  if (!prelux_progress_start(p, verb, word, quiet))
    return false;
  prelux_progress_catch(p, "what is done stays, and the same command goes on from there");
  return true;
}

double prelux_progress_seconds(const struct prelux_progress *p)
{
  return now_s() - p->began;
}

static double more_of(const cJSON *o, const char *key, double before)
{
  return before + prelux_json_num(o, key, 0);
}

static void take(const struct prelux_progress *p, const cJSON *o, struct prelux_progress_state *ret)
{
  const struct prelux_progress_state *b = &p->before;
  *ret = (struct prelux_progress_state){
      .files = more_of(o, "files", b->files),
      .bytes = more_of(o, "bytes", b->bytes),
      .all_files = more_of(o, "found_files", b->all_files),
      .all_bytes = more_of(o, "found_bytes", b->all_bytes),
      .came = more_of(o, "came", b->came),
      .failed = more_of(o, "failed", b->failed),
      .complete = !p->more && prelux_json_num(o, "open", 0) == 0,
  };
}

void prelux_progress_frame(void *progress, const void *frame)
{
  struct prelux_progress *p = progress;
  struct prelux_progress_state s;
  const char *text = prelux_msg_str(frame, PRELUX_FIELD_TEXT);
  cJSON *o = text ? cJSON_Parse(text) : NULL;
  if (!o)
    return;
  take(p, o, &s);
  cJSON_Delete(o);
  prelux_progress_show(p, &s);
}

void prelux_progress_add(struct prelux_progress *p, const cJSON *answer)
{
  struct prelux_progress_state s;
  take(p, answer, &s);
  if (!cJSON_GetObjectItemCaseSensitive(answer, "found_files")) /* nothing is left to be found */
  {
    s.all_files = p->before.all_files + prelux_json_num(answer, "files", 0) + prelux_json_num(answer, "failed", 0);
    s.all_bytes = p->before.all_bytes + prelux_json_num(answer, "bytes", 0);
  }
  p->before = s;
  if (p->more)
    prelux_progress_show(p, &s);
}

static void measure(struct prelux_progress *p, double came, double now)
{
  double passed = now - p->rate_at;
  if (passed < RATE_S)
    return;
  double rate = (came - p->rate_came) / passed;
  p->rate = p->rate > 0 ? RATE_OLD * p->rate + (1 - RATE_OLD) * rate : rate;
  p->rate_at = now;
  p->rate_came = came;
}

/* Seconds, -1: not known. Where nothing has to be moved files are counted. */
static double left_of(const struct prelux_progress *p, const struct prelux_progress_state *s, double now)
{
  double passed = now - p->began, done = s->files + s->failed;
  if (!s->complete || passed <= 0)
    return -1;
  double by_files = done > 0 ? (s->all_files - done) * passed / done : -1;
  double by_bytes = p->rate > 0 && s->all_bytes > 0 ? (s->all_bytes - s->bytes) / p->rate : -1;
  return by_bytes > by_files ? by_bytes : by_files;
}

static double share_of(const struct prelux_progress_state *s)
{
  double share = s->all_bytes > 0 ? s->bytes / s->all_bytes : s->all_files > 0 ? s->files / s->all_files : 0;
  return share > 1 ? 1 : share;
}

/* ", 1.2 GiB/3.4 GiB, 120 MiB/s"; of a verb that tells no bytes ", 300 files/s". */
static void describe_rate(const struct prelux_progress *p, const struct prelux_progress_state *s, double now, char *out, size_t cap)
{
  char bytes[24], all[24], rate[24];
  double done = s->files + s->failed;
  if (s->all_bytes == 0 && s->bytes == 0 && s->came == 0)
    snprintf(out, cap, done > 0 && now > p->began ? ", %.1f files/s" : "", done / (now - p->began));
  else
    snprintf(out, cap, ", %s/%s, %s/s", prelux_print_size(bytes, sizeof bytes, s->bytes), prelux_print_size(all, sizeof all, s->all_bytes),
             prelux_print_size(rate, sizeof rate, p->rate));
}

/* "4500/10000 files, 1.2 GiB/3.4 GiB, 120 MiB/s, 20 s left, 3 failed" */
static void describe(const struct prelux_progress *p, const struct prelux_progress_state *s, double now, char *out, size_t cap)
{
  char rate[96], failed[40] = "", left[64] = "", time[32];
  double seconds = left_of(p, s, now);
  describe_rate(p, s, now, rate, sizeof rate);
  if (seconds >= 0)
    snprintf(left, sizeof left, ", %s left", prelux_print_duration(time, sizeof time, seconds));
  if (s->failed > 0)
    snprintf(failed, sizeof failed, ", %.0f failed", s->failed);
  snprintf(out, cap, "%.0f/%.0f%s files%s%s%s", s->files, s->all_files, s->complete ? "" : "+", rate, left, failed);
}

static int columns(void)
{
  struct winsize w;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

static void draw(struct prelux_progress *p, const struct prelux_progress_state *s, const char *text)
{
  char bar[BAR_MAX + 1], line[512];
  double share = share_of(s);
  int width = columns() - 1, room = width - (int)(strlen(p->verb) + strlen(text)) - 10;
  int n = room > BAR_MAX ? BAR_MAX : room;
  int full = (int)(share * n);
  for (int i = 0; i < n; i++)
    bar[i] = i < full ? '=' : i == full ? '>' : ' ';
  bar[n > 0 ? n : 0] = 0;
  if (n >= 5)
    snprintf(line, sizeof line, "%s [%s] %3.0f%% %s", p->verb, bar, share * 100, text);
  else
    snprintf(line, sizeof line, "%s %.0f%% %s", p->verb, share * 100, text);
  fprintf(stderr, "\r\033[K%.*s", width > 0 ? width : 80, line);
  fflush(stderr);
  p->drawn = true;
}

static void print_object(const struct prelux_progress *p, const struct prelux_progress_state *s, double now)
{
  double left = left_of(p, s, now);
  fprintf(stderr, "{\"progress\":\"%s\",\"files\":%.0f,\"bytes\":%.0f,\"all_files\":%.0f,\"all_bytes\":%.0f,\"complete\":%s,\"failed\":%.0f,"
          "\"bytes_per_s\":%.0f,\"elapsed_s\":%.1f", p->verb, s->files, s->bytes, s->all_files, s->all_bytes, s->complete ? "true" : "false",
          s->failed, p->rate, now - p->began);
  if (left >= 0)
    fprintf(stderr, ",\"left_s\":%.1f", left);
  fputs("}\n", stderr);
  fflush(stderr);
}

void prelux_progress_show(struct prelux_progress *p, const struct prelux_progress_state *state)
{
  static const double pauses[] = {[PRELUX_PROGRESS_NONE] = 0, [PRELUX_PROGRESS_BAR] = BAR_S, [PRELUX_PROGRESS_LINES] = LINES_S,
                                  [PRELUX_PROGRESS_JSON] = JSON_S};
  struct prelux_progress_state s = *state;
  double now = now_s();
  char text[256];
  measure(p, s.came, now);
  if (s.came > s.bytes && s.came < s.all_bytes) /* a large file that is still coming counts by what has come of it */
    s.bytes = s.came;
  if (p->form == PRELUX_PROGRESS_NONE || now - p->shown < pauses[p->form])
    return;
  p->shown = now;
  describe(p, &s, now, text, sizeof text);
  if (p->form == PRELUX_PROGRESS_BAR)
    draw(p, &s, text);
  else if (p->form == PRELUX_PROGRESS_JSON)
    print_object(p, &s, now);
  else
    fprintf(stderr, "prelux: %s: %s\n", p->verb, text);
}

void prelux_progress_end(struct prelux_progress *p)
{
  *farewell = 0;
  if (p->drawn)
    fputs("\r\033[K", stderr);
  fflush(stderr);
  p->drawn = false;
}
