/* Runs the fuzzers where there is no libFuzzer: replays corpora, and makes inputs of them (bytes flipped, pieces cut, repeated, taken from others, words
 * of the corpus put in, lengths changed) by a seed. The same seed makes the same inputs.
 *
 *   fuzz NAME [--corpus DIR] [--seconds N | --runs N] [--seed N] [--left DIR] [FILE...]      with FILEs: these, nothing else
 *   fuzz --list
 *
 * An input that ends the process (a crash, a check, INPUT_SECONDS of processor time, too much memory) is left in DIR/NAME-crash-HASH. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/rig.h"

enum { INPUT_MAX = 64 << 10, CORPUS_MAX = 4000, INPUT_SECONDS = 10 };

/* FUZZ_TARGETS: X(conf) X(message) ..., of tests.mk. */
#define X(name) int fuzz_##name(const uint8_t *data, size_t size);
FUZZ_TARGETS
#undef X

static const struct target {
  const char *name;
  int (*one)(const uint8_t *data, size_t size);
} targets[] = {
#define X(target) {#target, fuzz_##target},
    FUZZ_TARGETS
#undef X
};

static const struct target *target;
static struct input {
  uint8_t *data;
  size_t len;
} corpus[CORPUS_MAX];
static size_t n_corpus;
static const char *left_dir = ".";
static const uint8_t *current;
static size_t current_len;
static unsigned long executions, seed;

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
  return "max_allocation_size_mb=1024:detect_leaks=1:handle_abort=1:handle_sigfpe=1:allocator_may_return_null=0";
}
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static uint64_t hash(const uint8_t *data, size_t len)
{
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < len; i++)
    h = (h ^ data[i]) * 0x100000001b3u;
  return h;
}

/* The process dies: what it was given is kept. */
static void leave_input(void)
{
  char path[512];
  if (!current)
    return;
  snprintf(path, sizeof path, "%s/%s-crash-%016llx", left_dir, target->name, (unsigned long long)hash(current, current_len));
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, current, current_len) != (ssize_t)current_len)
    fprintf(stderr, "cannot write %s\n", path);
  fprintf(stderr, "%s: input %lu of seed %lu, left as %s\n", target->name, executions, seed, path);
  current = NULL;
}

static void on_alarm(int number)
{
  fprintf(stderr, "%s: an input takes more than %d s of processor time\n", target->name, INPUT_SECONDS);
  leave_input();
  abort();
}

static void run(const uint8_t *data, size_t len)
{
  uint8_t *copy = malloc(len ? len : 1); /* of just that size: reading beyond it is seen */
  if (!copy)
    abort();
  memcpy(copy, data, len);
  const struct itimerval limit = {.it_value.tv_sec = INPUT_SECONDS};
  executions++;
  setitimer(ITIMER_PROF, &limit, NULL);
  current = copy;
  current_len = len;
  target->one(copy, len);
  current = NULL;
  free(copy);
}

static void add(const char *path)
{
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) < 0)
  {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(2);
  }
  if (S_ISREG(st.st_mode) && n_corpus < CORPUS_MAX)
  {
    struct input *in = &corpus[n_corpus++];
    in->data = malloc((size_t)st.st_size + 1);
    in->len = (size_t)st.st_size;
    if (!in->data || read(fd, in->data, in->len) != (ssize_t)in->len)
      exit(2);
  }
  close(fd);
}

static void add_folder(const char *folder)
{
  struct dirent **names = NULL;
  char path[1024];
  int n = scandir(folder, &names, NULL, alphasort);
  for (int i = 0; i < n; i++)
  {
    snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
    if (names[i]->d_name[0] != '.')
      add(path);
    free(names[i]);
  }
  free(names);
}

static uint64_t state;
static uint64_t draw(uint64_t below)
{
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return below ? (state * 0x2545f4914f6cdd1du >> 16) % below : 0;
}

/* Room is made, or taken away, at `at`. */
static size_t resize(uint8_t *buf, size_t len, size_t at, size_t cut, size_t add_len)
{
  if (len - cut + add_len > INPUT_MAX)
    return len;
  memmove(buf + at + add_len, buf + at + cut, len - at - cut);
  return len - cut + add_len;
}

static size_t graft(uint8_t *buf, size_t len)
{
  const struct input *other = &corpus[draw(n_corpus)];
  size_t from = draw(other->len + 1), n = draw(other->len - from + 1), at = draw(len + 1), cut = draw(2) ? draw(len - at + 1) : 0;
  if (draw(4)) /* a word rather than a page */
    n = n > 24 ? 1 + draw(24) : n;
  size_t now = resize(buf, len, at, cut, n);
  if (now != len || cut == n)
    memcpy(buf + at, other->data + from, n);
  return now;
}

