/* One call of a supervised program. */
#ifndef PRELUX_DEEP_CALL_H
#define PRELUX_DEEP_CALL_H

#include <limits.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* How a number is done here. `as`: the call with a descriptor of the folder; `args`: its arguments in order, each made of the program's next one:
 *   d  descriptor of a folder, for the path behind it     D  no argument: the working directory
 *   p  path         t  other text (a link's, an attribute's name)
 *   .  a number     m  a mode, less the program's umask     f  a descriptor     F  flags of an open
 *   S  memory for the answer, `size` bytes                  b  memory for it, whose size is the next argument
 *   i  memory that is read, `size` bytes, or NULL           o  the same, its size is the next argument (openat2's)
 *   _  zero, whatever the program's is
 *   0  zero, N  AT_SYMLINK_NOFOLLOW, R  AT_REMOVEDIR, C  O_CREAT | O_WRONLY | O_TRUNC: no argument */
struct prelux_deep_rule {
  unsigned nr, as;
  const char *args;
  unsigned size;
  unsigned how; /* PRELUX_DEEP_* for paths */
  enum { PRELUX_DEEP_VALUE, PRELUX_DEEP_FD, PRELUX_DEEP_CHDIR, PRELUX_DEEP_GETCWD, PRELUX_DEEP_EXEC, PRELUX_DEEP_DENTS, PRELUX_DEEP_WAKE } kind;
};
extern const struct prelux_deep_rule prelux_deep_rules[];
extern const size_t prelux_deep_n_rules;

enum { PRELUX_DEEP_ARGS = 6, PRELUX_DEEP_OUT = 64 << 10, PRELUX_DEEP_IN = 256 };

struct prelux_deep_call {
  int listener;
  struct seccomp_notif req;
  const struct prelux_deep_rule *rule;
  long args[PRELUX_DEEP_ARGS];
  int fds[4]; /* ours, closed at the end */
  int n_fds;
  int n_texts;
  uint64_t out_at; /* the program's memory for the answer, 0: none */
  size_t out_len;
  int open_flags; /* of 'F' and openat2 */
  bool is_kernels; /* but done here */
  int counts;      /* where, in a report; 0: nowhere */
  char texts[2][PATH_MAX];
  char in[PRELUX_DEEP_IN] __attribute__((aligned(16)));
  char out[PRELUX_DEEP_OUT] __attribute__((aligned(16)));
};

/* target.c: what the program sees and has. All -errno. */
long prelux_deep_text(pid_t tid, uint64_t at, char *out, size_t cap); /* length */
int prelux_deep_read(pid_t tid, uint64_t at, void *out, size_t len);
int prelux_deep_write(pid_t tid, uint64_t at, const void *in, size_t len);
int prelux_deep_open_proc(pid_t tid, const char *what, int flags); /* /proc/TID/what */
int prelux_deep_get_fd(pid_t tid, int fd);                         /* the same open file */
unsigned prelux_deep_umask(pid_t tid);
bool prelux_deep_same_root(pid_t tid);
bool prelux_deep_same_user(pid_t tid); /* for files */
bool prelux_deep_same_view(pid_t tid); /* the kernel's answers here are those that it gets: name spaces, rights */
/* The call came from a libc that the library is before: it has passed the library, and is the kernel's. */
bool prelux_deep_is_reached(pid_t tid, uint64_t ip);
bool prelux_deep_may_be_reached(pid_t tid); /* it has an ld.so, which may yet load the library, or has it */
void prelux_deep_forget(pid_t tid);

/* Its process; and whether open files of programs can be had, not only files of the same name. */
pid_t prelux_deep_process(pid_t tid);
pid_t prelux_deep_parent(pid_t tid);
bool prelux_deep_shares_fds(void);

/* dents.c: instead of `fd`, which is what the program has open as `number`. */
int prelux_deep_dents_take(pid_t pid, int number, int fd);
bool prelux_deep_dents_give(int fd, bool ended); /* false: nobody keeps it */
long prelux_deep_dents_hand_over(pid_t pid, int listener, struct seccomp_notif_addfd *what); /* a folder's descriptor */

/* become.c: -errno, or 1 when `answered` was called and all is done. */
long prelux_deep_chdir(struct prelux_deep_call *c, void (*answered)(struct prelux_deep_call *c));
/* A script whose interpreter is ours. */
bool prelux_deep_interpreted(const char *path);
long prelux_deep_become(struct prelux_deep_call *c, void (*answered)(struct prelux_deep_call *c));

/* calls.c. True: the kernel may do it (answered so); false: prelux_deep_perform() must be called. */
extern bool prelux_deep_reports; /* each program's calls are counted */
bool prelux_deep_decide(struct prelux_deep_call *c, uint32_t id);
void prelux_deep_perform(struct prelux_deep_call *c);

#endif
