/* Can a preloaded library get into this program? Read from the file; nothing is run. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"

#define SCRIPT_DEPTH 4
#define LINE_MAX_BYTES 256

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#endif

struct image {
  const unsigned char *bytes;
  size_t len;
};

static void found(struct prelux_cli_finding *f, const char *text, const char *path, const char *advice)
{
  f->ok = false;
  snprintf(f->text, sizeof f->text, "%.300s %s", path, text);
  snprintf(f->advice, sizeof f->advice, "%s", advice);
}

/* PT_INTERP's string, "" when there is none (static), NULL when the file makes no sense. */
static const char *interpreter(const struct image *im)
{
  const Elf64_Ehdr *eh = (const Elf64_Ehdr *)im->bytes;
  for (unsigned i = 0; i < eh->e_phnum; i++)
  {
    uint64_t at = eh->e_phoff + (uint64_t)i * eh->e_phentsize;
    if (eh->e_phentsize < sizeof(Elf64_Phdr) || at > im->len || im->len - at < sizeof(Elf64_Phdr))
      return NULL;
    Elf64_Phdr ph;
    memcpy(&ph, im->bytes + at, sizeof ph);
    if (ph.p_type != PT_INTERP)
      continue;
    if (ph.p_offset > im->len || ph.p_filesz > im->len - ph.p_offset || ph.p_filesz == 0 ||
        im->bytes[ph.p_offset + ph.p_filesz - 1] != 0)
      return NULL;
    return (const char *)im->bytes + ph.p_offset;
  }
  return "";
}

static bool has_go(const struct image *im)
{
  /* In two pieces: this program has them, too. */
  static const char mark[] = " Go buildinf:";
  const unsigned char *at = memmem(im->bytes, im->len, mark, sizeof mark - 1);
  while (at && (at == im->bytes || at[-1] != 0xff))
    at = memmem(at + 1, im->len - (size_t)(at + 1 - im->bytes), mark, sizeof mark - 1);
  return at != NULL;
}

static void inspect_elf(const char *path, const struct image *im, struct prelux_cli_finding *ret)
{
  snprintf(ret->elf, sizeof ret->elf, "%s", path); /* of a chain, the last one */
  const Elf64_Ehdr *eh = (const Elf64_Ehdr *)im->bytes;
  if (im->len < sizeof *eh || eh->e_ident[EI_CLASS] != ELFCLASS64)
  {
    found(ret, "is a 32-bit program: the library is 64-bit", path, "use a 64-bit build");
    return;
  }
  if (eh->e_machine != OUR_MACHINE)
  {
    found(ret, "is for another machine (emulated?)", path, "use a build for this machine");
    return;
  }
  const char *interp = interpreter(im);
  if (!interp)
    found(ret, "has program headers that make no sense", path, "is the file whole?");
  else if (!*interp)
    found(ret, "is statically linked: nothing can be preloaded into it", path, "use a dynamically linked build, or `prelux run --deep`");
  else if (strstr(interp, "ld-musl"))
    found(ret, "is linked with musl: the library is made for glibc", path, "use a build for glibc, the library that `make musl` builds, or `prelux run --deep`");
  else if (has_go(im))
  {
    ret->half = true;
    found(ret, "is a Go program: it makes system calls past libc", path, "what it does through cgo works; its own file calls do with `prelux run --deep`");
  }
}

static void inspect_depth(const char *path, int depth, struct prelux_cli_finding *ret);

/* "#!/usr/bin/env -S python3 -u": the interpreter, and for env what it starts. */
static void inspect_script(const char *path, const struct image *im, int depth, struct prelux_cli_finding *ret)
{
  char line[LINE_MAX_BYTES], *rest = line;
  size_t n = im->len < sizeof line ? im->len : sizeof line - 1;
  ret->script = true;
  memcpy(line, im->bytes, n);
  line[n] = 0;
  line[strcspn(line, "\n")] = 0;
  rest += 2 + strspn(line + 2, " \t");
  char *word = strsep(&rest, " \t");
  if (!*word)
    found(ret, "has an empty #! line", path, "name an interpreter");
  else
    inspect_depth(word, depth + 1, ret);
  if (!ret->ok || strcmp(strrchr(word, '/') ? strrchr(word, '/') + 1 : word, "env") != 0)
    return;
  while ((word = strsep(&rest, " \t")))
    if (*word && *word != '-' && !strchr(word, '='))
    {
      inspect_depth(word, depth + 1, ret);
      return;
    }
}

static void inspect_file(const char *path, int fd, int depth, struct prelux_cli_finding *ret)
{
  struct stat st;
  if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
  {
    found(ret, "is not a file", path, "name a program");
    return;
  }
  if (((st.st_mode & S_ISUID) && st.st_uid != getuid()) || ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid()))
    found(ret, "is set-uid or set-gid: the loader ignores LD_PRELOAD", path, "run it as that user instead");
  else if (fgetxattr(fd, "security.capability", NULL, 0) > 0 && getuid() != 0)
    found(ret, "has file capabilities: the loader ignores LD_PRELOAD", path, "run it as a user that has them");
  if (!ret->ok || st.st_size == 0)
    return;
  struct image im = {mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0), (size_t)st.st_size};
  if (im.bytes == MAP_FAILED)
  {
    found(ret, "cannot be read", path, strerror(errno));
    return;
  }
  if (im.len > 4 && memcmp(im.bytes, ELFMAG, SELFMAG) == 0)
    inspect_elf(path, &im, ret);
  else if (im.len > 2 && memcmp(im.bytes, "#!", 2) == 0)
    inspect_script(path, &im, depth, ret);
  munmap((void *)im.bytes, im.len);
}

/* As the shell would find it. */
static bool look_up(const char *name, char *out, size_t cap)
{
  const char *env = getenv("PATH");
  if (strchr(name, '/'))
    return (size_t)snprintf(out, cap, "%s", name) < cap;
  char *path = strdup(env ? env : "/usr/local/bin:/usr/bin:/bin"), *rest = path;
  bool ok = false;
  for (char *dir; !ok && rest && (dir = strsep(&rest, ":"));)
    ok = (size_t)snprintf(out, cap, "%s/%s", *dir ? dir : ".", name) < cap && access(out, X_OK) == 0;
  free(path);
  return ok;
}

static void inspect_depth(const char *path, int depth, struct prelux_cli_finding *ret)
{
  char full[PATH_MAX];
  if (depth > SCRIPT_DEPTH)
  {
    found(ret, "has too many interpreters behind one another", path, "");
    return;
  }
  int fd = look_up(path, full, sizeof full) ? open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
  if (fd < 0)
  {
    found(ret, errno == EACCES ? "cannot be read" : "was not found", path, "");
    return;
  }
  inspect_file(full, fd, depth, ret);
  close(fd);
}

void prelux_cli_inspect_as(const char *name, const char *file, struct prelux_cli_finding *ret)
{
  memset(ret, 0, sizeof *ret);
  ret->ok = true;
  int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
  {
    found(ret, errno == EACCES ? "may not be looked at: another user's, or set-uid" : "was not found", name, "");
    return;
  }
  inspect_file(name, fd, 0, ret);
  close(fd);
}

void prelux_cli_inspect(const char *path, struct prelux_cli_finding *ret)
{
  memset(ret, 0, sizeof *ret);
  ret->ok = true;
  errno = ENOENT;
  inspect_depth(path, 0, ret);
  if (ret->ok)
    snprintf(ret->text, sizeof ret->text, "the library can be loaded into %.300s", path);
}
