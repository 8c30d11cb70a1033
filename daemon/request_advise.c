#include "daemon/request_advise.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "daemon/ahead.h"
#include "daemon/crew.h"
#include "daemon/files.h"
#include "daemon/lanes.h"
#include "daemon/listing.h"
#include "daemon/request.h"
#include "daemon/server.h"

#define WORKERS 4u
#define ADVICES_MAX 64 /* under way; more are forgotten */

struct advice {
  struct prelux_crew crew; /* its lock guards what is below `list` */
  struct prelux_daemon *d;
  struct prelux_target target;
  int what; /* POSIX_FADV_* */
  bool begun;
  struct prelux_list list; /* of the folder, once `listed` */
  bool listed;
  uint32_t at;
};

static atomic_int under_way;

static void begin(struct advice *a)
{
  struct prelux_attr attr = {0};
  const struct prelux_live_mapping *m = prelux_target_mapping(&a->target);
  int fd = -1;
  if (m->broken)
    return;
  if (a->what == POSIX_FADV_DONTNEED && a->target.object[0])
    prelux_store_let_go(&m->view, a->target.object);
  if (a->what != POSIX_FADV_WILLNEED || prelux_target_ask(a->d, &a->target, PRELUX_ASK_STAT, 0, &attr, NULL, NULL) < 0)
    return;
  if (attr.type == PRELUX_FILE)
    prelux_target_ask(a->d, &a->target, PRELUX_ASK_OPEN, 0, &attr, NULL, NULL);
  else if (prelux_target_ask(a->d, &a->target, PRELUX_ASK_LIST, 0, &attr, &fd, NULL) == 0)
    a->listed = prelux_list_open(&a->list, fd) == 0;
}

/* The next file of the folder, malloc'd; NULL: there is none. */
static char *next_file(struct advice *a)
{
  char *rel = NULL;
  pthread_mutex_lock(&a->crew.lock);
  while (a->listed && !rel && a->at < a->list.head->count)
  {
    uint32_t at = a->at++;
    if (a->list.head->entries[at].type == PRELUX_FILE)
      rel = prelux_join(a->target.rel, prelux_list_name(&a->list, at));
  }
  pthread_mutex_unlock(&a->crew.lock);
  return rel;
}

static bool step(struct prelux_crew *crew)
{
  struct advice *a = (struct advice *)crew;
  struct prelux_target one;
  struct prelux_attr attr;
  if (prelux_ahead_stopped(a->d->ahead)) /* the daemon ends */
    return false;
  if (!a->begun) /* the first worker, alone */
  {
    a->begun = true;
    begin(a);
    return a->listed;
  }
  char *rel = next_file(a);
  if (!rel)
    return false;
  prelux_crew_call(crew);
  if (prelux_target_init(&one, a->target.table, a->target.mapping, rel) == 0)
  {
    prelux_target_ask(a->d, &one, PRELUX_ASK_OPEN, 0, &attr, NULL, NULL);
    free(one.object);
  }
  free(rel);
  return true;
}

static void end(struct prelux_crew *crew)
{
  struct advice *a = (struct advice *)crew;
  if (a->listed)
    prelux_list_close(&a->list);
  prelux_target_release(&a->target);
  prelux_crew_release(crew);
  free(a);
  atomic_fetch_sub(&under_way, 1);
}

bool prelux_advice_busy(void)
{
  return atomic_load(&under_way) > 0;
}

static int start(struct prelux_daemon *d, struct prelux_live_table *table, const void *msg)
{
  const char *rel = prelux_msg_str(msg, PRELUX_FIELD_PATH);
  struct advice *a = atomic_load(&under_way) < ADVICES_MAX ? calloc(1, sizeof *a) : NULL;
  int err = a ? prelux_target_init(&a->target, table, prelux_msg_u32(msg, PRELUX_FIELD_MAPPING, UINT32_MAX), rel ? rel : "") : -EAGAIN;
  if (err < 0)
  {
    prelux_live_table_drop(table);
    free(a);
    return err;
  }
  a->d = d;
  a->what = (int)prelux_msg_u32(msg, PRELUX_FIELD_FLAGS, 0);
  a->crew = (struct prelux_crew){.pool = d->pool, .lane = PRELUX_LANE_ADVICE, .limit = WORKERS, .step = step, .end = end};
  prelux_crew_init(&a->crew);
  atomic_fetch_add(&under_way, 1);
  if (prelux_crew_call(&a->crew))
    return 0;
  end(&a->crew);
  return -EAGAIN;
}

void prelux_request_advise(struct prelux_conn *c, struct prelux_live_table *table, const void *msg)
{
  int err = table ? start(prelux_server_daemon(c->server), table, msg) : PRELUX_STATUS_NO_TABLE;
  prelux_request_refuse(c, err, NULL);
}
