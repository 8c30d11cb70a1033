/* lib/backend: listings of web servers, JSON arrays that come in pieces, versions of HTTP objects. The nginx samples were
 * recorded from nginx 1.22 and shortened ("rounded" and "socket" are added); the Apache page is written by hand after
 * mod_autoindex's layout, not recorded. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/backend/http.h"
#include "lib/backend/http_index.h"
#include "lib/backend/http_version.h"
#include "lib/backend/json_array.h"

#define E_ACUTE "%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9"
#define TAIL "</pre><hr></body>\r\n</html>\r\n"

static const char nginx_html[] =
    "<html>\r\n<head><title>Index of /d e/</title></head>\r\n<body>\r\n<h1>Index of /d e/</h1><hr><pre>"
    "<a href=\"../\">../</a>\r\n"
    "<a href=\"sub%20dir/\">sub dir/</a>                                           21-Nov-2026 13:40                   "
    "-\r\n"
    "<a href=\"%22q%27%3Cx%3E\">&quot;q'&lt;x&gt;</a>                                21-Nov-2026 13:40                "
    "4000\r\n"
    "<a href=\"100%25\">100%</a>                                               21-Nov-2026 13:40                "
    "1000\r\n"
    "<a href=\"a%26b%3Bc\">a&amp;b;c</a>                                              21-Nov-2026 13:40                "
    "3000\r\n"
    "<a href=\"a%3Ab\">a:b</a>                                                21-Nov-2026 13:40                8000\r\n"
    "<a href=\"a%3Fb\">a?b</a>                                                21-Nov-2026 13:40                2000\r\n"
    "<a href=\"new%0Aline\">new\nline</a>                                           21-Nov-2026 13:40                "
    "6000\r\n"
    "<a "
    "href=\"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\">"
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn.."
    "&gt;</a> 21-Nov-2026 13:40                9000\r\n"
    "<a href=\"" E_ACUTE E_ACUTE E_ACUTE "\">\xc3\xa9\xc3..&gt;</a> 21-Nov-2026 13:40               10000\r\n"
    "<a href=\"%FF%FE\">\xff\xfe</a>                                                 21-Nov-2026 13:40                "
    "7000\r\n"
    "<a href=\"rounded\">rounded</a>                                            21-Nov-2026 13:40                "
    "2.1M\r\n" TAIL;

static const char apache_html[] =
    "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 3.2 Final//EN\">\n<html>\n <head>\n  <title>Index of /d</title>\n "
    "</head>\n <body>\n"
    "<h1>Index of /d</h1>\n"
    "<pre><img src=\"/icons/blank.gif\" alt=\"Icon \"> <a href=\"?C=N;O=D\">Name</a>                    "
    "<a href=\"?C=M;O=A\">Last modified</a>      <a href=\"?C=S;O=A\">Size</a>  <a "
    "href=\"?C=D;O=A\">Description</a><hr>"
    "<img src=\"/icons/back.gif\" alt=\"[PARENTDIR]\"> <a href=\"/\">Parent Directory</a>                             "
    "-   \n"
    "<img src=\"/icons/text.gif\" alt=\"[TXT]\"> <a href=\"a&amp;b.txt\">a&amp;b.txt</a>               2024-01-02 "
    "03:04  123   \n"
    "<img src=\"/icons/text.gif\" alt=\"[TXT]\"> <a href=\"./x:y\">x:y</a>                     2024-01-02 03:04  1.2K  "
    "\n"
    "<img src=\"/icons/folder.gif\" alt=\"[DIR]\"> <a href=\"sub/\">sub/</a>                    2024-01-02 03:04    -  "
    " \n"
    "<hr></pre>\n<address>Apache/2.4.57 (Debian) Server at localhost Port 80</address>\n</body></html>\n";

struct seen
{
  int count;
  char names[64][300];
  struct prelux_object objs[64];
  int stop_at;
};

static int add(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct seen *s = arg;
  assert_int_equal(strlen(name), len);
  assert_true(len > 0 && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
  if (s->stop_at && s->count + 1 == s->stop_at)
    return -EINTR;
  if (s->count < 64)
  {
    snprintf(s->names[s->count], sizeof(s->names[0]), "%s", name);
    s->objs[s->count] = *obj;
  }
  s->count++;
  return 0;
}

static const struct prelux_object *find(const struct seen *s, const char *name)
{
  for (int i = 0; i < s->count && i < 64; i++)
    if (strcmp(s->names[i], name) == 0)
      return &s->objs[i];
  return NULL;
}

static int html(struct seen *s, const char *url, const char *text)
{
  size_t len = strlen(text);
  char *copy = malloc(len ? len : 1); /* without a NUL behind it: a sanitizer sees a byte too many */
  memcpy(copy, text, len);
  memset(s, 0, sizeof(*s));
  int rc = prelux_http_index_html(url, copy, len, false, add, s);
  free(copy);
  return rc;
}

