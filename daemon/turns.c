#include "daemon/turns.h"

#include <stdlib.h>

struct prelux_turns_of {
  struct prelux_turns_of *next;
  uid_t uid;
  unsigned held;
  struct prelux_flight *first, **last; /* they wait, and so something is held */
};

static struct prelux_turns_of **find(struct prelux_turns *t, uid_t uid)
{
  struct prelux_turns_of **at = &t->users;
  while (*at && (*at)->uid != uid)
    at = &(*at)->next;
  return at;
}

static bool fits(const struct prelux_turns_of *u, unsigned turns)
{
  return u->held == 0 || u->held + turns <= PRELUX_TURNS;
}

bool prelux_turns_begin(struct prelux_turns *t, uid_t uid, unsigned turns, struct prelux_flight *f)
{
  struct prelux_turns_of **at = find(t, uid), *u = *at;
  if (!u)
  {
    u = calloc(1, sizeof *u);
    if (!u)
      return true; /* no memory: not counted */
    u->uid = uid;
    u->last = &u->first;
    *at = u;
  }
  f->turn_of = uid;
  f->turns = turns;
  if (!u->first && fits(u, turns))
  {
    u->held += turns;
    return true;
  }
  f->queued = true;
  f->chain_landed = NULL;
  *u->last = f;
  u->last = &f->chain_landed;
  return false;
}

void prelux_turns_end(struct prelux_turns *t, const struct prelux_flight *f)
{
  struct prelux_turns_of *u = *find(t, f->turn_of);
  if (u)
    u->held -= f->turns;
}

void prelux_turns_leave(struct prelux_turns *t, struct prelux_flight *f)
{
  struct prelux_turns_of *u = *find(t, f->turn_of);
  struct prelux_flight **at = u ? &u->first : NULL;
  while (at && *at && *at != f)
    at = &(*at)->chain_landed;
  if (!at || !*at)
    return;
  *at = f->chain_landed;
  if (!*at)
    u->last = at;
  f->queued = false;
}

struct prelux_flight *prelux_turns_next(struct prelux_turns *t, uid_t uid)
{
  struct prelux_turns_of **at = find(t, uid), *u = *at;
  struct prelux_flight *f = u ? u->first : NULL;
  if (f && fits(u, f->turns))
  {
    u->first = f->chain_landed;
    if (!u->first)
      u->last = &u->first;
    u->held += f->turns;
    f->queued = false;
    return f;
  }
  if (u && !f && u->held == 0)
  {
    *at = u->next;
    free(u);
  }
  return NULL;
}

void prelux_turns_free(struct prelux_turns *t)
{
  for (struct prelux_turns_of *u; (u = t->users);)
  {
    t->users = u->next;
    free(u);
  }
}
