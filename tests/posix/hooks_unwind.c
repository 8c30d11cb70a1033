/* A call that waits for a miss is left by siglongjmp, or its thread is cancelled; what comes after must work.
 *
 *   hooks_unwind HOW CALL FOLDER OTHER MS
 *     HOW    longjmp | cancel | cancel-async
 *     FOLDER folder of f000 ... f009 that answer slowly; each round takes another name
 *     OTHER  folder of f000 that answers at once
 *     MS     when to strike
 * Prints how often the call was really left in the middle ("left N"): a test that never strikes proves nothing. */
#include <pthread.h>
#include <setjmp.h>
#include <sys/time.h>

#include "hooks.h"

#define ROUNDS 3

static sigjmp_buf back;

static void on_alarm(int sig)
{
  (void)sig;
  siglongjmp(back, 1);
}

static void call_one(const char *call, const char *folder, const char *name)
{
  char path[PATH_MAX], real[PATH_MAX];
  struct stat st;
  int fd = -1;
  join_path(path, folder, name);
  if (strcmp(call, "open") == 0)
    fd = open(path, O_RDONLY);
  else if (strcmp(call, "read") == 0) /* open and read as one: where the miss is waited for is not the program's affair */
  {
    fd = open(path, O_RDONLY);
    if (fd >= 0)
      right_bytes(fd, name);
  }
  else if (strcmp(call, "fopen") == 0)
  {
    FILE *f = fopen(path, "r");
    if (f)
      fclose(f);
  }
  else if (strcmp(call, "stat") == 0)
    stat(path, &st);
  else if (strcmp(call, "access") == 0)
    access(path, R_OK);
  else if (strcmp(call, "realpath") == 0)
  {
    if (!realpath(path, real))
      real[0] = 0;
  }
  else if (strcmp(call, "opendir") == 0)
  {
    DIR *d = opendir(folder);
    if (d)
      closedir(d);
  }
  else
    MUST(0, "unknown call %s", call);
  if (fd >= 0)
    close(fd);
}

static int jump_out(const char *call, const char *folder, const char *name, long ms)
{
  struct itimerval once = {.it_value = {ms / 1000, ms % 1000 * 1000}}, never = {0};
  if (sigsetjmp(back, 1) != 0)
    return 1;
  setitimer(ITIMER_REAL, &once, NULL);
  call_one(call, folder, name);
  setitimer(ITIMER_REAL, &never, NULL);
  return 0;
}

struct job {
  const char *call, *folder, *name;
  int type;
  volatile int done;
};

static void *in_thread(void *arg)
{
  struct job *job = arg;
  int was;
  pthread_setcanceltype(job->type, &was);
  call_one(job->call, job->folder, job->name);
  job->done = 1;
  return NULL;
}

static int cancel_in(const char *call, const char *folder, const char *name, long ms, int type)
{
  struct job job = {call, folder, name, type, 0};
  pthread_t thread;
  void *result;
  struct timespec limit;
  MUST(pthread_create(&thread, NULL, in_thread, &job) == 0, "thread");
  sleep_ms(ms);
  int busy = !job.done;
  pthread_cancel(thread);
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 20;
  MUST(pthread_timedjoin_np(thread, &result, &limit) == 0, "a cancelled thread did not end");
  return busy;
}

int main(int argc, char **argv)
{
  char name[8], path[PATH_MAX];
  struct sigaction action = {.sa_handler = on_alarm};
  int left = 0, before;
  if (argc != 6)
    return 2;
  long ms = atol(argv[5]);
  sigaction(SIGALRM, &action, NULL);
  MUST(read_file(argv[4], "f000") == 1, "the quick file");
  before = open_fds(1024);
  for (int i = 0; i < ROUNDS; i++)
  {
    nth_name(name, i);
    if (strcmp(argv[1], "longjmp") == 0)
      left += jump_out(argv[2], argv[3], name, ms);
    else
      left += cancel_in(argv[2], argv[3], name, ms, argv[1][6] ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED);
    join_path(path, argv[4], "f000");
    MUST(read_file(argv[4], "f000") == 1, "the quick file after round %d", i);
  }
  /* A thread that was torn down in the middle of a call has nobody to tidy up after it. */
  int allowed = strcmp(argv[1], "cancel-async") == 0 ? ROUNDS : 1;
  int after = open_fds(1024);
  MUST(after - before <= allowed, "%d descriptors before, %d after", before, after);
  MUST(read_file(argv[3], "f000") == 1, "the slow file at leisure");
  MUST(read_file(argv[3], "f009") == 1, "a slow file never asked for before");
  MUST(open_fds(1024) - before <= allowed, "%d descriptors before, %d at the end", before, open_fds(1024));
  printf("left %d\n", left);
  return 0;
}
