/* dlopen and dlmopen. ld.so looks at who calls it: $ORIGIN, DT_RUNPATH and the namespace are the caller's. A wrapper in
 * C would be the caller itself, so the hooks are a few instructions that ask prelux_dl_path() for the path and then
 * jump to libc with the stack as it was; libc returns straight to the program.
 *
 * A path in a mapping becomes the path of the filled cache file. The new path must outlive the jump, so it is kept
 * for good, once for each library; dlopen keeps a copy of each name, too. */
#include "shim/exec.h"

struct kept {
  struct kept *next;
  char path[];
};
static struct kept *kept_list; /* atomic; only ever grows at its head */

static const char *keep(const char *path)
{
  struct kept *head = __atomic_load_n(&kept_list, __ATOMIC_ACQUIRE);

  for (const struct kept *k = head; k; k = k->next)
    if (strcmp(k->path, path) == 0) return k->path;
  size_t n = strlen(path) + 1;
  struct kept *k = malloc(sizeof(*k) + n);
  if (!k) return NULL;
  memcpy(k->path, path, n);
  k->next = head;
  while (!__atomic_compare_exchange_n(&kept_list, &k->next, k, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {}
  return k->path;
}

/* A name that cannot be opened, for a library that is not to be had: the message shows the logical path, and the real
 * file that may stand behind the prefix is not loaded. */
static const char *refuse(const char *logical)
{
  static const char nowhere[] = "/dev/null";
  char path[PATH_MAX + sizeof(nowhere)];

  memcpy(path, nowhere, sizeof(nowhere) - 1);
  memcpy(path + sizeof(nowhere) - 1, logical, strlen(logical) + 1);
  return keep(path);
}

static const char *mapped_path(const char *path)
{
  struct prelux_route r;
  struct prelux_attr attr;
  char cache[PATH_MAX];
  int where = prelux_route(AT_FDCWD, path, 0, &r);

  if (where == PRELUX_UNMAPPED && r.use == path && prelux_sys(SYS_faccessat, AT_FDCWD, path, F_OK) == -ENOENT) {
    errno = ENOENT;
    if (prelux_route_again(AT_FDCWD, path, 0, &r)) where = r.where;
  }
  if (where < 0) return refuse(*path == '/' ? path : "/");
  if (where != PRELUX_MAPPED) return r.use == path ? path : keep(r.use);
  if (prelux_real_path(&r, "dlopen", cache, sizeof(cache), &attr) != 0) return refuse(r.logical);
  prelux_elf_fill(&r, cache);
  return keep(cache);
}

/* Path and flags stand side by side among the arguments of both calls. */
struct dl_args {
  const char *path;
  int flags;
};

/* Called by the assembler below: what libc shall be given. errno untouched. A library opened with RTLD_DEEPBIND would
 * find libc before the hooks, and what it opens below a prefix would be looked for on disk: the flag is dropped. */
__attribute__((visibility("hidden"), used)) void prelux_dl_path(struct dl_args *args);
void prelux_dl_path(struct dl_args *args)
{
  int saved = errno;

  if (!prelux_idle()) {
    args->flags &= ~RTLD_DEEPBIND;
    /* "$" begins $ORIGIN and its like, which only ld.so can expand; a bare name is looked for by ld.so. */
    if (args->path && strchr(args->path, '/') && !strchr(args->path, '$')) {
      const char *to = strlen(args->path) < PATH_MAX ? mapped_path(args->path) : args->path;
      args->path = to ? to : "/dev/null/";
    }
  }
  errno = saved;
}

/* Where the pointers to libc's functions stand, for the assembler. */
__attribute__((visibility("hidden"), used)) void *const *const prelux_real_dlopen = (void *const *)&prelux_real.dlopen;
__attribute__((visibility("hidden"), used)) void *const *const prelux_real_dlmopen = (void *const *)&prelux_real.dlmopen;

/* Arguments are saved to the stack, the path's slot is passed by its address, arguments are taken back. */
#if defined(__x86_64__)
#define JUMP(name, path_slot)                          \
  __asm__(".text\n"                                    \
          ".globl " #name "\n"                         \
          ".type " #name ",@function\n" #name ":\n"    \
          "  .cfi_startproc\n"                         \
          "  endbr64\n"                                \
          "  subq $24, %rsp\n"                         \
          "  .cfi_adjust_cfa_offset 24\n"              \
          "  movq %rdi, 0(%rsp)\n"                     \
          "  movq %rsi, 8(%rsp)\n"                     \
          "  movq %rdx, 16(%rsp)\n"                    \
          "  leaq " #path_slot "(%rsp), %rdi\n"        \
          "  call prelux_dl_path\n"                    \
          "  movq 0(%rsp), %rdi\n"                     \
          "  movq 8(%rsp), %rsi\n"                     \
          "  movq 16(%rsp), %rdx\n"                    \
          "  addq $24, %rsp\n"                         \
          "  .cfi_adjust_cfa_offset -24\n"             \
          "  movq prelux_real_" #name "(%rip), %rax\n" \
          "  jmp *(%rax)\n"                            \
          "  .cfi_endproc\n"                           \
          ".size " #name ",.-" #name "\n")
#elif defined(__aarch64__)
#define JUMP(name, path_slot)                          \
  __asm__(".text\n"                                    \
          ".globl " #name "\n"                         \
          ".type " #name ",%function\n" #name ":\n"    \
          "  .cfi_startproc\n"                         \
          "  hint #34\n"                               \
          "  sub sp, sp, #48\n"                        \
          "  .cfi_adjust_cfa_offset 48\n"              \
          "  stp x0, x1, [sp, #0]\n"                   \
          "  str x2, [sp, #16]\n"                      \
          "  stp x29, x30, [sp, #32]\n"                \
          "  add x0, sp, #" #path_slot "\n"            \
          "  bl prelux_dl_path\n"                      \
          "  ldp x0, x1, [sp, #0]\n"                   \
          "  ldr x2, [sp, #16]\n"                      \
          "  ldp x29, x30, [sp, #32]\n"                \
          "  add sp, sp, #48\n"                        \
          "  .cfi_adjust_cfa_offset -48\n"             \
          "  adrp x16, prelux_real_" #name "\n"        \
          "  ldr x16, [x16, :lo12:prelux_real_" #name "]\n" \
          "  ldr x16, [x16]\n"                         \
          "  br x16\n"                                 \
          "  .cfi_endproc\n"                           \
          ".size " #name ",.-" #name "\n")
#endif

JUMP(dlopen, 0);
JUMP(dlmopen, 8);
