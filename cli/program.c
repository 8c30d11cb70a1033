/* `doctor CMD ARG...`: what kind of program that is, as far as its file and its loader tell; it is not run itself.
 *
 *   wrappers   env, nice, timeout, ... start what their words name: that is looked at. sudo, ssh, docker, srun, ... start it where the library
 *              is not, and are said
 *   the file   elf.c: static, 32-bit, set-uid, ...; here: system calls of its own, found as the instruction behind a number that is put into
 *              the register for it. Code that is made at run time, or that takes the number from elsewhere, is not found so
 *   the loader is asked what it would load (LD_TRACE_LOADED_OBJECTS, as ldd does), with the library */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

extern char **environ;

#define TRACE_MAX (256u << 10)
#define DEPTH_MAX 8

/* ---- wrappers */

enum kind { THROUGH, USER, ROOT, ELSEWHERE };

struct wrapper {
  const char *name;
  enum kind kind;
  const char *takes; /* letters of options with a value */
  int operands;      /* before the program */
};

static const struct wrapper wrappers[] = {
    {"env", THROUGH, "uC", 0},       {"nice", THROUGH, "n", 0},       {"nohup", THROUGH, "", 0},      {"timeout", THROUGH, "ks", 1},
    {"time", THROUGH, "fo", 0},      {"stdbuf", THROUGH, "ioe", 0},   {"setsid", THROUGH, "", 0},     {"ionice", THROUGH, "cnpPu", 0},
    {"taskset", THROUGH, "", 1},     {"chrt", THROUGH, "TPD", 1},     {"numactl", THROUGH, "NmipCPx", 0}, {"xargs", THROUGH, "adEILnPs", 0},
    {"strace", THROUGH, "abeEoOpPsSuUX", 0}, {"catchsegv", THROUGH, "", 0},
    {"sudo", USER, "", 0},           {"su", USER, "", 0},             {"runuser", USER, "", 0},       {"doas", USER, "", 0},
    {"pkexec", USER, "", 0},
    {"chroot", ROOT, "", 0},         {"unshare", ROOT, "", 0},        {"bwrap", ROOT, "", 0},         {"apptainer", ROOT, "", 0},
    {"singularity", ROOT, "", 0},    {"docker", ROOT, "", 0},         {"podman", ROOT, "", 0},        {"nerdctl", ROOT, "", 0},
    {"systemd-nspawn", ROOT, "", 0},
    {"ssh", ELSEWHERE, "", 0},       {"kubectl", ELSEWHERE, "", 0},   {"srun", ELSEWHERE, "", 0},     {"sbatch", ELSEWHERE, "", 0},
    {"mpirun", ELSEWHERE, "", 0},    {"mpiexec", ELSEWHERE, "", 0},   {"systemd-run", ELSEWHERE, "", 0},
};

static const struct
{
  const char *text, *advice;
} kinds[] = {
    [USER] = {"starts a program as another user: LD_PRELOAD is dropped on the way, and another user's daemon serves nobody else",
              "run prelux as that user: sudo -u NAME prelux run -- CMD"},
    [ROOT] = {"starts a program with another root or in a container: the library, the runtime folder and the cache must be visible there",
              "run prelux in there, or mount them at the same paths"},
    [ELSEWHERE] = {"starts a program elsewhere, not below this prelux", "let it start prelux there: srun prelux run -- CMD, ssh HOST prelux run -- CMD"},
};

