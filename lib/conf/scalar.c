/* Texts to numbers. Pure. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/conf/internal.h"

struct unit {
  const char *name;
  int64_t factor;
};

/* Alluxio's way: KB, KiB and K are all 1024. */
static const struct unit sizes[] = {
    {"", 1},           {"b", 1},          {"k", 1ll << 10},  {"kb", 1ll << 10}, {"kib", 1ll << 10}, {"m", 1ll << 20},
    {"mb", 1ll << 20}, {"mib", 1ll << 20}, {"g", 1ll << 30},  {"gb", 1ll << 30}, {"gib", 1ll << 30}, {"t", 1ll << 40},
    {"tb", 1ll << 40}, {"tib", 1ll << 40}, {"p", 1ll << 50},  {"pb", 1ll << 50}, {"pib", 1ll << 50}, {"e", 1ll << 60},
    {"eb", 1ll << 60}, {"eib", 1ll << 60}, {NULL, 0},
};
static const struct unit times[] = {
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000000},
    {"s", 1000000000},
    {"m", 60000000000},
    {"min", 60000000000},
    {"h", 3600000000000},
    {"d", 86400000000000},
    {NULL, 0},
};

/* Digits, perhaps a point and more digits, perhaps a blank, a unit. Fractions are cut below the unit's millionth. */
static int with_unit(const char *s, const struct unit *units, int64_t *ret)
{
  int64_t whole = 0, fraction = 0, scale = 1, value;
  if (!isdigit((unsigned char)*s))
    return -EINVAL;
  for (; isdigit((unsigned char)*s); s++)
    if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, *s - '0', &whole))
      return -ERANGE;
  if (*s == '.')
  {
    if (!isdigit((unsigned char)*++s))
      return -EINVAL;
    for (; isdigit((unsigned char)*s); s++)
      if (scale < 1000000)
        fraction = fraction * 10 + (*s - '0'), scale *= 10;
  }
  while (*s == ' ')
    s++;
  const struct unit *u = units;
  while (u->name && strcasecmp(u->name, s) != 0)
    u++;
  if (!u->name)
    return *s == 0 && whole == 0 && fraction == 0 ? (*ret = 0, 0) : -EINVAL;
  if (__builtin_mul_overflow(whole, u->factor, &value) ||
      __builtin_add_overflow(value, (int64_t)((double)fraction / (double)scale * (double)u->factor), &value))
    return -ERANGE;
  *ret = value;
  return 0;
}

int prelux_conf_parse_size(const char *s, int64_t *ret)
{
  return with_unit(s, sizes, ret);
}

int prelux_conf_parse_duration(const char *s, int64_t *ret)
{
  return with_unit(s, times, ret);
}

int prelux_conf_parse_int(const char *s, int64_t *ret)
{
  char *end;
  const char *digits = s + (*s == '-' || *s == '+');
  if (!isdigit((unsigned char)*digits))
    return -EINVAL;
  errno = 0;
  long long v = strtoll(s, &end, 10);
  if (*end)
    return -EINVAL;
  if (errno == ERANGE)
    return -ERANGE;
  *ret = v;
  return 0;
}

/* 0.9 or 90%. By hand: strtod follows the locale's decimal point. */
int prelux_conf_parse_share(const char *s, double *ret)
{
  double v = 0, place = 1;
  const char *p = s;
  for (; isdigit((unsigned char)*p); p++)
    v = v * 10 + (*p - '0');
  if (p == s)
    return -EINVAL;
  if (*p == '.')
    for (p++; isdigit((unsigned char)*p); p++)
      v += (*p - '0') * (place /= 10);
  if (*p == '%')
    v /= 100, p++;
  if (*p)
    return -EINVAL;
  if (v > 1)
    return -ERANGE;
  *ret = v;
  return 0;
}

int prelux_conf_parse_mode(const char *s, int64_t *ret)
{
  int64_t v = 0;
  if (s[0] == '0' && s[1] == 'o')
    s += 2;
  size_t n = strspn(s, "01234567");
  if (n == 0 || s[n])
    return -EINVAL;
  for (; *s; s++)
  {
    v = v * 8 + (*s - '0');
    if (v > 0777)
      return -ERANGE;
  }
  *ret = v;
  return 0;
}

