/* Names of an `async` mapping against a plain folder: random calls, while another thread sends what waits to a remote that is slow and fails now
 * and then, and daemons die in between. Every call must end as in the plain folder, every listing and every file must be the same at every
 * step, and in the end the remote must be the plain folder's equal. PRELUX_TEST_SEED begins with that seed, PRELUX_TEST_SEEDS runs so many. */
#include <dirent.h>

#include "tests/unit/far_rig.h"

enum { STEPS = 400, SEEDS = 12 };

static char plain[300];
static unsigned seed;
static atomic_bool sending;
static pthread_t sender;
static atomic_uint shaky; /* one of so many changes fails; 0: none */

static unsigned number(unsigned below)
{
  return (unsigned)rand_r(&seed) % below;
}

static const char *path_of(const char *object)
{
  static char path[2][800];
  static int turn;
  turn ^= 1;
  snprintf(path[turn], sizeof path[turn], "%s/%s", plain, object);
  return path[turn];
}

static void *send_on(void *arg)
{
  unsigned mine = *(unsigned *)arg;
  while (sending)
  {
    int64_t next;
    usleep((unsigned)rand_r(&mine) % 3000);
    far.broken = shaky && (unsigned)rand_r(&mine) % shaky == 0;
    prelux_store_hurry(rig.s);
    prelux_stage_work(rig.g, &next);
    far.broken = false;
  }
  return NULL;
}

static void begin_sending(void)
{
  static unsigned own;
  own = seed;
  sending = true;
  assert_int_equal(pthread_create(&sender, NULL, send_on, &own), 0);
}

static void end_sending(void)
{
  sending = false;
  pthread_join(sender, NULL);
}

static const char *object(void)
{
  static const char *const names[] = {"a", "b", "c", "d", "d/a", "d/b", "d/c", "d/d", "d/d/a", "b/a", "b/b", "c/d"};
  return names[number(sizeof names / sizeof *names)];
}

/* -errno of what the last call in the plain folder did. */
static int said(int rc)
{
  return rc < 0 ? -errno : 0;
}

static int write_plain(const char *name, int flags, const char *text)
{
  int fd = open(path_of(name), O_WRONLY | O_CREAT | flags, 0640);
  if (fd < 0)
    return -errno;
  say(fd, text);
  close(fd);
  return 0;
}

static int write_here(const char *name, int flags, const char *text)
{
  int fd = wopen(name, O_WRONLY | O_CREAT | flags);
  if (fd < 0)
    return fd;
  say(fd, text);
  return wclose(fd);
}

static int names_of(const char *folder, char ret[600])
{
  struct dirent **list;
  int n = scandir(path_of(folder), &list, NULL, alphasort);
  ret[0] = 0;
  if (n < 0)
    return -errno;
  for (int i = 0; i < n; i++)
  {
    if (list[i]->d_name[0] != '.')
    {
      strcat(ret, list[i]->d_name);
      strcat(ret, list[i]->d_type == DT_DIR ? "/ " : " ");
    }
    free(list[i]);
  }
  free(list);
  return 0;
}

static const char *text_of(const char *root, const char *name)
{
  static char text[4096];
  char path[900];
  snprintf(path, sizeof path, "%s/%s", root, name);
  int fd = open(path, O_RDONLY | O_NOFOLLOW);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0)
    close(fd);
  if (n < 0)
    return NULL;
  text[n] = 0;
  return text;
}

/* A path that leads through a file is not there, or that is no folder: which of both, memory of a while ago may say. And of a rename's two faults
 * either may be told. */
static bool same(int got, int want, bool two)
{
  bool no_way = (got == -ENOENT || got == -ENOTDIR) && (want == -ENOENT || want == -ENOTDIR);
  return got == want || no_way || (two && got == -EISDIR && want == -ENOTEMPTY);
}

