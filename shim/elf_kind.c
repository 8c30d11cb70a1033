/* Into what kind of program a child turns: one that this library can be loaded into, and how. Asked at each exec, so it
 * is a few small reads of the file, most from its first block: a map would cost several times that in page faults. */
#include "shim/exec.h"

#include <elf.h>

#include "shim/aside.h"

enum { HEAD_BYTES = 1024, NEEDED_MAX = 256 };
_Static_assert((int)HEAD_BYTES >= (int)PRELUX_HEAD, "holds the first line of a script, too");

struct program {
  long fd;
  size_t n; /* bytes in head */
  char head[HEAD_BYTES + 1];
};

/* False also when the file ends before. */
static bool take(const struct program *p, uint64_t off, void *out, size_t len)
{
  if (off <= p->n && len <= p->n - off) {
    memcpy(out, p->head + off, len);
    return true;
  }
  return off <= INT64_MAX && prelux_sys(SYS_pread64, p->fd, out, len, off) == (long)len;
}

/* 32-bit headers are read into 64-bit ones. */
static bool take_header(const struct program *p, Elf64_Ehdr *eh)
{
  Elf32_Ehdr small;

  if (p->n < EI_NIDENT) return false;
  if (p->head[EI_CLASS] == ELFCLASS64) return take(p, 0, eh, sizeof(*eh));
  if (!take(p, 0, &small, sizeof(small))) return false;
  *eh = (Elf64_Ehdr){.e_machine = small.e_machine, .e_phoff = small.e_phoff, .e_phentsize = small.e_phentsize, .e_phnum = small.e_phnum};
  return true;
}

static bool segment(const struct program *p, const Elf64_Ehdr *eh, unsigned i, Elf64_Phdr *ph)
{
  Elf32_Phdr small;

  if (i >= eh->e_phnum) return false;
  if (p->head[EI_CLASS] == ELFCLASS64) return eh->e_phentsize == sizeof(*ph) && take(p, eh->e_phoff + (uint64_t)i * sizeof(*ph), ph, sizeof(*ph));
  if (eh->e_phentsize != sizeof(small) || !take(p, eh->e_phoff + (uint64_t)i * sizeof(small), &small, sizeof(small))) return false;
  *ph = (Elf64_Phdr){.p_type = small.p_type, .p_offset = small.p_offset, .p_vaddr = small.p_vaddr, .p_filesz = small.p_filesz};
  return true;
}

static bool find_segment(const struct program *p, const Elf64_Ehdr *eh, uint32_t type, Elf64_Phdr *ph)
{
  for (unsigned i = 0; segment(p, eh, i, ph); i++)
    if (ph->p_type == type) return true;
  return false;
}

static bool is_musl(const struct program *p, const Elf64_Phdr *interp)
{
  char name[PATH_MAX];
  size_t n = interp->p_filesz < sizeof(name) ? interp->p_filesz : sizeof(name) - 1;

  if (!take(p, interp->p_offset, name, n)) return false;
  name[n] = 0;
  return strstr(name, "/ld-musl") != NULL;
}

/* Where in the file the strings of the dynamic section begin; UINT64_MAX: nowhere. */
static uint64_t strings_at(const struct program *p, const Elf64_Ehdr *eh, uint64_t addr)
{
  Elf64_Phdr ph;

  for (unsigned i = 0; segment(p, eh, i, &ph); i++)
    if (ph.p_type == PT_LOAD && addr >= ph.p_vaddr && addr - ph.p_vaddr < ph.p_filesz) return ph.p_offset + (addr - ph.p_vaddr);
  return UINT64_MAX;
}

bool prelux_exec_is_asan(const char *name)
{
  return strncmp(name, "libasan.so", 10) == 0 || strncmp(name, "libclang_rt.asan", 16) == 0;
}