static const char *base(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static const struct wrapper *wrapper_of(const char *word)
{
  for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
    if (strcmp(wrappers[i].name, base(word)) == 0)
      return &wrappers[i];
  return NULL;
}

/* Index of the program's word, n: there is none. */
static int program_word(const struct wrapper *w, char *const *words, int n)
{
  int i = 1, operands = w->operands;
  for (; i < n && words[i][0] == '-' && words[i][1]; i++)
  {
    if (strcmp(words[i], "--") == 0)
    {
      i++;
      break;
    }
    const char *last = words[i] + strlen(words[i]) - 1;
    if (words[i][1] != '-' && strchr(w->takes, words[i][1]) && last == words[i] + 1)
      i++; /* "-n 5", not "-n5" */
  }
  while (i < n && strcmp(w->name, "env") == 0 && strchr(words[i], '='))
    i++;
  return i + operands < n ? i + operands : n;
}

/* ---- system calls of its own */

static const struct
{
  unsigned number;
  const char *name;
} calls[] = {
#ifdef SYS_open
    {SYS_open, "open"}, {SYS_stat, "stat"}, {SYS_lstat, "lstat"}, {SYS_access, "access"}, {SYS_unlink, "unlink"},
    {SYS_rename, "rename"}, {SYS_mkdir, "mkdir"}, {SYS_getdents, "getdents"}, {SYS_readlink, "readlink"},
#endif
    {SYS_openat, "openat"}, {SYS_newfstatat, "newfstatat"}, {SYS_statx, "statx"}, {SYS_faccessat, "faccessat"},
    {SYS_unlinkat, "unlinkat"}, {SYS_renameat2, "renameat2"}, {SYS_mkdirat, "mkdirat"}, {SYS_getdents64, "getdents64"},
    {437, "openat2"}, {425, "io_uring_setup"}, {426, "io_uring_enter"}, {427, "io_uring_register"},
};
enum { N_CALLS = sizeof calls / sizeof *calls, LOOK_BACK = 24 };
enum { ACCIDENT = 200 }; /* one lone number up to this may be anything: five programs of 720 in /usr/bin have one */

/* The number that is put into the register for it in front of a system call at `at`; -1: that is not seen. The bytes of the instruction may
 * also be a part of another one: of a distance, whose upper half is 0 or -1. */
static long number_before(const unsigned char *text, size_t at, size_t len)
{
#if defined(__x86_64__)
  if (len - at >= 4 && text[at + 2] == text[at + 3] && (text[at + 2] == 0 || text[at + 2] == 0xff))
    return -1;
  for (size_t k = 5; k <= LOOK_BACK && k <= at; k++) /* mov $n, %eax */
    if (text[at - k] == 0xb8 && text[at - k + 3] == 0 && text[at - k + 4] == 0)
      return text[at - k + 1] | text[at - k + 2] << 8;
#else
  for (size_t k = 4; k <= LOOK_BACK && k <= at; k += 4) /* mov x8, #n */
  {
    uint32_t op;
    memcpy(&op, text + at - k, 4);
    if ((op & 0xffe0001f) == 0xd2800008 || (op & 0xffe0001f) == 0x52800008)
      return op >> 5 & 0xffff;
  }
#endif
  return -1;
}

static void scan(const unsigned char *text, size_t len, bool found[N_CALLS])
{
#if defined(__x86_64__)
  static const unsigned char instruction[] = {0x0f, 0x05};
#else
  static const unsigned char instruction[] = {0x01, 0x00, 0x00, 0xd4};
#endif
  const unsigned char *p = text;
  while ((p = memmem(p, len - (size_t)(p - text), instruction, sizeof instruction)))
  {
    long n = number_before(text, (size_t)(p - text), len);
    for (size_t i = 0; i < N_CALLS; i++)
      found[i] |= n == (long)calls[i].number;
    p += sizeof instruction;
  }
}

/* A 64-bit ELF file for this machine; elf.c has looked at it. */
static void scan_file(const char *path, bool found[N_CALLS])
{
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  void *map = fd >= 0 && fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(Elf64_Ehdr) ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
                                                                                       : MAP_FAILED;
  if (fd >= 0)
    close(fd);
  if (map == MAP_FAILED)
    return;
  const Elf64_Ehdr *eh = map;
  size_t len = (size_t)st.st_size;
  for (unsigned i = 0; i < eh->e_phnum && eh->e_phentsize == sizeof(Elf64_Phdr); i++)
  {
    uint64_t at = eh->e_phoff + (uint64_t)i * sizeof(Elf64_Phdr);
    Elf64_Phdr ph;
    if (at > len || len - at < sizeof ph)
      break;
    memcpy(&ph, (char *)map + at, sizeof ph);
    if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X) && ph.p_offset <= len && ph.p_filesz <= len - ph.p_offset)
      scan((const unsigned char *)map + ph.p_offset, ph.p_filesz, found);
  }
  munmap(map, len);
}

static void say_calls(const char *path, prelux_cli_say *say, void *arg)
{
  bool found[N_CALLS] = {false};
  char text[1024];
  size_t n = (size_t)snprintf(text, sizeof text, "%.300s has system calls of its own", path), head = n;
  unsigned seen = 0, surely = 0;
  scan_file(path, found);
  for (size_t i = 0; i < N_CALLS; i++)
  {
    seen += found[i];
    surely += found[i] && calls[i].number > ACCIDENT;
  }
  if (!surely && seen < 2)
    return;
  for (size_t i = 0; i < N_CALLS; i++)
    if (found[i])
      n += (size_t)snprintf(text + n, sizeof text - n, "%s %s", n == head ? ":" : ",", calls[i].name);
  say(arg, "warn", text, "what it does by them passes the library by: paths below a prefix are not there for them, but with `prelux run --deep=all`");
}

/* ---- the loader */

