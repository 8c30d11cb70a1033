#include "lib/map/prefixes.h"

#include <errno.h>
#include <string.h>

#include "include/prelux/version.h"
#include "lib/base/path.h"
#include "lib/map/match.h"

enum { HASH_DIGITS = 32, LETTERS = 6 };

static const char hex[] = "0123456789abcdef";
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---- hashes of prefixes: FNV-1a, mixed, 36 bits. A path that is no prefix is taken for one of a thousand once in
 * 70 million; all that happens to it is EIO. */

static uint64_t hash_step(uint64_t h, char c)
{
  return (h ^ (unsigned char)c) * 0x100000001b3ull;
}

static uint64_t hash_end(uint64_t h)
{
  h = (h ^ h >> 31) * 0x94d049bb133111ebull;
  return (h ^ h >> 29) >> 28;
}

#define HASH_BEGIN 0xcbf29ce484222325ull

static uint64_t hash_of(const char *prefix)
{
  uint64_t h = HASH_BEGIN;
  for (; *prefix; prefix++)
    h = hash_step(h, *prefix);
  return hash_end(h);
}

/* ---- writing */

struct out
{
  char *at;
  size_t cap, len; /* len also counts what did not fit */
};

static void put(struct out *o, char c)
{
  if (o->len < o->cap)
    o->at[o->len] = c;
  o->len++;
}

static bool is_plain(unsigned char c)
{
  return c > ' ' && c != 0x7f && c != ':' && c != '%' && c != '#' && c != '+';
}

static void put_text(struct out *o, const char *s)
{
  for (; *s; s++)
  {
    unsigned char c = (unsigned char)*s;
    if (!is_plain(c))
    {
      put(o, '%');
      put(o, hex[c >> 4]);
      c = (unsigned char)hex[c & 15];
    }
    put(o, (char)c);
  }
}

/* NULL: this mapping needs no care ("/" of an azfuse list is "/" alone). */
static const char *prefix_of(const struct prelux_table *t, uint32_t i)
{
  const char *local = prelux_table_str(t, prelux_table_mappings(t)[i].local);
  if (*local)
    return local;
  return t->flags & PRELUX_TABLE_FIRST_MATCH ? NULL : "/";
}

static void put_plain(struct out *o, const struct prelux_table *t)
{
  for (uint32_t i = 0; i < t->n_mappings && o->len <= PRELUX_PREFIXES_PLAIN; i++)
  {
    const char *prefix = prefix_of(t, i);
    if (!prefix)
      continue;
    put(o, ':');
    put_text(o, prefix);
  }
}

static void put_hashes(struct out *o, const struct prelux_table *t)
{
  put(o, ':');
  put(o, '#');
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    const char *prefix = prefix_of(t, i);
    uint64_t h = prefix ? hash_of(prefix) : 0;
    for (int k = LETTERS - 1; prefix && k >= 0; k--)
      put(o, letters[h >> (6 * k) & 63]);
  }
}

static void put_head(struct out *o, const struct prelux_table *t)
{
  o->len = 0;
  for (size_t i = 0; i < sizeof t->hash; i++)
  {
    put(o, hex[t->hash[i] >> 4]);
    put(o, hex[t->hash[i] & 15]);
  }
  put(o, ':');
  put_text(o, prelux_table_str(t, t->source));
  put(o, ':');
  put_text(o, prelux_table_str(t, t->cwd));
}

size_t prelux_prefixes_format(const struct prelux_table *t, char *out, size_t cap)
{
  struct out o = {.at = out, .cap = cap};
  put_head(&o, t);
  size_t head = o.len;
  put_plain(&o, t);
  if (o.len > PRELUX_PREFIXES_PLAIN)
  {
    o.len = head;
    if (t->n_mappings <= (PRELUX_PREFIXES_MAX - head) / LETTERS)
      put_hashes(&o, t);
    else
    {
      put(&o, ':');
      put(&o, '+');
    }
  }
  if (o.len < cap)
    out[o.len] = 0;
  return o.len;
}

/* ---- reading */

static int digit(char c)
{
  const char *p = c ? strchr(hex, c) : NULL;
  return p ? (int)(p - hex) : -1;
}

static int letter(char c)
{
  const char *p = c ? strchr(letters, c) : NULL;
  return p ? (int)(p - letters) : -1;
}

