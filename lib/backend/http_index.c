/* Directory listings of web servers: nginx autoindex and Apache mod_autoindex as HTML (and what looks like them), nginx
 * JSON.
 *
 * Only links are believed: the text that is shown may be cut ("very-long-na..&gt;"), the href is whole. What a link
 * means is decided in the order of the standards: character references of HTML, then the URL's structure, then %XX. A
 * name that would hold a slash or NUL after that is no name. Sizes are believed only in nginx's own layout ("</a>
 * 21-Oct-2015 07:28  1234" to the end of the line), where plain digits are bytes and rounded sizes carry a letter;
 * Apache rounds from 973 bytes and shows local time. */
#include "lib/backend/http_index.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib/net/net.h"

#define HREF_MAX 8192      /* 255 bytes of name as %XX, or a whole URL */
#define LINK_TEXT_MAX 1024 /* between a link and its </a> */
#define HEAD_LOOK 4096     /* where a listing says that it is one */

struct page
{
  const char *end;
  struct prelux_url url;
  const char *url_text;
  char folder[PATH_MAX]; /* the URL's path, decoded */
  size_t folder_len;
};

/* Case-insensitive search for lower-case text. */
static const char *find(const char *from, const char *end, const char *lower)
{
  size_t n = strlen(lower);
  for (const char *p = from; (size_t)(end - p) >= n; p++)
  {
    p = memchr(p, lower[0], (size_t)(end - p) - n + 1);
    if (!p)
      return NULL;
    if (strncasecmp(p, lower, n) == 0)
      return p;
  }
  return NULL;
}

/* HTML character references. */

static size_t put_utf8(char *out, unsigned long c)
{
  if (c < 0x80)
  {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800)
  {
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
  }
  if (c < 0x10000)
  {
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 63));
    out[2] = (char)(0x80 | (c & 63));
    return 3;
  }
  out[0] = (char)(0xf0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 63));
  out[2] = (char)(0x80 | (c >> 6 & 63));
  out[3] = (char)(0x80 | (c & 63));
  return 4;
}

/* The reference that s[0..len) is (between '&' and ';'); 0: none that we know. */
static unsigned long reference(const char *s, size_t len)
{
  static const struct
  {
    const char *name;
    unsigned long value;
  } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    if (strlen(names[i].name) == len && memcmp(names[i].name, s, len) == 0)
      return names[i].value;
  if (len < 2 || len > 8 || s[0] != '#')
    return 0;
  bool hex = s[1] == 'x' || s[1] == 'X';
  unsigned long c = 0;
  for (size_t i = hex ? 2 : 1; i < len; i++)
  {
    int digit = s[i] >= '0' && s[i] <= '9'                        ? s[i] - '0'
                : hex && (s[i] | 32) >= 'a' && (s[i] | 32) <= 'f' ? (s[i] | 32) - 'a' + 10
                                                                  : -1;
    if (digit < 0)
      return 0;
    c = c * (hex ? 16 : 10) + (unsigned long)digit;
  }
  return c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : c;
}

/* Length, or -1: does not fit, or holds a NUL. Never longer than the input: "&#X;" is four bytes or more for what takes
 * four. */
static long decode_references(char *out, size_t cap, const char *s, size_t len)
{
  size_t n = 0;
  for (size_t i = 0; i < len; i++)
  {
    if (n + 5 > cap || s[i] == 0)
      return -1;
    const char *semicolon = s[i] == '&' ? memchr(s + i, ';', len - i < 12 ? len - i : 12) : NULL;
    unsigned long c = semicolon ? reference(s + i + 1, (size_t)(semicolon - s) - i - 1) : 0;
    if (c)
    {
      n += put_utf8(out + n, c);
      i = (size_t)(semicolon - s);
    }
    else
    {
      out[n++] = s[i];
    }
  }
  out[n] = 0;
  return (long)n;
}

/* Links. */