static void test_nginx_html(void **state)
{
  struct seen s;
  assert_int_equal(html(&s, "http://h:8080/d%20e/", nginx_html), 0);
  assert_int_equal(s.count, 11);
  assert_int_equal(find(&s, "sub dir")->type, PRELUX_DIR);
  assert_true(find(&s, "\"q'<x>")->size == 4000);
  assert_true(find(&s, "100%")->size == 1000);
  assert_true(find(&s, "a&b;c")->size == 3000);
  assert_true(find(&s, "a:b")->size == 8000);
  assert_true(find(&s, "a?b")->size == 2000);
  assert_true(find(&s, "new\nline")->size == 6000);
  assert_true(find(&s, "\xff\xfe")->size == 7000);
  assert_true(find(&s, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn")->size == 9000);
  assert_true(find(&s, "rounded")->size == UINT64_MAX);
  const struct prelux_object *obj = find(&s, "100%");
  assert_true(obj->mtime_ns == INT64_C(1795268400000000000) && obj->mtime_rough && !obj->version[0]);
}

static void test_apache_html(void **state)
{
  struct seen s;
  assert_int_equal(html(&s, "http://h/d/", apache_html), 0);
  assert_int_equal(s.count, 3);
  assert_int_equal(find(&s, "sub")->type, PRELUX_DIR);
  assert_true(find(&s, "a&b.txt")->size == UINT64_MAX); /* rounded for all we know */
  assert_true(find(&s, "x:y")->mtime_ns == 0);          /* local time of the server: no time at all */
}

#define PAGE(links) "<html><head><title>Index of /d/</title></head><body><pre>" links TAIL

static void test_links_that_are_no_child(void **state)
{
  struct seen s;
  static const char page[] =
      PAGE("<a href=\"../up\">x</a><a href=\"/etc/passwd\">x</a><a href=\"//evil/d/x\">x</a><a "
           "href=\"http://evil/d/x\">x</a>"
           "<a href=\"https://h/d/x\">x</a><a href=\"http://h:81/d/x\">x</a><a href=\"ftp://h/d/x\">x</a>"
           "<a href=\"javascript:x\">x</a><a href=\"mailto:x\">x</a><a href=\"a/b\">x</a><a href=\"a%2Fb\">x</a>"
           "<a href=\"%2e%2e/\">x</a><a href=\"%2E\">x</a><a href=\"..%2fx\">x</a><a href=\"a%00b\">x</a><a "
           "href=\"a&#0;b\">x</a>"
           "<a href=\"\">x</a><a href=\"./\">x</a><a href=\"x?y\">x</a><a href=\"#x\">x</a><a href=\"x#y\">x</a>"
           "<a href=\"%zz\">x</a><a href=\"/d\">x</a><a href=\"/d/\">x</a><a href=\"/dx/y\">x</a><a "
           "href=\"/e/x\">x</a><a href=\"/d//x\">x</a>"
           "<a href=\"//x\">x</a><a name=\"href\">x</a><abbr href=\"x\">x</abbr><!-- <a href=\"hidden\">x</a> -->");
  assert_int_equal(html(&s, "http://h/d/", page), 0);
  assert_int_equal(s.count, 0);
}

static void test_links_that_are_children(void **state)
{
  struct seen s;
  static const char page[] = PAGE(
      "<a href=\"r\">x</a><A class=q HREF='s'>x</A><a\n href = t >x</a><a href=\"/d/abs\">x</a><a "
      "href=\"http://H:80/d/full\">x</a>"
      "<a href=\"//h/d/net\">x</a><a href=\"././dot\">x</a><a href=\"%2Dd%2d\">x</a><a href=\"/%64/coded\">x</a>"
      "<a href=\"e&#x27;&#39;&apos;&unknown;&\">x</a><a href=\"&#233;\">x</a><a href=\"two\" href=\"second\">x</a>");
  assert_int_equal(html(&s, "http://h/d/", page), 0);
  static const char *const names[] = {
      "r", "s", "t", "abs", "full", "net", "dot", "-d-", "coded", "e'''&unknown;&", "\xc3\xa9", "two"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    assert_non_null(find(&s, names[i]));
  assert_int_equal(s.count, sizeof(names) / sizeof(names[0]));
}

static void test_pages_that_are_no_listing(void **state)
{
  struct seen s;
  assert_int_equal(html(&s, "http://h/d/", "<html><title>Shop</title><a href=\"x\">x</a></html>"), -EOPNOTSUPP);
  assert_int_equal(html(&s, "http://h/d/", ""), -EOPNOTSUPP);
  assert_int_equal(s.count, 0);
  assert_int_equal(html(&s, "http://h/d", nginx_html), -EPROTO); /* not a folder's URL */
}

static void test_a_cut_page_is_refused_wherever_it_is_cut(void **state)
{
  struct seen s;
  char *copy = strdup(nginx_html);
  for (size_t len = strlen(copy) - 10; len > 0; len--)
  {
    copy[len] = 0;
    assert_int_not_equal(html(&s, "http://h/d%20e/", copy), 0);
  }
  free(copy);
}

static void test_the_caller_can_stop(void **state)
{
  struct seen s = {.stop_at = 3};
  assert_int_equal(prelux_http_index_html("http://h/d%20e/", nginx_html, strlen(nginx_html), false, add, &s), -EINTR);
  assert_int_equal(s.count, 2);
}

/* Whatever a page holds, nothing is read behind its end and no bad name comes out (add() checks). */
static void test_damaged_pages(void **state)
{
  static const char *const pages[] = {nginx_html, apache_html};
  static const char odd[] = "<>\"'&#;%/?=: \n\0\xff"
                            "a!-";
  struct seen s;
  srand(7);
  for (int i = 0; i < 6000; i++)
  {
    char *copy = strdup(pages[i % 2]);
    size_t len = strlen(copy);
    for (int n = rand() % 8; n >= 0; n--)
      copy[(size_t)rand() % (len - 30)] = odd[(size_t)rand() % (sizeof(odd) - 1)];
    char *exact = malloc(len);
    memcpy(exact, copy, len);
    memset(&s, 0, sizeof(s));
    prelux_http_index_html("http://h/d/", exact, len, i % 3 == 0, add, &s);
    free(exact);
    free(copy);
  }
}

static void test_many_open_tags_take_linear_time(void **state)
{
  size_t len = 4u << 20;
  char *page = malloc(len);
  struct seen s = {0};
  for (size_t i = 0; i + 3 <= len; i += 3)
    memcpy(page + i, "<a ", 3);
  memcpy(page + len - 8, "</html>\n", 8);
  clock_t begin = clock();
  prelux_http_index_html("http://h/d/", page, len, true, add, &s);
  assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 20);
  free(page);
}

/* Behind each link the end of its line is looked for, and there is only one. */
static void test_many_links_on_one_line_take_linear_time(void **state)
{
  static const char link[] = "<a href=\"a\">x</a>";
  size_t len = 12u << 20, each = sizeof(link) - 1;
  char *page = malloc(len);
  struct seen s = {0};
  for (size_t i = 0; i + each <= len; i += each)
    memcpy(page + i, link, each);
  memcpy(page + len - 7, "</html>", 7);
  clock_t begin = clock();
  assert_int_equal(prelux_http_index_html("http://h/d/", page, len, true, add, &s), 0);
  assert_true(s.count > 500000);
  assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 20);
  free(page);
}

/* JSON */

static int on_element(void *arg, const cJSON *element)
{
  return prelux_http_index_json(element, add, arg);
}

static int json(struct seen *s, const char *text, size_t piece)
{
  struct prelux_json_array j;
  memset(s, 0, sizeof(*s));
  prelux_json_array_init(&j, on_element, s);
  int rc = 0;
  for (size_t i = 0, len = strlen(text); i < len && rc == 0; i += piece)
    rc = prelux_json_array_feed(&j, text + i, len - i < piece ? len - i : piece);
  if (rc == 0)
    rc = prelux_json_array_end(&j);
  prelux_json_array_release(&j);
  return rc;
}

static const char nginx_json[] =
    "[\r\n{ \"name\":\"sub dir\", \"type\":\"directory\", \"mtime\":\"Sat, 21 Nov 2026 13:40:14 GMT\" },\r\n"
    "{ \"name\":\"\\\"q'<x>\", \"type\":\"file\", \"mtime\":\"Sat, 21 Nov 2026 13:40:14 GMT\", \"size\":4000 },\r\n"
    "{ \"name\":\"back\\\\slash]}\", \"type\":\"file\", \"mtime\":\"Sat, 21 Nov 2026 13:40:14 GMT\", \"size\":5000 "
    "},\r\n"
    "{ \"name\":\"new\\nline\", \"type\":\"file\", \"mtime\":\"Sat, 21 Nov 2026 13:40:14 GMT\", \"size\":6000 },\r\n"
    "{ \"name\":\"socket\", \"type\":\"other\", \"mtime\":\"Sat, 21 Nov 2026 13:40:14 GMT\" },\r\n"
    "{ \"name\":\"\xff\xfe\", \"type\":\"file\", \"mtime\":\"Sat, 21 Nov 2026 13:40:14 GMT\", \"size\":7000 }\r\n]";

static void test_nginx_json(void **state)
{
  for (size_t piece = 1; piece < 200; piece += 7)
  {
    struct seen s;
    assert_int_equal(json(&s, nginx_json, piece), 0);
    assert_int_equal(s.count, 5);
    assert_int_equal(find(&s, "sub dir")->type, PRELUX_DIR);
    assert_true(find(&s, "\"q'<x>")->size == 4000);
    assert_true(find(&s, "back\\slash]}")->size == 5000);
    assert_true(find(&s, "\xff\xfe")->mtime_ns == INT64_C(1795268414000000000));
    assert_false(find(&s, "new\nline")->mtime_rough);
  }
}

static void test_json_refused(void **state)
{
  static const char *const bad[] = {"",
                                    "{}",
                                    "null",
                                    "[",
                                    "[]x",
                                    "[,]",
                                    "[{}",
                                    "[{\"name\":\"a\"}]",
                                    "[{\"name\":1,\"type\":\"file\"}]",
                                    "[1]",
                                    "[[]]",
                                    "[{\"name\":\"a\",\"type\":\"file\"},]",
                                    "[{\"name\":\"a\",\"type\":\"file\"}{}]",
                                    "[{\"name\":\"a\\u0000b\",\"type\":\"file\"}]",
                                    "[{\"name\":\"a\",\"type\":\"file\"",
                                    "[{\"name\":\"a,\"type\":\"file\"}]",
                                    "[{]}]"};
  struct seen s;
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    assert_int_equal(json(&s, bad[i], 3), -EPROTO);
  assert_int_equal(json(&s, " [ ] ", 2), 0);
  assert_int_equal(json(&s, "[{\"name\":\"../x\",\"type\":\"file\"},{\"name\":\"..\",\"type\":\"directory\"}]", 9), 0);
  assert_int_equal(s.count, 0);
}

static void test_json_is_bounded(void **state)
{
  struct prelux_json_array j;
  struct seen s = {0};
  char block[65536];
  int rc = 0;
  prelux_json_array_init(&j, on_element, &s);
  assert_int_equal(prelux_json_array_feed(&j, "[{\"a\":\"", 7), 0);
  memset(block, 'x', sizeof(block));
  for (int i = 0; i < 4096 && rc == 0; i++)
    rc = prelux_json_array_feed(&j, block, sizeof(block));
  assert_int_equal(rc, -EPROTO);
  assert_true(j.cap <= PRELUX_JSON_ELEMENT_MAX);
  prelux_json_array_release(&j);
  prelux_json_array_init(&j, on_element, &s);
  memset(block, '[', sizeof(block));
  block[1] = '{';
  assert_int_equal(prelux_json_array_feed(&j, block, sizeof(block)), -EPROTO);
  prelux_json_array_release(&j);
  assert_null(prelux_json_object("{\"a\":1} x", 9));
  assert_null(prelux_json_object("[]", 2));
}

static void test_json_sizes(void **state)
{
  static const struct
  {
    const char *text;
    uint64_t size;
  } rows[] = {{"1", 1},
              {"-1", UINT64_MAX},
              {"1.5", UINT64_MAX},
              {"1e300", UINT64_MAX},
              {"\"1\"", UINT64_MAX},
              {"4398046511104", 4398046511104}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    char text[100];
    struct seen s;
    snprintf(text, sizeof(text), "[{\"name\":\"a\",\"type\":\"file\",\"size\":%s}]", rows[i].text);
    assert_int_equal(json(&s, text, 100), 0);
    assert_true(s.objs[0].size == rows[i].size);
  }
}

/* Versions */

static struct prelux_net_answer answer(const char *etag, const char *modified, const char *date)
{
  struct prelux_net_answer a = {.status = 200};
  snprintf(a.etag, sizeof(a.etag), "%s", etag);
  snprintf(a.last_modified, sizeof(a.last_modified), "%s", modified);
  snprintf(a.date, sizeof(a.date), "%s", date);
  return a;
}

#define OLD "Sun, 06 Nov 1994 08:49:37 GMT"
#define LATER "Mon, 07 Nov 1994 08:49:37 GMT"

static void version(const char *etag, const char *modified, const char *date, uint64_t size, char *out)
{
  struct prelux_net_answer a = answer(etag, modified, date);
  prelux_http_version(&a, size, out);
  assert_true(prelux_http_version_same(&a, size, out));
}

static void test_versions(void **state)
{
  char a[PRELUX_VERSION_MAX], b[PRELUX_VERSION_MAX], line[200];
  version("\"abc\"", OLD, LATER, 5, a);
  assert_string_equal(a, "e:\"abc\"");
  assert_true(prelux_http_version_condition(a, line, sizeof(line)));
  assert_string_equal(line, "If-Match: \"abc\"");
  version("", OLD, LATER, 5, a);
  assert_true(prelux_http_version_condition(a, line, sizeof(line)));
  assert_string_equal(line, "If-Unmodified-Since: " OLD);
  version("", OLD, LATER, 6, b);
  assert_string_not_equal(a, b);
  version("W/\"abc\"", OLD, LATER, 5, a);
  version("W/\"abd\"", OLD, LATER, 5, b);
  assert_string_not_equal(a, b);
  assert_true(prelux_http_version_condition(a, line, sizeof(line)));
  assert_string_equal(line, "If-Unmodified-Since: " OLD);
}

static void test_nothing_to_tell_by(void **state)
{
  static const char *const etags[] = {"", "W/\"x\""};
  char a[PRELUX_VERSION_MAX], b[PRELUX_VERSION_MAX], line[200];
  for (int i = 0; i < 2; i++)
  {
    version(etags[i], "", LATER, 5, a);
    version(etags[i], "", LATER, 5, b);
    assert_string_not_equal(a, b);
    assert_true(prelux_http_version_none(a));
    assert_false(prelux_http_version_condition(a, line, sizeof(line)));
  }
}

static void test_odd_etags(void **state)
{
  char etag[256], a[PRELUX_VERSION_MAX], b[PRELUX_VERSION_MAX], line[200];
  memset(etag, 'x', 200);
  etag[0] = etag[199] = '"';
  etag[200] = 0;
  version(etag, "", LATER, 5, a);
  etag[100] = 'y';
  version(etag, "", LATER, 5, b);
  assert_string_not_equal(a, b);
  assert_false(prelux_http_version_condition(a, line, sizeof(line)));
  static const char *const odd[] = {"noquotes", "\"a\"b\"", "\"a~b\"", "\"a b\"", "\"", "\"\xff\""};
  for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
  {
    version(odd[i], "", LATER, 5, a);
    assert_int_equal(a[0], 'h');
  }
}

/* Within the second of its last change the bytes may change again without a trace. */
static void test_fresh_times_are_not_trusted(void **state)
{
  char a[PRELUX_VERSION_MAX], b[PRELUX_VERSION_MAX];
  char nginx[64];
  snprintf(nginx, sizeof(nginx), "\"%x-%x\"", 784111777, 5);
  static const char *const near[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"};
  for (int i = 0; i < 2; i++)
    for (int kind = 0; kind < 2; kind++)
    {
      const char *etag = kind ? nginx : "";
      version(etag, OLD, near[i], 5, a);
      version(etag, OLD, near[i], 5, b);
      assert_string_not_equal(a, b);
      struct prelux_net_answer later = answer(etag, OLD, LATER);
      assert_true(prelux_http_version_same(&later, 5, a)); /* for reading it is the same */
      version(etag, OLD, LATER, 5, b);
      assert_string_not_equal(a, b);
    }
  version("\"real\"", OLD, OLD, 5, a);
  assert_null(strchr(a, '~'));
}

static void test_same_refuses(void **state)
{
  char v[PRELUX_VERSION_MAX];
  version("\"abc\"", OLD, LATER, 5, v);
  struct prelux_net_answer other = answer("\"abd\"", OLD, LATER), none = answer("", "", LATER),
                           weak = answer("W/\"abc\"", OLD, LATER);
  assert_false(prelux_http_version_same(&other, 5, v));
  assert_false(prelux_http_version_same(&none, 5, v));
  assert_false(prelux_http_version_same(&weak, 5, v));
  version("", OLD, LATER, 5, v);
  struct prelux_net_answer moved = answer("", LATER, LATER), same = answer("", OLD, LATER);
  assert_false(prelux_http_version_same(&moved, 5, v));
  assert_false(prelux_http_version_same(&same, 6, v));
  assert_true(prelux_http_version_same(&same, 5, v));
}

static void test_content_range(void **state)
{
  uint64_t from, to, size;
  assert_true(prelux_http_content_range("bytes 0-9/100", &from, &to, &size));
  assert_true(from == 0 && to == 9 && size == 100);
  assert_true(prelux_http_content_range("bytes 5-5/*", &from, &to, &size));
  assert_true(from == 5 && size == UINT64_MAX);
  assert_true(prelux_http_content_range("bytes */0", &from, &to, &size));
  assert_true(from == UINT64_MAX && size == 0);
  static const char *const bad[] = {"",
                                    "bytes",
                                    "bytes 0-9",
                                    "bytes 9-0/100",
                                    "bytes 0-9/",
                                    "bytes 0-9/1x",
                                    "bytes -9/100",
                                    "bytes 0-99999999999999999999/1",
                                    "items 0-9/100",
                                    "bytes 0-9/100 ",
                                    "bytes=0-9/100"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    assert_false(prelux_http_content_range(bad[i], &from, &to, &size));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nginx_html),
      cmocka_unit_test(test_apache_html),
      cmocka_unit_test(test_links_that_are_no_child),
      cmocka_unit_test(test_links_that_are_children),
      cmocka_unit_test(test_pages_that_are_no_listing),
      cmocka_unit_test(test_a_cut_page_is_refused_wherever_it_is_cut),
      cmocka_unit_test(test_the_caller_can_stop),
      cmocka_unit_test(test_damaged_pages),
      cmocka_unit_test(test_many_open_tags_take_linear_time),
      cmocka_unit_test(test_many_links_on_one_line_take_linear_time),
      cmocka_unit_test(test_nginx_json),
      cmocka_unit_test(test_json_refused),
      cmocka_unit_test(test_json_is_bounded),
      cmocka_unit_test(test_json_sizes),
      cmocka_unit_test(test_versions),
      cmocka_unit_test(test_nothing_to_tell_by),
      cmocka_unit_test(test_odd_etags),
      cmocka_unit_test(test_fresh_times_are_not_trusted),
      cmocka_unit_test(test_same_refuses),
      cmocka_unit_test(test_content_range),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