/* A number in the text, or in two, four or eight bytes, becomes one that is hard. */
static size_t number(uint8_t *buf, size_t len)
{
  static const char *const words[] = {"0", "-1", "1", "255", "65536", "2147483648", "4294967295", "9223372036854775807", "18446744073709551615",
                                      "99999999999999999999", "1e308", "0x10", "00", ""};
  static const uint64_t values[] = {0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, 1ull << 63, UINT64_MAX};
  size_t at = draw(len), end, width = (size_t)1 << draw(4);
  uint64_t v = draw(3) ? values[draw(sizeof values / sizeof *values)] : draw(len * 2 + 1);
  for (end = at; end < len && buf[end] >= '0' && buf[end] <= '9'; end++)
    ;
  if (end > at)
  {
    const char *word = words[draw(sizeof words / sizeof *words)];
    size_t now = resize(buf, len, at, end - at, strlen(word));
    if (now != len || end - at == strlen(word))
      memcpy(buf + at, word, strlen(word));
    return now;
  }
  if (at + width <= len)
    memcpy(buf + at, &v, width);
  return len;
}

static size_t mutate(uint8_t *buf, size_t len)
{
  static const char odd[] = "<>&\"'/\\%:{}[],;= \n\r\t\0\xff\xc3-#*!|?@";
  size_t at = draw(len + 1), n = draw(2) ? 1 + draw(16) : draw(len + 1);
  switch (len ? draw(8) : 7)
  {
  case 0:
    buf[at % len] ^= (uint8_t)(1u << draw(8));
    return len;
  case 1:
    buf[at % len] = (uint8_t)draw(256);
    return len;
  case 2:
    return resize(buf, len, at, n < len - at ? n : len - at, 0);
  case 3: /* again */
    n = n < len - at ? n : len - at;
    return resize(buf, len, at, 0, n) == len ? len : (memmove(buf + at, buf + at + n, n), len + n);
  case 4:
    return number(buf, len);
  case 5:
    if (at < len)
      buf[at] = (uint8_t)odd[draw(sizeof odd - 1)];
    return len;
  default:
    return graft(buf, len);
  }
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fuzz(double seconds, unsigned long runs)
{
  static uint8_t buf[INPUT_MAX];
  double end = now() + seconds;
  state = seed * 0x9e3779b97f4a7c15u | 1;
  if (n_corpus == 0)
    corpus[n_corpus++] = (struct input){(uint8_t *)"", 0};
  for (unsigned long i = 0; runs ? i < runs : i % 16 || now() < end; i++)
  {
    const struct input *in = &corpus[draw(n_corpus)];
    size_t len = in->len < INPUT_MAX ? in->len : INPUT_MAX;
    memcpy(buf, in->data, len);
    for (uint64_t k = 1 + draw(draw(4) ? 5 : 40); k; k--)
      len = mutate(buf, len);
    run(buf, len);
  }
}

static int list(void)
{
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
    puts(targets[i].name);
  return 0;
}

int main(int argc, char **argv)
{
  const char *folder = NULL, *given = getenv("PRELUX_SEED");
  double seconds = 0;
  unsigned long runs = 0;
  bool files = false;
  seed = given && *given ? strtoul(given, NULL, 10) : (unsigned long)time(NULL);
  if (argc == 2 && strcmp(argv[1], "--list") == 0)
    return list();
  for (size_t i = 0; argc > 1 && i < sizeof targets / sizeof *targets; i++)
    if (strcmp(argv[1], targets[i].name) == 0)
      target = &targets[i];
  if (!target)
    return fprintf(stderr, "no fuzzer %s; --list names them\n", argc > 1 ? argv[1] : ""), 2;
  for (int i = 2; i < argc; i++)
  {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(argv[i], "--corpus") == 0)
      folder = value, i++;
    else if (strcmp(argv[i], "--seconds") == 0)
      seconds = strtod(value, NULL), i++;
    else if (strcmp(argv[i], "--runs") == 0)
      runs = strtoul(value, NULL, 10), i++;
    else if (strcmp(argv[i], "--seed") == 0)
      seed = strtoul(value, NULL, 10), i++;
    else if (strcmp(argv[i], "--left") == 0)
      left_dir = value, i++;
    else
      add(argv[i]), files = true;
  }
  if (__sanitizer_set_death_callback)
    __sanitizer_set_death_callback(leave_input);
  signal(SIGPROF, on_alarm);
  if (folder)
    add_folder(folder);
  for (size_t i = 0; i < n_corpus; i++)
    run(corpus[i].data, corpus[i].len);
  size_t replayed = n_corpus;
  if (!files && (seconds > 0 || runs))
    fuzz(seconds, runs);
  printf("%s: %lu executions (%zu of the corpus), seed %lu\n", target->name, executions, replayed, seed);
  for (size_t i = 0; i < replayed; i++)
    free(corpus[i].data);
  return 0;
}