/* One call in both, which must say the same. A remote that fails while something has to wait for it may be asked again. */
static void step(int i)
{
  char text[32];
  const char *one = object(), *two = object();
  unsigned what = number(9);
  int want = 0, got = -EIO;
  snprintf(text, sizeof text, "%d,", i);
  for (int again = 0; again < 200 && got == -EIO; again++)
  {
    usleep(again ? 1000 : 0);
    got = what < 2    ? write_here(one, what ? O_TRUNC : O_APPEND, text)
          : what == 2 ? rm(one)
          : what == 3 ? mkd(one)
          : what == 4 ? rmd(one)
                      : mv(one, two);
  }
  want = what < 2    ? write_plain(one, what ? O_TRUNC : O_APPEND, text)
         : what == 2 ? said(unlink(path_of(one)))
         : what == 3 ? said(mkdir(path_of(one), 0750))
         : what == 4 ? said(rmdir(path_of(one)))
                     : said(rename(path_of(one), path_of(two)));
  if (getenv("PRELUX_TEST_TRACE"))
    print_message("%d: %u %s %s: %d\n", i, what, one, two, got);
  if (!same(got, want, what > 4))
    fail_msg("step %d: %u %s %s: %d here (%s), %d in a plain folder", i, what, one, two, got, rig.why.text, want);
}

static int tell_row(void *arg, const struct prelux_owed *o)
{
  (void)arg;
  print_message("row %d: intent %u, state %d, %s > %s, tries %u, %s\n", (int)o->id, o->intent, (int)o->state, o->path, o->to ? o->to : "", o->tries,
                o->cause ? o->cause : "");
  return 0;
}

/* All names, or one file, are the same. */
static void compare(int i)
{
  static const char *const folders[] = {"", "d", "b", "c", "a", "d/d"};
  char want[600];
  const char *name = object();
  struct stat st;
  struct prelux_attr attr;
  for (size_t k = 0; k < sizeof folders / sizeof *folders; k++)
  {
    int rc = names_of(folders[k], want);
    const char *got = ls(folders[k]), *wanted = rc < 0 ? "" : want;
    if (strcmp(got, wanted) == 0 && same(ls_rc, rc, false))
      continue;
    prelux_store_owed(rig.s, tell_row, NULL);
    fail_msg("step %d, %s: '%s' (%d) here, '%s' (%d) in a plain folder", i, folders[k], got, ls_rc, wanted, rc);
  }
  int want_rc = said(stat(path_of(name), &st)), rc = look(name, &attr);
  if (!same(rc, want_rc, false) || (rc == 0 && (attr.type == PRELUX_DIR) != S_ISDIR(st.st_mode)) || (attr.type == PRELUX_FILE && rc == 0 && attr.size != (uint64_t)st.st_size))
    fail_msg("step %d, stat of %s: %d here, %d in a plain folder", i, name, rc, want_rc);
  if (rc < 0 || attr.type == PRELUX_DIR || number(4))
    return;
  const char *got = NULL;
  for (int again = 0; again < 200 && !got; again++) /* what waits to be renamed has to be done first */
  {
    usleep(again ? 1000 : 0);
    got = read_text(name);
  }
  const char *wanted = text_of(plain, name);
  if (!got || strcmp(got, wanted) != 0)
    fail_msg("step %d, %s: '%s' here, '%s' in a plain folder", i, name, got ? got : "nothing", wanted);
}

static void run(unsigned from)
{
  char command[1000];
  seed = from;
  shaky = number(2) ? 4 : 0;
  snprintf(plain, sizeof plain, "%s/plain", rig.top);
  assert_int_equal(mkdir(plain, 0755), 0);
  far.quiet = true;
  begin_sending();
  for (int i = 0; i < STEPS; i++)
  {
    step(i);
    compare(i);
    if (number(100) == 0)
    {
      end_sending();
      restart();
      begin_sending();
    }
  }
  end_sending();
  send_all();
  prelux_store_owed(rig.s, tell_row, NULL);
  if (pending() > 0)
    fail_msg("seed %u: %d rows are left", from, (int)pending());
  snprintf(command, sizeof command, "diff -r '%s' '%s'", plain, rig.remote);
  if (system(command) != 0)
    fail_msg("seed %u: the remote is not the plain folder's equal", from);
}

static void test_as_a_plain_folder(void **state)
{
  const char *first = getenv("PRELUX_TEST_SEED"), *many = getenv("PRELUX_TEST_SEEDS");
  unsigned from = first ? (unsigned)atoi(first) : 1, n = many ? (unsigned)atoi(many) : first ? 1 : SEEDS;
  for (unsigned i = 0; i < n; i++)
  {
    assert_int_equal(set_up_far(state), 0);
    print_message("seed %u\n", from + i);
    run(from + i);
    assert_int_equal(tear_down(state), 0);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_a_plain_folder)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