/* One field at *at, to the next colon or the end, decoded to *to, with a NUL. False: no sense. */
static bool take_field(const char **at, char **to)
{
  const char *p = *at;
  char *out = *to;
  for (; *p && *p != ':'; p++)
  {
    if (*p != '%')
    {
      *out++ = *p;
      continue;
    }
    int high = digit(p[1]), low = high < 0 ? -1 : digit(p[2]);
    if (low < 0 || (high | low) == 0)
      return false;
    *out++ = (char)(high << 4 | low);
    p += 2;
  }
  *out++ = 0;
  *at = p;
  *to = out;
  return true;
}

static bool take_hashes(const char *p, uint64_t *set, size_t *ret_n)
{
  for (size_t n = 0;; n++)
  {
    uint64_t h = 0;
    *ret_n = n;
    if (!*p)
      return true;
    for (int k = 0; k < LETTERS; k++, p++)
    {
      int v = letter(*p);
      if (v < 0)
        return false;
      h = h << 6 | (uint64_t)v;
    }
    set[n] = h;
  }
}

/* Six letters become eight bytes; NULs stand where colons were, and the list's end. */
size_t prelux_prefixes_room(const char *value)
{
  return strlen(value) * 2 + 64;
}

static bool same_table(const char *value, const char *config)
{
  const char *name = strrchr(config, '/');
  return name && strlen(name + 1) == HASH_DIGITS && strncmp(value, name + 1, HASH_DIGITS) == 0 && value[HASH_DIGITS] == ':';
}

int prelux_prefixes_parse(const char *value, const char *config, void *room, struct prelux_prefixes *ret)
{
  struct prelux_prefixes p = {.set = room};
  if (!same_table(value, config))
    return -ENOENT;
  const char *hashes = strstr(value, ":#"), *at = value + HASH_DIGITS + 1;
  if (hashes && !take_hashes(hashes + 2, room, &p.n_set))
    return -ENOENT;
  char *to = (char *)room + p.n_set * sizeof *p.set;
  p.source = to;
  if (!take_field(&at, &to) || *at++ != ':')
    return -ENOENT;
  p.folder = to;
  if (!take_field(&at, &to))
    return -ENOENT;
  p.list = to;
  while (*at == ':' && at != hashes)
  {
    at++;
    p.cut |= *at == '+';
    if (*at == 0 || !take_field(&at, &to))
      return -ENOENT;
  }
  *to = 0;
  if (p.cut)
    p.list = to;
  *ret = p;
  return 0;
}

static bool in_set(const struct prelux_prefixes *p, uint64_t h)
{
  for (size_t i = 0; i < p->n_set; i++)
    if (p->set[i] == h)
      return true;
  return false;
}

bool prelux_prefixes_have(const struct prelux_prefixes *p, const char *path)
{
  for (const char *prefix = p->list; *prefix; prefix += strlen(prefix) + 1)
    if (prelux_path_below(path, prefix, NULL))
      return true;
  if (p->n_set == 0)
    return false;
  if (in_set(p, hash_of("/")))
    return true;
  uint64_t h = HASH_BEGIN;
  for (const char *c = path;; c++)
  {
    if (c > path && (*c == '/' || *c == 0) && in_set(p, hash_end(h)))
      return true;
    if (*c == 0)
      return false;
    h = hash_step(h, *c);
  }
}

static bool is_mapped(const struct prelux_table *t, const char *prefix)
{
  struct prelux_match m;
  prelux_table_match(t, prefix, prefix[0] != '/', &m);
  return m.kind == PRELUX_MATCH_MAPPED;
}

bool prelux_prefixes_covered(const struct prelux_prefixes *p, const struct prelux_table *t)
{
  for (const char *prefix = p->list; *prefix; prefix += strlen(prefix) + 1)
    if (!is_mapped(t, prefix))
      return false;
  size_t n = 0; /* the same prefix may stand in a list twice: those of the set, too */
  for (uint32_t i = 0; p->n_set > 0 && i < t->n_mappings; i++)
  {
    const char *prefix = prefix_of(t, i);
    n += prefix && in_set(p, hash_of(prefix));
  }
  return n >= p->n_set;
}

static bool begins(const char *s, const struct prelux_table *t)
{
  for (size_t i = 0; i < sizeof t->hash; i++)
    if (s[2 * i] != hex[t->hash[i] >> 4] || s[2 * i + 1] != hex[t->hash[i] & 15])
      return false;
  return true;
}

bool prelux_prefixes_are_of(const char *value, const struct prelux_table *t)
{
  return begins(value, t) && value[HASH_DIGITS] == ':';
}

bool prelux_prefixes_is_name(const char *name, const struct prelux_table *t)
{
  return begins(name, t) && name[HASH_DIGITS] == 0;
}
