/* A program below a mapping that does what its standard input says, a line a call, and answers with a line: "ok ..." or the call that failed and
 * its errno. `gate ERRNO KINDS AT AGAIN` (gate.h) makes system calls of the next line fail; its answer then ends with how many were seen and
 * failed, and the number of the first that failed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fault/gate.h"

static char out[1 << 16];
static char *data;
#define DATA_MAX (80u << 20)

static void failed(const char *call)
{
  snprintf(out, sizeof out, "%s %d", call, errno);
}

static uint32_t crc(uint32_t c, const unsigned char *p, size_t n)
{
  static uint32_t table[256];
  if (!table[1])
    for (uint32_t i = 0; i < 256; i++)
    {
      table[i] = i;
      for (int k = 0; k < 8; k++)
        table[i] = (table[i] >> 1) ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
  c = ~c;
  while (n--)
    c = table[(c ^ *p++) & 255] ^ (c >> 8);
  return ~c;
}

/* Each line of 16 bytes says which seed's it is, and where: tests/fault/rig.py makes the same. */
static void content(unsigned seed, size_t n)
{
  char line[17];
  for (size_t at = 0; at < n; at += 16)
  {
    snprintf(line, sizeof line, "%08x%07x\n", seed, (unsigned)(at / 16) & 0xfffffff);
    memcpy(data + at, line, n - at < 16 ? n - at : 16);
  }
}

static void do_read(const char *path)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return failed("open");
  uint32_t sum = 0;
  size_t size = 0;
  struct stat st;
  ssize_t n;
  while ((n = read(fd, data, 1 << 20)) > 0)
    sum = crc(sum, (unsigned char *)data, (size_t)n), size += (size_t)n;
  if (n < 0)
    failed("read");
  else if (fstat(fd, &st) < 0)
    failed("fstat");
  else
    snprintf(out, sizeof out, "ok %zu %08x %lld", size, sum, (long long)st.st_size);
  close(fd);
}

static void do_list(const char *path)
{
  DIR *dir = opendir(path);
  if (!dir)
    return failed("opendir");
  uint32_t sum = 0;
  size_t n = 0;
  struct dirent *e;
  while (errno = 0, (e = readdir(dir)))
    if (e->d_name[0] != '.')
      sum ^= crc(0, (unsigned char *)e->d_name, strlen(e->d_name)), n++;
  if (errno)
    failed("readdir");
  else
    snprintf(out, sizeof out, "ok %zu %08x", n, sum);
  closedir(dir);
}

static void do_put(const char *path, const char *how, size_t n, unsigned seed)
{
  int flags = (strchr(how, 'r') ? O_RDWR : O_WRONLY) | O_CLOEXEC;
  flags |= strchr(how, 'c') ? O_CREAT : 0;
  flags |= strchr(how, 't') ? O_TRUNC : 0;
  flags |= strchr(how, 'a') ? O_APPEND : 0;
  flags |= strchr(how, 'x') ? O_EXCL : 0;
  content(seed, n);
  int fd = open(path, flags, 0644);
  if (fd < 0)
    return failed("open");
  size_t at = 0;
  ssize_t did = 0;
  while (at < n && (did = write(fd, data + at, n - at)) > 0)
    at += (size_t)did;
  if (did < 0)
    failed("write");
  else if (strchr(how, 's') && fsync(fd) < 0)
    failed("fsync");
  else
    strcpy(out, "ok");
  if (close(fd) < 0 && strcmp(out, "ok") == 0)
    failed("close");
}

static void run(const char *op, const char *a, const char *b, const char *c, const char *d)
{
  struct stat st;
  strcpy(out, "ok");
  int ret = 0;
  if (strcmp(op, "read") == 0)
    return do_read(a);
  if (strcmp(op, "list") == 0)
    return do_list(a);
  if (strcmp(op, "put") == 0)
    return do_put(a, b, strtoul(c, NULL, 0), (unsigned)strtoul(d, NULL, 0));
  if (strcmp(op, "stat") == 0)
  {
    if (stat(a, &st) < 0)
      return failed("stat");
    snprintf(out, sizeof out, "ok %lld %o %ld", (long long)st.st_size, st.st_mode, (long)st.st_mtime);
  }
  else if (strcmp(op, "cut") == 0)
    ret = truncate(a, strtol(b, NULL, 0));
  else if (strcmp(op, "mv") == 0)
    ret = rename(a, b);
  else if (strcmp(op, "rm") == 0)
    ret = unlink(a);
  else if (strcmp(op, "mkdir") == 0)
    ret = mkdir(a, 0755);
  else if (strcmp(op, "rmdir") == 0)
    ret = rmdir(a);
  else if (strcmp(op, "symlink") == 0)
    ret = symlink(a, b);
  else if (strcmp(op, "chmod") == 0)
    ret = chmod(a, (mode_t)strtoul(b, NULL, 8));
  else if (strcmp(op, "touch") == 0)
    ret = utimensat(AT_FDCWD, a, (struct timespec[]){{0, UTIME_OMIT}, {strtol(b, NULL, 0), 0}}, 0);
  else if (strcmp(op, "access") == 0)
    ret = access(a, R_OK);
  else if (strcmp(op, "chdir") == 0)
    ret = chdir(a);
  else
    strcpy(out, "what?");
  if (ret < 0)
    failed(op);
}

int main(int argc, char **argv)
{
  static char line[16384];
  bool gated = argc > 1 && strcmp(argv[1], "--gate") == 0;
  data = malloc(DATA_MAX);
  if (!data || (gated && !gate_begin()))
    return puts("cannot"), 77;
  puts("up");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin))
  {
    char word[5][4096] = {""};
    sscanf(line, "%4095s %4095s %4095s %4095s %4095s", word[0], word[1], word[2], word[3], word[4]);
    if (strcmp(word[0], "gate") == 0)
    {
      gate = (struct board){.err = (uint32_t)atoi(word[1]), .kinds = (uint32_t)atoi(word[2]), .at = strtoull(word[3], NULL, 0), .again = (uint32_t)atoi(word[4])};
      continue;
    }
    bool armed = gate.kinds != 0;
    gate.armed = armed;
    run(word[0], word[1], word[2], word[3], word[4]);
    gate.armed = 0;
    if (armed)
      printf("%s gate %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", out, gate.seen, gate.failed, gate.depth);
    else
      puts(out);
    fflush(stdout);
    gate.kinds = 0;
  }
  return 0;
}
