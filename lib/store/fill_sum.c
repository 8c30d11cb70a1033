#include "lib/store/fill_sum.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#include "lib/base/log.h"

#define WORTH (16u << 20) /* bytes of a file for which the backend is asked */
#define FROM (4u << 20)   /* when so many have come: most of a huge file may never be asked for */
#define PATIENCE_S 5
#define STACK (256u << 10)

void prelux_fill_sum_begin(struct prelux_fill_sum *s, const struct prelux_view *v, const char *object, const struct prelux_object *obj, int fd,
                           uint64_t from)
{
  *s = (struct prelux_fill_sum){.v = v, .object = object, .obj = obj, .fd = fd, .all_last = from > 0};
}

static int ask(struct prelux_fill_sum *s, bool remote)
{
  const struct prelux_backend_ops *ops = s->v->backend->ops;
  return ops->sum ? ops->sum(s->v->backend, s->object, s->obj, remote, &s->over, &s->told) : -ENOENT;
}

static void *ask_beside(void *arg)
{
  struct prelux_fill_sum *s = arg;
  prelux_ask_as(s->v->backend, s->asker);
  s->rc = ask(s, true);
  atomic_store(&s->answered, true);
  return NULL;
}

static bool begin_asking(struct prelux_fill_sum *s)
{
  pthread_attr_t attr;
  s->asker = prelux_asker(s->v->backend);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK > PTHREAD_STACK_MIN ? STACK : PTHREAD_STACK_MIN);
  s->asking = pthread_create(&s->thread, &attr, ask_beside, s) == 0;
  pthread_attr_destroy(&attr);
  return s->asking;
}

/* All bytes are there, or nobody wants them: who has not answered by then is not waited for much longer. */
static int answer(struct prelux_fill_sum *s)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  if (atomic_load(&s->over) || pthread_timedjoin_np(s->thread, NULL, &until) != 0)
  {
    atomic_store(&s->over, true);
    pthread_join(s->thread, NULL);
  }
  s->asking = false;
  return s->rc;
}

static void choose(struct prelux_fill_sum *s, uint64_t off, bool last)
{
  bool worth = (s->insists || s->obj->size >= WORTH) && s->v->backend->ops->sum;
  int rc = -EAGAIN;
  if (s->asking)
    rc = last || atomic_load(&s->answered) ? answer(s) : -EAGAIN;
  else if (ask(s, false) == 0)
    rc = 0;
  else if (!worth || (off >= FROM && !last && !begin_asking(s)))
    rc = -ENOENT;
  else if (last)
    rc = ask(s, true);
  s->chosen = rc != -EAGAIN;
  if (s->chosen)
    prelux_check_begin(&s->check, s->obj, rc == 0 ? &s->told : NULL);
}

/* A digest that lacks bytes, because they could not be read again now, would call all of them wrong: it is begun anew once they are all there. */
static void put_off(struct prelux_fill_sum *s, int rc)
{
  if (rc == 0)
    return;
  prelux_check_release(&s->check);
  s->chosen = false;
  s->all_last = true;
  s->done = 0;
}

void prelux_fill_sum_choose(struct prelux_fill_sum *s, uint64_t off, const char *piece, size_t held)
{
  if (s->all_last)
    return;
  if (!s->chosen)
    choose(s, off, false);
  if (!s->chosen || s->done == off || !prelux_check_any(&s->check))
    return;
  int rc = s->done < off - held ? prelux_check_file(&s->check, s->fd, s->done, off - held) : 0;
  s->done = off;
  put_off(s, rc == 0 ? prelux_check_add(&s->check, piece, held) : rc);
}

void prelux_fill_sum_add(struct prelux_fill_sum *s, const void *bytes, size_t len)
{
  if (!s->chosen || s->all_last)
    return;
  s->done += len;
  put_off(s, prelux_check_add(&s->check, bytes, len));
}

/* The remote's CRC is of other bytes: so may be the CRC, where there is an MD5. */
static int by_md5(const struct prelux_fill_sum *s, const struct prelux_problem *was, struct prelux_problem *why)
{
  struct prelux_check c;
  prelux_check_begin(&c, s->obj, NULL);
  bool good = prelux_check_any(&c) && prelux_check_file(&c, s->fd, 0, s->obj->size) == 0 && prelux_check_end(&c, s->object, s->obj, NULL) == 0;
  prelux_check_release(&c);
  if (!good)
  {
    if (why)
      *why = *was;
    return -EPROTO;
  }
  prelux_warn("%s; its MD5 is that of the bytes, so they are taken", was->text);
  return 0;
}

int prelux_fill_sum_end(struct prelux_fill_sum *s, struct prelux_problem *why)
{
  struct prelux_problem wrong = {0};
  if (!s->chosen)
    choose(s, s->obj->size, true);
  if (prelux_check_any(&s->check) && s->done < s->obj->size && prelux_check_file(&s->check, s->fd, s->done, s->obj->size) < 0)
    return prelux_problem(why, EIO, "%.200s: no checksum", s->object);
  int rc = prelux_check_end(&s->check, s->object, s->obj, &wrong);
  if (rc == -EPROTO && s->check.crc)
    return by_md5(s, &wrong, why);
  if (rc < 0 && why)
    *why = wrong;
  return rc;
}

void prelux_fill_sum_release(struct prelux_fill_sum *s)
{
  atomic_store(&s->over, true);
  if (s->asking)
    answer(s);
  prelux_check_release(&s->check);
}