/* The part of `ref` behind the page's folder, or NULL: it leads elsewhere. */
static const char *below_folder(const struct page *pg, const char *ref, char *path, size_t cap)
{
  size_t scheme = strcspn(ref, ":/?#");
  char full[HREF_MAX + 16];
  struct prelux_url u;
  if (scheme > 0 && ref[scheme] == ':')
    snprintf(full, sizeof(full), "%s", ref);
  else if (ref[0] == '/' && ref[1] == '/')
    snprintf(full, sizeof(full), "http%s:%s", pg->url.https ? "s" : "", ref);
  else
    full[0] = 0;
  if (full[0])
  {
    if (prelux_url_parse(full, &u) < 0 || !prelux_url_same_origin(&u, &pg->url))
      return NULL;
    ref = ref + (strlen(ref) - strlen(u.path)); /* the path is the tail of both */
  }
  if (ref[0] != '/')
  {
    while (strncmp(ref, "./", 2) == 0)
      ref += 2;
    return full[0] ? NULL : ref;
  }
  /* The folder's own part may be encoded in another way than ours: compare it decoded, one segment after the other. */
  size_t slashes = 0, at = 0;
  for (size_t i = 0; i < pg->folder_len; i++)
    slashes += pg->folder[i] == '/';
  for (; ref[at] && slashes; at++)
    slashes -= ref[at] == '/';
  long n = slashes ? -1 : prelux_url_decode(path, cap, ref, at);
  if (n < 0 || (size_t)n != pg->folder_len || memcmp(path, pg->folder, pg->folder_len) != 0)
    return NULL;
  return ref + at;
}