int prelux_conf_parse_bool(const char *s, int64_t *ret)
{
  static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcasecmp(s, words[i]) == 0)
    {
      *ret = i & 1;
      return 0;
    }
  return -EINVAL;
}

int prelux_conf_parse_enum(const char *choices, const char *s, int64_t *ret, const char **ret_word, size_t *ret_len)
{
  size_t n = strlen(s);
  for (int64_t i = 0; choices; i++)
  {
    size_t len = strcspn(choices, "|");
    if (len == n && strncasecmp(choices, s, n) == 0)
    {
      *ret = i;
      *ret_word = choices;
      *ret_len = len;
      return 0;
    }
    choices = choices[len] ? choices + len + 1 : NULL;
  }
  return -EINVAL;
}

/* Does the converted *v lie in its key's "min..max"? */
static bool in_range(const struct prelux_conf_value *v)
{
  char low[32];
  const char *dots = v->key->choices ? strstr(v->key->choices, "..") : NULL;
  struct prelux_conf_key plain = {.type = v->key->type};
  struct prelux_conf_value a = {.key = &plain, .text = low}, b = {.key = &plain};
  if (!dots || (size_t)(dots - v->key->choices) >= sizeof low)
    return true;
  memcpy(low, v->key->choices, (size_t)(dots - v->key->choices));
  low[dots - v->key->choices] = 0;
  b.text = (char *)dots + 2;
  if (prelux_conf_convert(&a) < 0 || prelux_conf_convert(&b) < 0)
    return false;
  return v->number >= a.number && v->number <= b.number && v->share >= a.share && v->share <= b.share;
}

static int share_or_size(struct prelux_conf_value *v)
{
  int err = prelux_conf_parse_share(v->text, &v->share);
  if (err == 0 || strchr(v->text, '%'))
    return err;
  return prelux_conf_parse_size(v->text, &v->number);
}

int prelux_conf_convert(struct prelux_conf_value *v)
{
  int err = 0;
  const char *word;
  size_t len;
  v->number = 0;
  v->share = 0;
  switch (v->key->type)
  {
  case PRELUX_T_BOOL: err = prelux_conf_parse_bool(v->text, &v->number); break;
  case PRELUX_T_INT: err = prelux_conf_parse_int(v->text, &v->number); break;
  case PRELUX_T_SIZE: err = prelux_conf_parse_size(v->text, &v->number); break;
  case PRELUX_T_SHARE: err = prelux_conf_parse_share(v->text, &v->share); break;
  case PRELUX_T_SHARE_OR_SIZE: err = share_or_size(v); break;
  case PRELUX_T_DURATION: err = prelux_conf_parse_duration(v->text, &v->number); break;
  case PRELUX_T_MODE: err = prelux_conf_parse_mode(v->text, &v->number); break;
  case PRELUX_T_ENUM: err = prelux_conf_parse_enum(v->key->choices, v->text, &v->number, &word, &len); break;
  default: return 0;
  }
  if (err == 0 && v->key->type != PRELUX_T_ENUM && !in_range(v))
    err = -ERANGE;
  return err;
}

const char *prelux_conf_type_name(enum prelux_conf_type t)
{
  static const char *const names[] = {
      [PRELUX_T_STRING] = "a string",
      [PRELUX_T_SECRET] = "a string, ${ENV} or file:PATH",
      [PRELUX_T_BOOL] = "true or false",
      [PRELUX_T_INT] = "a whole number",
      [PRELUX_T_SIZE] = "a size such as 4MiB",
      [PRELUX_T_SHARE] = "a share such as 0.9 or 90%",
      [PRELUX_T_DURATION] = "a time with its unit such as 60s",
      [PRELUX_T_MODE] = "an octal mode such as 0644",
      [PRELUX_T_ENUM] = "one word",
      [PRELUX_T_LIST] = "a list of strings",
      [PRELUX_T_MAP] = "a map of strings",
      [PRELUX_T_FRESHNESS] = "immutable, always, skip or {max_age: TIME}",
      [PRELUX_T_PATH] = "a path",
      [PRELUX_T_URL] = "a URL such as https://host/path",
      [PRELUX_T_ADDRESS] = "an address such as 127.0.0.1:9410",
      [PRELUX_T_SHARE_OR_SIZE] = "a share such as 5% or a size such as 10GiB",
      [PRELUX_T_SECTION] = "a map of its own keys",
  };
  return names[t];
}