static bool needs_asan(const struct program *p, const Elf64_Ehdr *eh)
{
  enum { BLOCK = 32 };
  Elf64_Phdr ph;
  union {
    Elf64_Dyn wide[BLOCK];
    Elf32_Dyn small[BLOCK];
  } d;
  bool wide = p->head[EI_CLASS] == ELFCLASS64;
  uint64_t needed[NEEDED_MAX], strings = UINT64_MAX, size = wide ? sizeof(Elf64_Dyn) : sizeof(Elf32_Dyn);
  size_t n = 0;

  if (!find_segment(p, eh, PT_DYNAMIC, &ph)) return false;
  size_t count = ph.p_filesz / size;
  for (size_t at = 0; at < count; at += BLOCK) {
    size_t some = count - at < BLOCK ? count - at : BLOCK;
    if (!take(p, ph.p_offset + at * size, &d, some * size)) return false;
    for (size_t i = 0; i < some; i++) {
      int64_t tag = wide ? d.wide[i].d_tag : d.small[i].d_tag;
      uint64_t value = wide ? d.wide[i].d_un.d_val : d.small[i].d_un.d_val;
      if (tag == DT_NEEDED && n < NEEDED_MAX) needed[n++] = value;
      if (tag == DT_STRTAB) strings = strings_at(p, eh, value);
      if (tag == DT_NULL) count = 0;
    }
  }
  for (size_t i = 0; i < n && strings != UINT64_MAX; i++) {
    char name[17] = "";
    if (take(p, strings + needed[i], name, sizeof(name) - 1) && prelux_exec_is_asan(name)) return true;
  }
  return false;
}

static unsigned kind_of(const struct program *p)
{
#if defined(__x86_64__)
  enum { MACHINE = EM_X86_64, MACHINE_32 = EM_386 };
#elif defined(__aarch64__)
  enum { MACHINE = EM_AARCH64, MACHINE_32 = EM_NONE };
#endif
  Elf64_Ehdr eh;
  Elf64_Phdr interp;

  if (!take_header(p, &eh)) return p->n > EI_CLASS && p->head[EI_CLASS] != ELFCLASS64 ? PRELUX_ELF_FOREIGN : 0;
  unsigned kind = find_segment(p, &eh, PT_INTERP, &interp) ? PRELUX_ELF_DYNAMIC : PRELUX_ELF_STATIC;
  bool wide = p->head[EI_CLASS] == ELFCLASS64;
  if (eh.e_machine != (wide ? MACHINE : MACHINE_32)) return kind | PRELUX_ELF_FOREIGN;
#ifdef __GLIBC__
  if (kind == PRELUX_ELF_DYNAMIC && is_musl(p, &interp)) return kind | PRELUX_ELF_FOREIGN | PRELUX_ELF_BY_CLASS;
#else
  if (kind == PRELUX_ELF_DYNAMIC && !is_musl(p, &interp)) return kind | PRELUX_ELF_FOREIGN;
#endif
  if (!wide) kind |= PRELUX_ELF_FOREIGN | PRELUX_ELF_BY_CLASS;
  return needs_asan(p, &eh) ? kind | PRELUX_ELF_ASAN : kind;
}

/* The linker's first note is named "Go". */
static bool has_go_note(const struct program *p)
{
  struct {
    Elf64_Nhdr head;
    char name[4];
  } note;
  Elf64_Ehdr eh;
  Elf64_Phdr ph;
  if (!take_header(p, &eh)) return false;
  for (unsigned i = 0; segment(p, &eh, i, &ph); i++)
    if (ph.p_type == PT_NOTE && take(p, ph.p_offset, &note, sizeof(note)) && note.head.n_namesz == sizeof(note.name) &&
        memcmp(note.name, "Go", 3) == 0)
      return true;
  return false;
}

/* The interpreter of a script is looked at in its place; that of one that is a script itself is not. */
static unsigned look(int at, const char *path, bool scripts, bool go)
{
  struct program p;
  char *interpreter, *argument;
  unsigned kind = 0;

  p.fd = *path ? prelux_sys(SYS_openat, at, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : at;
  if (p.fd < 0) return 0;
  long n = prelux_sys(SYS_pread64, p.fd, p.head, HEAD_BYTES, 0L);
  p.n = n > 0 ? (size_t)n : 0;
  p.head[p.n] = 0;
  bool elf = p.n > SELFMAG && memcmp(p.head, ELFMAG, SELFMAG) == 0;
  if (elf) kind = go ? has_go_note(&p) : kind_of(&p);
  if (*path) prelux_sys(SYS_close, p.fd);
  if (elf || !scripts || !prelux_exec_script(p.head, n < (long)PRELUX_HEAD ? n : (long)PRELUX_HEAD, &interpreter, &argument)) return kind;
  return look(AT_FDCWD, interpreter, false, go);
}

struct question {
  int at;
  const char *path;
  bool go;
};

static long answer(void *arg)
{
  const struct question *q = arg;
  return look(q->at, q->path, true, q->go);
}

unsigned prelux_exec_kind(int at, const char *path)
{
  struct question q = {.at = at, .path = path};
  return path ? (unsigned)prelux_aside(answer, &q) : 0;
}

bool prelux_exec_is_go(int at, const char *path)
{
  struct question q = {.at = at, .path = path, .go = true};
  return path && prelux_aside(answer, &q) > 0;
}