/* What ld.so says that it would load; malloc'd, or NULL: *ret_err, an errno. */
static char *trace(const char *path, const char *preload, int *ret_err)
{
  int pipe[2], status;
  size_t n = 0, count = 0;
  pid_t pid;
  char first[PATH_MAX * 2 + 16], *argv[] = {(char *)path, NULL};
  posix_spawn_file_actions_t actions;
  while (environ[count])
    count++;
  char **envp = calloc(count + 4, sizeof *envp), *text = malloc(TRACE_MAX);
  if (!envp || !text || pipe2(pipe, O_CLOEXEC) < 0)
  {
    free(envp);
    free(text);
    *ret_err = errno;
    return NULL;
  }
  snprintf(first, sizeof first, "LD_PRELOAD=%s", preload);
  envp[n++] = first;
  envp[n++] = (char *)"LD_TRACE_LOADED_OBJECTS=1";
  envp[n++] = (char *)"PRELUX_OFF=1";
  for (size_t i = 0; i < count; i++)
    if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0 && strncmp(environ[i], "PRELUX_OFF=", 11) != 0)
      envp[n++] = environ[i];
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], 1);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], 2);
  int err = posix_spawn(&pid, path, &actions, NULL, argv, envp);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe[1]);
  size_t got = 0;
  for (ssize_t k; err == 0 && got < TRACE_MAX - 1 && (k = read(pipe[0], text + got, TRACE_MAX - 1 - got)) > 0;)
    got += (size_t)k;
  close(pipe[0]);
  if (err == 0)
    waitpid(pid, &status, 0);
  text[got] = 0;
  free(envp);
  *ret_err = err;
  if (err == 0)
    return text;
  free(text);
  return NULL;
}

/* False: the library would not be in it. */
static bool say_loader(const char *path, const char *preload, prelux_cli_say *say, void *arg)
{
  int err = 0;
  char *text = trace(path, preload, &err), *save = NULL, what[700];
  bool ours = false, ring = false;
  if (!text)
  {
    snprintf(what, sizeof what, "%.300s cannot be executed: %s", path, strerror(err));
    say(arg, "fail", what, err == ENOENT ? "the loader that it names is not there" : "it does not start so, with or without prelux");
    return false;
  }
  for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
  {
    line += strspn(line, " \t");
    ours |= strstr(line, "/libprelux.so") && strstr(line, "(0x");
    ring |= strncmp(line, "liburing.so", 11) == 0;
    if (strstr(line, "=> not found"))
    {
      snprintf(what, sizeof what, "%.300s needs %.200s", path, line);
      say(arg, "fail", what, "it does not start so, with or without prelux");
    }
  }
  free(text);
  if (ring)
  {
    snprintf(what, sizeof what, "%.300s is linked with liburing: what it opens, or reads below a mapped folder, through a ring is not seen", path);
    say(arg, "warn", what, "let it do without io_uring, where it has a switch for that");
  }
  if (!ours)
  {
    snprintf(what, sizeof what, "the loader does not load the library into %.300s", path);
    say(arg, "fail", what, "try LD_PRELOAD by hand: ld.so says why on the standard error");
  }
  return ours;
}

/* ---- the whole */

static void examine(char *const *words, int n, const char *preload, int depth, prelux_cli_say *say, void *arg)
{
  struct prelux_cli_finding finding;
  char text[900];
  prelux_cli_inspect(words[0], &finding);
  const struct wrapper *w = wrapper_of(words[0]);
  if (w && w->kind != THROUGH)
  {
    snprintf(text, sizeof text, "%.200s %s", words[0], kinds[w->kind].text);
    say(arg, "warn", text, kinds[w->kind].advice);
    return;
  }
  if (finding.ok && *finding.elf && strcmp(base(finding.elf), base(words[0])) != 0 && finding.script)
  {
    snprintf(text, sizeof text, "%.300s is a script, run by %.300s", words[0], finding.elf);
    say(arg, "info", text, NULL);
  }
  if (finding.ok && *finding.elf && *preload)
    finding.ok = say_loader(finding.elf, preload, say, arg);
  else if (!finding.ok)
    say(arg, "fail", finding.text, finding.advice);
  if (!finding.ok)
    return;
  if (*finding.elf)
    say_calls(finding.elf, say, arg);
  say(arg, "ok", finding.text, NULL);
  int at = w ? program_word(w, words, n) : n;
  if (at >= n || depth >= DEPTH_MAX)
    return;
  snprintf(text, sizeof text, "%.200s starts %.300s", base(words[0]), words[at]);
  say(arg, "info", text, NULL);
  examine(words + at, n - at, preload, depth + 1, say, arg);
}

void prelux_cli_program(char *const *words, int n, const char *preload, prelux_cli_say *say, void *arg)
{
  examine(words, n, preload, 0, say, arg);
}
