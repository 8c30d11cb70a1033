#include "daemon/turns.h"

#include <stdlib.h>

static const unsigned most[PRELUX_TURN_KINDS] = {[PRELUX_TURN_ONE] = PRELUX_TURNS, [PRELUX_TURN_CREW] = PRELUX_TURNS / PRELUX_TURNS_CREW};

struct prelux_turns_of {
  struct prelux_turns_of *next;
  uid_t uid;
  unsigned turn, held; /* of that kind */
  struct prelux_flight *first, **last; /* they wait, and so all are held */
};

static struct prelux_turns_of **find(struct prelux_turns *t, uid_t uid, unsigned turn)
{
  struct prelux_turns_of **at = &t->users;
  while (*at && ((*at)->uid != uid || (*at)->turn != turn))
    at = &(*at)->next;
  return at;
}

bool prelux_turns_begin(struct prelux_turns *t, uid_t uid, enum prelux_turn turn, struct prelux_flight *f)
{
  struct prelux_turns_of **at = find(t, uid, turn), *u = *at;
  if (!u)
  {
    u = calloc(1, sizeof *u);
    if (!u)
      return true; /* no memory: not counted */
    u->uid = uid;
    u->turn = turn;
    u->last = &u->first;
    *at = u;
  }
  f->turn_of = uid;
  f->turn = turn;
  if (u->held < most[turn])
  {
    u->held++;
    return true;
  }
  f->queued = true;
  f->chain_landed = NULL;
  *u->last = f;
  u->last = &f->chain_landed;
  return false;
}

struct prelux_flight *prelux_turns_end(struct prelux_turns *t, const struct prelux_flight *f)
{
  struct prelux_turns_of **at = find(t, f->turn_of, f->turn), *u = *at;
  struct prelux_flight *next = u ? u->first : NULL;
  if (next) /* what f held is its */
  {
    u->first = next->chain_landed;
    if (!u->first)
      u->last = &u->first;
    next->queued = false;
    return next;
  }
  if (u && --u->held == 0)
  {
    *at = u->next;
    free(u);
  }
  return NULL;
}

void prelux_turns_leave(struct prelux_turns *t, struct prelux_flight *f)
{
  struct prelux_turns_of *u = *find(t, f->turn_of, f->turn);
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

void prelux_turns_free(struct prelux_turns *t)
{
  for (struct prelux_turns_of *u; (u = t->users);)
  {
    t->users = u->next;
    free(u);
  }
}
