/* Binding of libc's functions: each at its first use, without dlsym.
 *
 * Every member of prelux_real starts as the address of a stub of 16 bytes in a table of them. A stub loads its
 * number and jumps to one piece of assembler that saves the arguments, lets prelux_real_resolve() find the function and
 * store it in the member, and goes there: the next call goes straight. 210 look-ups by dlsym cost each process some
 * 70 us, and dlsym may not be called everywhere (it takes ld.so's lock, which a forked child may find held for ever);
 * what is done here is a walk over symbol tables that never change, safe in signal handlers and children of any kind.
 *
 * The objects searched are those that ld.so loaded after this library, in its order, as RTLD_NEXT does; they are
 * noted once, at the latest by the constructor. They were loaded at start, so they are never unloaded. */
#include "shim/real.h"

#include <elf.h>
#include <link.h>
#include <stdarg.h>

#include "lib/base/sys.h"
#include "shim/state.h"

enum {
#define CALL(family, name, flags, pending, why) NUMBER_##name,
#include "shim/calls.h"
#undef CALL
  N_CALLS
};
_Static_assert(sizeof(struct prelux_real) == N_CALLS * sizeof(void *), "one pointer a call, in the order of calls.h");

enum pending { NONE, SERVE, SETTLE, NATIVE };
#define CALL(family, name, flags, pending, why) \
  _Static_assert(sizeof(why) > 4 && (pending) >= NONE && (pending) <= NATIVE, #name ": a cell is empty");
#include "shim/calls.h"
#undef CALL

/* ---- stubs */

enum { STUB_BYTES = 16 };
__attribute__((visibility("hidden"), used)) void *prelux_real_resolve(uint32_t number);
__attribute__((visibility("hidden"))) extern const char prelux_real_stubs[];

#if defined(__x86_64__)
#define STUB "  movl $prelux_real_number, %r11d\n  jmp prelux_real_lazy\n"
__asm__(".text\n"
        ".hidden prelux_real_lazy\n"
        "prelux_real_lazy:\n"
        "  push %rdi\n  push %rsi\n  push %rdx\n  push %rcx\n  push %r8\n  push %r9\n  push %rax\n"
        "  movl %r11d, %edi\n"
        "  call prelux_real_resolve\n"
        "  movq %rax, %r11\n"
        "  pop %rax\n  pop %r9\n  pop %r8\n  pop %rcx\n  pop %rdx\n  pop %rsi\n  pop %rdi\n"
        "  jmp *%r11\n");
#elif defined(__aarch64__)
#define STUB "  mov w16, #prelux_real_number\n  b prelux_real_lazy\n"
__asm__(".text\n"
        ".hidden prelux_real_lazy\n"
        "prelux_real_lazy:\n"
        "  stp x29, x30, [sp, #-96]!\n"
        "  mov x29, sp\n"
        "  stp x0, x1, [sp, #16]\n  stp x2, x3, [sp, #32]\n  stp x4, x5, [sp, #48]\n  stp x6, x7, [sp, #64]\n"
        "  str x8, [sp, #80]\n"
        "  mov w0, w16\n"
        "  bl prelux_real_resolve\n"
        "  mov x16, x0\n"
        "  ldp x0, x1, [sp, #16]\n  ldp x2, x3, [sp, #32]\n  ldp x4, x5, [sp, #48]\n  ldp x6, x7, [sp, #64]\n"
        "  ldr x8, [sp, #80]\n"
        "  ldp x29, x30, [sp], #96\n"
        "  br x16\n");
#endif

__asm__(".text\n"
        ".p2align 4\n"
        ".hidden prelux_real_stubs\n"
        ".globl prelux_real_stubs\n"
        "prelux_real_stubs:\n"
        ".set prelux_real_number, 0\n"
#define CALL(family, name, flags, pending, why) ".p2align 4\n" STUB ".set prelux_real_number, prelux_real_number + 1\n"
#include "shim/calls.h"
#undef CALL
);

struct prelux_real prelux_real = {
#define CALL(family, name, flags, pending, why) \
  .name = (__typeof__(name) *)(prelux_real_stubs + STUB_BYTES * NUMBER_##name),
#include "shim/calls.h"
#undef CALL
};

/* ---- names */

static const struct names {
#define CALL(family, name, flags, pending, why) char name[sizeof(#name)];
#include "shim/calls.h"
#undef CALL
} names = {
#define CALL(family, name, flags, pending, why) #name,
#include "shim/calls.h"
#undef CALL
};

static const struct {
  uint16_t name;
  uint8_t flags;
} rows[N_CALLS] = {
#define CALL(family, name, flags, pending, why) {offsetof(struct names, name), (flags)},
#include "shim/calls.h"
#undef CALL
};

/* ---- looking up. No string function of libc is called here: libasan puts its own in their place, which call ours while they
 * set themselves up and are of no use until then. */

static PRELUX_AT_START bool same(const char *a, const char *b)
{
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

static PRELUX_AT_START bool is_vdso(const char *name)
{
  return same(name, "linux-vdso.so.1") || same(name, "linux-gate.so.1");
}

/* libc.so.6, libpthread.so.0, ld-linux-x86-64.so.2 */
static PRELUX_AT_START bool is_libc(const char *name)
{
  const char *base = name;
  for (; *name; name++)
    if (*name == '/') base = name + 1;
  if (base[0] == 'l' && base[1] == 'd' && (base[2] == '-' || base[2] == '.')) return true;
  if (base[0] != 'l' || base[1] != 'i' || base[2] != 'b') return false;
  return (base[3] == 'c' && (base[4] == '.' || base[4] == '-')) || (base[3] == 'p' && base[4] == 't' && base[5] == 'h' && base[6] == 'r');
}

struct object {
  uintptr_t base;
  const ElfW(Sym) *symbols;
  const char *strings;
  const uint16_t *versions; /* NULL: none */
  const uint32_t *gnu;      /* DT_GNU_HASH, or NULL and */
  const uint32_t *sysv;     /* DT_HASH */
  bool libc;                /* or a part of it */
};

enum { FEW = 4, OBJECTS = 256 }; /* few: libc, ld.so and what small programs have */
static PRELUX_START_DATA struct object few[FEW];
static PRELUX_START_DATA size_t n_objects;
static PRELUX_START_DATA int noted;
static struct object many[OBJECTS - FEW];

static PRELUX_AT_START struct object *object(size_t i)
{
  return i < FEW ? &few[i] : &many[i - FEW];
}

/* ld.so relocates the pointers of the dynamic section in place; those of the vDSO it leaves alone. */
static PRELUX_AT_START const void *at(const struct link_map *m, ElfW(Addr) ptr)
{
  return (const void *)(ptr < m->l_addr ? ptr + m->l_addr : ptr);
}

static PRELUX_AT_START bool describe(const struct link_map *m, struct object *o)
{
  *o = (struct object){.base = m->l_addr, .libc = is_libc(m->l_name)};
  for (const ElfW(Dyn) *d = m->l_ld; d->d_tag != DT_NULL; d++) {
    switch (d->d_tag) {
    case DT_SYMTAB: o->symbols = at(m, d->d_un.d_ptr); break;
    case DT_STRTAB: o->strings = at(m, d->d_un.d_ptr); break;
    case DT_VERSYM: o->versions = at(m, d->d_un.d_ptr); break;
    case DT_GNU_HASH: o->gnu = at(m, d->d_un.d_ptr); break;
    case DT_HASH: o->sysv = at(m, d->d_un.d_ptr); break;
    default: break;
    }
  }
  return o->symbols && o->strings && (o->gnu || o->sysv);
}

#ifdef __SANITIZE_THREAD__
void AnnotateBenignRaceSized(const char *file, int line, const volatile void *mem, size_t size, const char *text);
#define MAY_RACE(mem) AnnotateBenignRaceSized(__FILE__, __LINE__, &(mem), sizeof(mem), "a stub or the function: either does")
#else
#define MAY_RACE(mem) (void)0
#endif

PRELUX_AT_START void prelux_real_bind(void)
{
  bool after = false;
  size_t n = 0;
  if (__atomic_load_n(&noted, __ATOMIC_ACQUIRE)) return;
  for (const struct link_map *m = _r_debug.r_map; m && n < OBJECTS; m = m->l_next) {
    if (m->l_ld == _DYNAMIC) after = true;
    else if (after && !is_vdso(m->l_name) && describe(m, object(n))) n++;
  }
  n_objects = n;
  MAY_RACE(prelux_real);
  __atomic_store_n(&noted, 1, __ATOMIC_RELEASE);
}

/* A definition that a new link would get: not of an old version. */
static void *defined(const struct object *o, uint32_t i, const char *name)
{
  enum { OLD_VERSION = 0x8000 };
  const ElfW(Sym) *s = &o->symbols[i];
  unsigned type = ELF64_ST_TYPE(s->st_info);
  if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) return NULL;
  if (s->st_shndx == SHN_UNDEF || s->st_value == 0) return NULL;
  if (o->versions && (o->versions[i] & OLD_VERSION)) return NULL;
  if (!same(o->strings + s->st_name, name)) return NULL;
  void *fn = (void *)(o->base + s->st_value);
  return type == STT_GNU_IFUNC ? ((void *(*)(void))fn)() : fn;
}

static void *find_gnu(const struct object *o, const char *name, uint32_t hash)
{
  uint32_t n_buckets = o->gnu[0], first = o->gnu[1], n_words = o->gnu[2], shift = o->gnu[3];
  const ElfW(Addr) *bloom = (const ElfW(Addr) *)(o->gnu + 4);
  const uint32_t *buckets = (const uint32_t *)(bloom + n_words), *chain = buckets + n_buckets;
  enum { BITS = sizeof(ElfW(Addr)) * 8 };
  ElfW(Addr) word = bloom[hash / BITS & (n_words - 1)];
  if (n_buckets == 0 || !(word >> (hash % BITS) & word >> ((hash >> shift) % BITS) & 1)) return NULL;
  uint32_t i = buckets[hash % n_buckets];
  if (i < first) return NULL;
  for (;; i++) {
    uint32_t is = chain[i - first];
    void *fn = (is ^ hash) >> 1 == 0 ? defined(o, i, name) : NULL;
    if (fn || (is & 1)) return fn;
  }
}

static void *find_sysv(const struct object *o, const char *name)
{
  uint32_t hash = 0;
  for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
    hash = (hash << 4) + *p;
    hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
  }
  const uint32_t *buckets = o->sysv + 2, *chain = buckets + o->sysv[0];
  for (uint32_t i = buckets[hash % o->sysv[0]]; i; i = chain[i]) {
    void *fn = defined(o, i, name);
    if (fn) return fn;
  }
  return NULL;
}

/* Other libraries behind ours that have calls of the list, as another preload does. Such a one may do its work by syscall(), which is
 * ours: that is meant for the kernel, and would come back to it without end. Where it jumps there instead of calling, the return address
 * is ours, so with one of them we are in the table, too. Room for a few; start 0: none. */
enum { RIVALS = 8 };
static struct {
  uintptr_t start, end;
} rivals[RIVALS];
static int n_rivals;

static void note_range(uintptr_t base)
{
  const ElfW(Ehdr) *eh = (const ElfW(Ehdr) *)base;
  uintptr_t end = 0;
  int known = __atomic_load_n(&n_rivals, __ATOMIC_ACQUIRE);
  for (int i = 0; i < known && i < RIVALS; i++)
    if (__atomic_load_n(&rivals[i].start, __ATOMIC_ACQUIRE) == base) return;
  if (!eh || eh->e_ident[EI_MAG0] != ELFMAG0 || eh->e_ident[EI_MAG1] != ELFMAG1) return;
  const ElfW(Phdr) *ph = (const ElfW(Phdr) *)(base + eh->e_phoff);
  for (unsigned i = 0; i < eh->e_phnum; i++)
    if (ph[i].p_type == PT_LOAD && base + ph[i].p_vaddr + ph[i].p_memsz > end) end = base + ph[i].p_vaddr + ph[i].p_memsz;
  int mine = __atomic_fetch_add(&n_rivals, 1, __ATOMIC_ACQ_REL); /* two threads may both note it */
  if (mine >= RIVALS) return;
  __atomic_store_n(&rivals[mine].end, end, __ATOMIC_RELAXED);
  __atomic_store_n(&rivals[mine].start, base, __ATOMIC_RELEASE);
}

static void note_rival(const struct object *o)
{
  for (const struct link_map *m = _r_debug.r_map; m; m = m->l_next)
    if (m->l_ld == _DYNAMIC) note_range(m->l_addr);
  note_range(o->base);
}

bool prelux_real_is_behind(const void *caller)
{
  uintptr_t at = (uintptr_t)caller;
  int known = __atomic_load_n(&n_rivals, __ATOMIC_ACQUIRE);
  for (int i = 0; i < known && i < RIVALS; i++) {
    uintptr_t start = __atomic_load_n(&rivals[i].start, __ATOMIC_ACQUIRE);
    if (start && at >= start && at < __atomic_load_n(&rivals[i].end, __ATOMIC_RELAXED)) return true;
  }
  return false;
}

static void *find_next(const char *name)
{
  uint32_t hash = 5381;
  for (const unsigned char *p = (const unsigned char *)name; *p; p++) hash = hash * 33 + *p;
  for (size_t i = 0; i < n_objects; i++) {
    const struct object *o = object(i);
    void *fn = o->gnu ? find_gnu(o, name, hash) : find_sysv(o, name);
    if (fn && !o->libc) note_rival(o);
    if (fn) return fn;
  }
  return NULL;
}

/* ---- what this libc lacks */

static long missing_int(void)
{
  errno = ENOSYS;
  return -1;
}

static void *missing_ptr(void)
{
  errno = ENOSYS;
  return NULL;
}

static int raw_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
  return (int)prelux_ret(prelux_sys(SYS_newfstatat, dirfd, path, st, flags));
}

