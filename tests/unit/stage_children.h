/* Writers that are children of a test of the stage, who are told by a word in a pipe how to end; the daemon's part is the test's. */
#ifndef PRELUX_TESTS_STAGE_CHILDREN_H
#define PRELUX_TESTS_STAGE_CHILDREN_H

#include "tests/unit/stage_rig.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/base/process.h"

struct child
{
  int pid, word;
};

/* A process that has fd, too, and nothing else of the store. */
static inline struct child begin(int fd)
{
  int pair[2];
  char word = 'u';
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  int pid = fork();
  if (pid == 0)
  {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int s = 1; s < 32; s++)
      signal(s, SIG_DFL); /* cmocka catches some */
    for (int other = 3; other < 1024; other++)
      if (other != fd && other != pair[0])
        close(other);
    if (write(pair[0], &word, 1) == 1 && read(pair[0], &word, 1) == 1 && word == 'c')
    {
      close(fd);
      pause();
    }
    _exit(3);
  }
  assert_true(pid > 0);
  close(pair[0]);
  assert_int_equal(read(pair[1], &word, 1), 1);
  return (struct child){.pid = pid, .word = pair[1]};
}

/* Wait until it is dead, but for its parent. */
static inline void dead(int pid)
{
  siginfo_t info;
  assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static inline void reap(struct child *c)
{
  close(c->word);
  assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
}

static inline void kill_it(struct child *c, int sig, bool reaped)
{
  assert_int_equal(kill(c->pid, sig), 0);
  dead(c->pid);
  if (reaped)
    reap(c);
}

static inline uint64_t number(int fd)
{
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return st.st_ino;
}

/* A file that the child alone has for writing, and the store knows it. */
static inline uint64_t written_by(const char *name, int flags, const char *text, struct child *ret)
{
  int fd = wopen(name, flags);
  uint64_t ino = number(fd);
  say(fd, text);
  *ret = begin(fd);
  prelux_crash_writer(rig.g, ino, ret->pid, prelux_process_open(ret->pid));
  close(fd);
  return ino;
}

static inline void send_all(void)
{
  int64_t next;
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static inline const struct prelux_dirty *dirty(uint64_t ino)
{
  return prelux_dirty_by_ino(rig.g, ino);
}

static inline void is_kept(uint64_t ino, const char *cause)
{
  assert_non_null(dirty(ino));
  assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_RECOVERED);
  assert_non_null(strstr(dirty(ino)->row.cause, cause));
  assert_int_equal(dirty(ino)->n_writers, 0);
}

static inline void is_sent(const char *name, const char *text)
{
  send_all();
  assert_non_null(remote_text(name));
  assert_string_equal(remote_text(name), text);
  assert_int_equal(rig.g->n_writers, 0);
}

static inline void again(uint64_t grace_ns)
{
  rig_close();
  assert_int_equal(rig_open(), 0);
  rig.g->orphan_len_ns = grace_ns;
}

#endif