/* The name a link stands for: 0 and a decoded name, or -1: no child of this folder. */
static int link_name(const struct page *pg, const char *href, size_t href_len, char *name, size_t cap, bool *ret_dir)
{
  char ref[HREF_MAX], path[PATH_MAX];
  if (decode_references(ref, sizeof(ref), href, href_len) < 0 || strpbrk(ref, "?#"))
    return -1;
  const char *rest = below_folder(pg, ref, path, sizeof(path));
  if (!rest)
    return -1;
  size_t len = strcspn(rest, "/");
  if (len == 0 || (rest[len] == '/' && rest[len + 1]))
    return -1;
  *ret_dir = rest[len] == '/';
  long n = prelux_url_decode(name, cap, rest, len);
  if (n <= 0 || memchr(name, '/', (size_t)n) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    return -1;
  return 0;
}

/* What nginx writes behind a link, to the end of the line. */
static void nginx_columns(const char *p, const char *end, struct prelux_object *obj)
{
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  char line[160], month[4], size[32];
  const char *eol = memchr(p, '\n', (size_t)(end - p) < sizeof(line) ? (size_t)(end - p) : sizeof(line));
  size_t len = eol ? (size_t)(eol - p) : 0;
  struct tm tm = {0};
  int used = 0;
  if (len == 0 || len >= sizeof(line))
    return;
  memcpy(line, p, len);
  line[len] = 0;
  line[strcspn(line, "\r")] = 0;
  if (sscanf(line, " %2d-%3[A-Za-z]-%4d %2d:%2d %31s %n", &tm.tm_mday, month, &tm.tm_year, &tm.tm_hour, &tm.tm_min,
             size, &used) != 6 ||
      line[used])
    return;
  const char *at = strstr(months, month);
  if (strlen(month) != 3 || !at || (at - months) % 3 || tm.tm_year < 1970 || tm.tm_year > 2261 || tm.tm_mday < 1 ||
      tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59)
    return;
  tm.tm_mon = (int)(at - months) / 3;
  tm.tm_year -= 1900;
  obj->mtime_ns = (int64_t)timegm(&tm) * 1000000000;
  obj->mtime_rough = true;
  size_t digits = strspn(size, "0123456789");
  if (obj->type == PRELUX_FILE && digits && digits < 19 && !size[digits])
    obj->size = strtoull(size, NULL, 10);
}

/* Value of href in the tag that starts at p (behind "<a"); *ret_end is behind the tag. */
static const char *href_of(const char *p, const char *end, size_t *ret_len, const char **ret_end)
{
  const char *value = NULL;
  while (p < end && *p != '>')
  {
    while (p < end && strchr(" \t\r\n/", *p) && *p)
      p++;
    const char *attr = p;
    while (p < end && !(strchr(" \t\r\n=>/", *p) && *p))
      p++;
    size_t attr_len = (size_t)(p - attr);
    while (p < end && strchr(" \t\r\n", *p) && *p)
      p++;
    if (p >= end || *p != '=')
    {
      if (attr_len == 0 && p < end && *p != '>')
        p++;
      continue;
    }
    for (p++; p < end && strchr(" \t\r\n", *p) && *p;)
      p++;
    if (p >= end)
      break;
    char quote = *p == '"' || *p == '\'' ? *p++ : 0;
    const char *start = p;
    while (p < end && (quote ? *p != quote : !(strchr(" \t\r\n>", *p) && *p)))
      p++;
    if (p < end && !value && attr_len == 4 && strncasecmp(attr, "href", 4) == 0)
    {
      value = start;
      *ret_len = (size_t)(p - start);
    }
    p += quote && p < end;
  }
  *ret_end = p < end ? p + 1 : end;
  return value;
}

static bool is_listing(const char *html, size_t len)
{
  const char *end = html + (len < HEAD_LOOK ? len : HEAD_LOOK);
  return find(html, end, "<title>index of ") || find(html, end, "<title>directory listing for ") ||
         find(html, end, "<h1>index of ");
}

static int add_link(const struct page *pg, const char *href, size_t href_len, const char *tag_end, prelux_list_fn add,
                    void *arg)
{
  char name[NAME_MAX * 4];
  bool dir;
  if (link_name(pg, href, href_len, name, sizeof(name), &dir) < 0)
    return 0;
  struct prelux_object obj = {.type = dir ? PRELUX_DIR : PRELUX_FILE, .size = dir ? 0 : UINT64_MAX};
  const char *close = find(tag_end, pg->end - tag_end > LINK_TEXT_MAX ? tag_end + LINK_TEXT_MAX : pg->end, "</a>");
  if (close)
    nginx_columns(close + 4, pg->end, &obj);
  return add(arg, name, strlen(name), &obj);
}

int prelux_http_index_html(const char *url, const char *html, size_t len, bool any, prelux_list_fn add, void *arg)
{
  struct page pg = {.end = html + len, .url_text = url};
  if (prelux_url_parse(url, &pg.url) < 0)
    return -EPROTO;
  long n = prelux_url_decode(pg.folder, sizeof(pg.folder), pg.url.path, pg.url.path_len);
  if (n < 1 || pg.folder[n - 1] != '/')
    return -EPROTO;
  pg.folder_len = (size_t)n;
  if (!any && !is_listing(html, len))
    return -EOPNOTSUPP;
  const char *tail = len > 1024 ? pg.end - 1024 : html;
  if (!find(tail, pg.end, "</html>"))
    return -EPROTO;
  for (const char *p = html; (p = memchr(p, '<', (size_t)(pg.end - p)));)
  {
    if (pg.end - p > 4 && memcmp(p, "<!--", 4) == 0)
    {
      p = find(p + 4, pg.end, "-->");
      if (!p)
        break;
      continue;
    }
    if (pg.end - p < 3 || (p[1] | 32) != 'a' || !strchr(" \t\r\n", p[2]) || !p[2])
    {
      p++;
      continue;
    }
    size_t href_len = 0;
    const char *href = href_of(p + 2, pg.end, &href_len, &p);
    int rc = href ? add_link(&pg, href, href_len, p, add, arg) : 0;
    if (rc < 0)
      return rc;
  }
  return 0;
}

int prelux_http_index_json(const cJSON *element, prelux_list_fn add, void *arg)
{
  const cJSON *name = cJSON_GetObjectItemCaseSensitive(element, "name");
  const cJSON *type = cJSON_GetObjectItemCaseSensitive(element, "type");
  const cJSON *mtime = cJSON_GetObjectItemCaseSensitive(element, "mtime");
  const cJSON *size = cJSON_GetObjectItemCaseSensitive(element, "size");
  if (!cJSON_IsString(name) || !cJSON_IsString(type))
    return -EPROTO;
  struct prelux_object obj = {.size = UINT64_MAX};
  if (strcmp(type->valuestring, "directory") == 0)
  {
    obj.type = PRELUX_DIR;
    obj.size = 0;
  }
  else if (strcmp(type->valuestring, "file") == 0)
  {
    obj.type = PRELUX_FILE;
  }
  else
  {
    return 0; /* "other": sockets, devices */
  }
  if (cJSON_IsString(mtime))
    obj.mtime_ns = prelux_http_date(mtime->valuestring);
  double bytes = cJSON_IsNumber(size) ? size->valuedouble : -1;
  if (obj.type == PRELUX_FILE && bytes >= 0 && bytes <= 9007199254740992.0 && (double)(uint64_t)bytes == bytes)
    obj.size = (uint64_t)bytes;
  size_t len = strlen(name->valuestring);
  if (len == 0 || memchr(name->valuestring, '/', len) || strcmp(name->valuestring, ".") == 0 ||
      strcmp(name->valuestring, "..") == 0)
    return 0;
  return add(arg, name->valuestring, len, &obj);
}