static int raw_stat(const char *path, struct stat *st)
{
  return raw_fstatat(AT_FDCWD, path, st, 0);
}

static int raw_lstat(const char *path, struct stat *st)
{
  return raw_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

static int raw_fstat(int fd, struct stat *st)
{
  return (int)prelux_ret(prelux_sys(SYS_fstat, fd, st));
}

static int raw_xstat(int ver, const char *path, struct stat *st)
{
  return raw_stat(path, st);
}

static int raw_lxstat(int ver, const char *path, struct stat *st)
{
  return raw_lstat(path, st);
}

static int raw_fxstat(int ver, int fd, struct stat *st)
{
  return raw_fstat(fd, st);
}

static int raw_fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags)
{
  return raw_fstatat(dirfd, path, st, flags);
}

/* struct stat and struct stat64 are one layout where prelux runs. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout");

/* glibc before 2.33 has only the __xstat family, some ports have only the other; programs know both by us. */
static void *substitute(uint32_t number)
{
  switch (number) {
  case NUMBER_stat:
  case NUMBER_stat64: return (void *)raw_stat;
  case NUMBER_lstat:
  case NUMBER_lstat64: return (void *)raw_lstat;
  case NUMBER_fstat:
  case NUMBER_fstat64: return (void *)raw_fstat;
  case NUMBER_fstatat:
  case NUMBER_fstatat64: return (void *)raw_fstatat;
  case NUMBER___xstat:
  case NUMBER___xstat64: return (void *)raw_xstat;
  case NUMBER___lxstat:
  case NUMBER___lxstat64: return (void *)raw_lxstat;
  case NUMBER___fxstat:
  case NUMBER___fxstat64: return (void *)raw_fxstat;
  case NUMBER___fxstatat:
  case NUMBER___fxstatat64: return (void *)raw_fxstatat;
  default: return rows[number].flags & C_PTR ? (void *)missing_ptr : (void *)missing_int;
  }
}

void *prelux_real_resolve(uint32_t number)
{
  prelux_real_bind();
  void *fn = find_next((const char *)&names + rows[number].name);
  if (!fn) fn = substitute(number);
  __atomic_store_n((void **)&prelux_real + number, fn, __ATOMIC_RELEASE); /* whoever stores, stores the same */
  return fn;
}

bool prelux_real_has(const void *fn)
{
  uintptr_t stub = (uintptr_t)fn - (uintptr_t)prelux_real_stubs;
  if (stub < (uintptr_t)N_CALLS * STUB_BYTES) fn = prelux_real_resolve((uint32_t)(stub / STUB_BYTES));
  return fn != (const void *)missing_int && fn != (const void *)missing_ptr;
}
