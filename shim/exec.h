/* What execve, posix_spawn and system share: the file that the kernel is given, and the environment of the child.
 *
 * All of it runs in vfork children and signal handlers: no allocation by malloc, no lock, no store outside the stack. */
#ifndef PRELUX_SHIM_EXEC_H
#define PRELUX_SHIM_EXEC_H

#include "shim/decls.h"
#include "shim/ask.h"
#include "shim/route.h"

/* Memory for one call: a few KiB of the caller's stack, then anonymous maps. */
struct prelux_room {
  size_t used;
  unsigned n_maps;
  struct {
    void *at;
    size_t len;
  } maps[8];
  char bytes[4096] __attribute__((aligned(16)));
};
static inline void prelux_room_init(struct prelux_room *room)
{
  room->used = room->n_maps = 0;
}
void *prelux_room_take(struct prelux_room *room, size_t bytes); /* NULL: no memory */
/* After a failed exec. A vfork child whose exec succeeds leaves its maps to the parent: only environments of more than
 * some 400 entries that lack LD_PRELOAD, and calls with as many arguments, come to that. */
void prelux_room_release(struct prelux_room *room);

/* Where libc is sent instead of to the program that was asked for. */
struct prelux_target {
  int at;
  const char *path;
  char *const *argv;
  bool moves; /* the child will be in the folder that relative paths are seen from: a script keeps the name it was given */
  struct prelux_room *room;
  struct prelux_route r;
  char cache[PATH_MAX];
};

/* Program below a prefix -> its filled cache file; a script there -> its interpreter with the script's logical name as
 * argument (followed through at most four scripts). Unmapped programs stay as they are. 0 or -errno. */
int prelux_exec_resolve(struct prelux_target *t, int dirfd, const char *path, char *const argv[]);
/* After libc failed with errno `err`: 1 when t is something else now (a link led to a mapping, or the interpreter of
 * an unmapped script is mapped), 0 when the failure stands, -errno. */
int prelux_exec_again(struct prelux_target *t, int dirfd, const char *path, char *const argv[], int err);

/* t->at, t->path: an unmapped file, called `script`. When it is a script whose interpreter is mapped (the kernel would look
 * behind the prefix) t becomes the interpreter: 1; 0: it is not; -errno. */
int prelux_exec_interpreter(struct prelux_target *t, const char *script);

/* First bytes of a file, or of `at` itself when path is "". Count or -errno. */
enum { PRELUX_HEAD = 256 };
long prelux_exec_head(int at, const char *path, char head[PRELUX_HEAD + 1]);
/* "#!": interpreter and optional argument (NULL), both inside `head`. False: not a script that the kernel would run. */
bool prelux_exec_script(char *head, long n, char **ret_interpreter, char **ret_argument);

/* The environment to be given to a child: envp itself when nothing is missing, else a copy in `room` with what the
 * library needs. at, path: the program, or path NULL; one that the library cannot be loaded into (another ELF class, machine
 * or libc) does not get it in LD_PRELOAD, unless that names it by $LIB; one that needs libasan is told to bear with a preload. exec: this process becomes it. */
int prelux_exec_env(struct prelux_room *room, char *const envp[], int at, const char *path, bool exec, char *const **ret);

/* What `envp` lacks, as shell words "A='x' B='y'": length, 0 when nothing is missing, -ENOMEM when it does not fit. */
long prelux_exec_exports(char *const envp[], char *out, size_t cap);

/* Fills what a shared object or program names as needed and finds beside itself ($ORIGIN), so that ld.so finds it in
 * the cache tree. r: the object's route; cache: its cache path. Where one of them is still to be sent it has another name than there: then that
 * is waited for, and the object's own name may be another one then. */
void prelux_elf_fill(const struct prelux_route *r, char cache[PATH_MAX]);

/* What kind of program a file is (path "": the file open as `at`), or the interpreter of a script; 0: no ELF file, or not
 * to be read. */
#define PRELUX_ELF_FOREIGN 0x1u /* of another class, machine or libc */
#define PRELUX_ELF_DYNAMIC 0x2u /* has an ld.so, which reads LD_PRELOAD */
#define PRELUX_ELF_ASAN 0x4u    /* linked with shared libasan, which wants to come first */
#define PRELUX_ELF_BY_CLASS 0x8u /* FOREIGN, and DIR/$LIB/libprelux.so does no harm: it is an empty library (i386), or passed over (musl) */
#define PRELUX_ELF_STATIC 0x10u /* has no ld.so (or is one) */
unsigned prelux_exec_kind(int at, const char *path);
/* A program of Go's linker, dynamic or not: it makes system calls past libc. */
bool prelux_exec_is_go(int at, const char *path);
/* Name of a library, without folders; more may follow it. */
bool prelux_exec_is_asan(const char *name);

#endif
