/* Backend alluxio-proxy, without a proxy: URLs, what answers mean, FileInfo, option messages, and who waits for whom. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/backend/alluxio_proxy.h"

#define SERVER "http://proxy:39999"

/* Names */

static void urls(void **state)
{
  static const struct
  {
    const char *root, *path, *url;
  } rows[] = {
      {"", "", "//x"},
      {"r/s", "", "/r/s/x"},
      {"", "a", "/a/x"},
      {"r", "a/b", "/r/a/b/x"},
      {"", "a b;{}#%&=+[]", "/a%20b%3B%7B%7D%23%25%26%3D%2B%5B%5D/x"},
      {"r\xc3\xa9", "\xe4\xb8\xad", "/r%C3%A9/%E4%B8%AD/x"},
      {"", "%41", "/%2541/x"},
  };
  char url[256], wanted[256];
  struct prelux_problem why = {0};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
  {
    snprintf(wanted, sizeof wanted, "%s/api/v1/paths/%s", SERVER, rows[i].url);
    assert_int_equal(prelux_rest_url(SERVER, rows[i].root, rows[i].path, "x", url, sizeof url, &why), 0);
    assert_string_equal(url, wanted);
  }
  assert_int_equal(prelux_rest_url(SERVER, "", "a?b", "x", url, sizeof url, &why), -EOPNOTSUPP);
  assert_int_equal(prelux_rest_url(SERVER, "", "a\\b", "x", url, sizeof url, &why), -EOPNOTSUPP);
  size_t fits = strlen(SERVER "/api/v1/paths//r/a/b/x") + 1;
  for (size_t cap = 1; cap <= fits; cap++)
  {
    char *small = malloc(cap); /* of its size, for the sanitizer */
    assert_int_equal(prelux_rest_url(SERVER, "r", "a/b", "x", small, cap, &why), cap == fits ? 0 : -EOPNOTSUPP);
    free(small);
  }
}

static void queries(void **state)
{
  struct prelux_proxy p = {.root = "r"}, top = {.root = ""};
  char *one = prelux_proxy_query(&p, "dst", "a b/c"), *two = prelux_proxy_query(&top, "src", "a"), *three = prelux_proxy_query(&p, "dst", "");
  assert_string_equal(one, "?dst=/r/a%20b/c");
  assert_string_equal(two, "?src=/a");
  assert_string_equal(three, "?dst=/r");
  free(one);
  free(two);
  free(three);
  char *longest = malloc(PRELUX_PROXY_QUERY_MAX);
  memset(longest, ' ', PRELUX_PROXY_QUERY_MAX - 1);
  longest[PRELUX_PROXY_QUERY_MAX - 1] = 0;
  assert_null(prelux_proxy_query(&p, "dst", longest));
  free(longest);
}

/* Statuses */

#define AGAIN 1
#define UNCLEAR 2

static const struct status
{
  const char *code;
  int err;
  unsigned bits;
} statuses[] = {
    {"CANCELLED", EIO, AGAIN | UNCLEAR},    {"UNKNOWN", EIO, UNCLEAR},           {"INVALID_ARGUMENT", EOPNOTSUPP, 0},
    {"DEADLINE_EXCEEDED", EIO, AGAIN | UNCLEAR}, {"NOT_FOUND", ENOENT, 0},        {"ALREADY_EXISTS", EEXIST, 0},
    {"PERMISSION_DENIED", EACCES, 0},       {"RESOURCE_EXHAUSTED", EIO, AGAIN},  {"FAILED_PRECONDITION", EIO, 0},
    {"ABORTED", EIO, AGAIN},                {"OUT_OF_RANGE", ESTALE, 0},         {"UNIMPLEMENTED", EOPNOTSUPP, 0},
    {"INTERNAL", EIO, UNCLEAR},             {"UNAVAILABLE", EIO, AGAIN | UNCLEAR}, {"DATA_LOSS", EIO, UNCLEAR},
    {"UNAUTHENTICATED", EACCES, 0},
};

static struct prelux_net_answer answer(int status, char *body)
{
  return (struct prelux_net_answer){.status = status, .body = body, .body_len = body ? strlen(body) : 0};
}

static void every_status(void **state)
{
  char body[200];
  struct prelux_problem why = {0};
  assert_int_equal(sizeof statuses / sizeof statuses[0], 16);
  for (size_t i = 0; i < 16; i++)
  {
    const struct status *s = &statuses[i];
    snprintf(body, sizeof body, "{\"statusCode\": \"%s\", \"message\": \"what happened\"}", s->code);
    struct prelux_net_answer a = answer(500, body);
    assert_int_equal(prelux_rest_error(&a, "rename", "p", &why), -s->err);
    assert_non_null(strstr(why.text, "what happened"));
    assert_non_null(strstr(why.text, s->code));
    assert_int_equal(prelux_rest_again(&a), (s->bits & AGAIN) != 0);
    assert_int_equal(prelux_rest_unclear(&a), (s->bits & UNCLEAR) != 0);
    assert_int_equal(prelux_rest_not_done(&a), s->bits == AGAIN);
    int err;
    bool again, unclear;
    assert_true(prelux_rest_status(s->code, &err, &again, &unclear));
    assert_true(err == -s->err && again == ((s->bits & AGAIN) != 0) && unclear == ((s->bits & UNCLEAR) != 0));
  }
  int err;
  bool again, unclear;
  assert_false(prelux_rest_status("NOPE", &err, &again, &unclear));
}

static void other_answers(void **state)
{
  static const struct
  {
    int status;
    const char *body;
    int err;
    bool again, unclear;
  } rows[] = {
      {500, "HTTP 404 Not Found", EIO, false, false}, {500, "HTTP 405 Method Not Allowed", EIO, false, false}, {500, "", EIO, false, true},
      {500, NULL, EIO, false, true},      {500, "{\"statusCode\": 5}", EIO, false, true}, {500, "{\"statusCode\": \"NEW\"}", EIO, false, true},
      {400, "bad option", EIO, false, false}, {401, NULL, EACCES, false, false},   {403, NULL, EACCES, false, false},
      {404, "", EIO, false, false},       {408, "", EIO, false, true},       {429, "", EIO, true, false},      {502, "", EIO, true, true},
      {503, "", EIO, true, false},        {504, "", EIO, true, true},        {501, "", EIO, false, false},
      {500, "{\"statusCode\": \"FAILED_PRECONDITION\", \"message\": \"Cannot delete non-empty directory /x\"}", ENOTEMPTY, false, false},
      {500, "{\"statusCode\": \"UNKNOWN\", \"message\": \"Not enough space left on worker w\"}", ENOSPC, false, false},
      {500, "{\"statusCode\": \"INVALID_ARGUMENT\", \"message\": \"/x is a file, not a directory\"}", ENOTDIR, false, false},
      {500, "{\"statusCode\": \"UNKNOWN\", \"message\": null}", EIO, false, true},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
  {
    char *body = rows[i].body ? strdup(rows[i].body) : NULL;
    struct prelux_net_answer a = answer(rows[i].status, body);
    int err = prelux_rest_error(&a, "delete", "p", NULL);
    if (err != -rows[i].err || prelux_rest_again(&a) != rows[i].again || prelux_rest_unclear(&a) != rows[i].unclear)
      fail_msg("%d %s: %d %d %d", rows[i].status, rows[i].body ? rows[i].body : "-", err, prelux_rest_again(&a), prelux_rest_unclear(&a));
    free(body);
  }
}

static void texts_are_clean(void **state)
{
  char body[900] = "{\"statusCode\": \"UNKNOWN\", \"message\": \"one\\u001b[2Jtwo\\nthree ";
  memset(body + strlen(body), 'x', 700);
  strcat(body, "\"}");
  struct prelux_net_answer a = answer(500, body);
  struct prelux_problem why = {0};
  prelux_rest_error(&a, "rename", "p", &why);
  assert_non_null(strstr(why.text, "one.[2Jtwo"));
  assert_null(strstr(why.text, "three"));
}

/* FileInfo */

static int describe(const char *text, struct prelux_proxy_info *ret)
{
  cJSON *o = cJSON_Parse(text);
  assert_non_null(o);
  int rc = prelux_proxy_describe(o, ret);
  cJSON_Delete(o);
  return rc;
}

static void file_info(void **state)
{
  struct prelux_proxy_info it;
  assert_int_equal(describe("{\"folder\":false,\"completed\":true,\"length\":5,\"fileId\":33554431,\"lastModificationTimeMs\":1700000000123,"
                            "\"mode\":33188,\"persistenceState\":\"PERSISTED\"}", &it), 0);
  assert_true(it.obj.type == PRELUX_FILE && it.obj.size == 5 && it.obj.mtime_ns == INT64_C(1700000000123000000) && it.complete && !it.mount);
  assert_int_equal(it.obj.mode, 0644);
  assert_string_equal(it.obj.version, "33554431-5-1700000000123");
  assert_string_equal(it.id, "33554431");
  assert_string_equal(it.persistence, "PERSISTED");
  assert_int_equal(it.release, PRELUX_PROXY_2);
  assert_int_equal(describe("{\"folder\":false,\"completed\":false,\"length\":0,\"fileId\":1,\"lastModificationTimeMs\":1}", &it), 0);
  assert_true(!it.complete && it.obj.size == UINT64_MAX && it.obj.version[0] == 0);
  assert_int_equal(describe("{\"folder\":true,\"lastModificationTimeMs\":1,\"mountPoint\":true,\"fromUFSFallBack\":false}", &it), 0);
  assert_true(it.obj.type == PRELUX_DIR && it.complete && it.mount && it.release == PRELUX_PROXY_3);
  static const char *const bad[] = {
      "{}", "{\"folder\":1,\"lastModificationTimeMs\":1}", "{\"folder\":false,\"fileId\":1,\"lastModificationTimeMs\":1}",
      "{\"folder\":false,\"length\":-1,\"fileId\":1,\"lastModificationTimeMs\":1}", "{\"folder\":false,\"length\":1,\"lastModificationTimeMs\":1}",
      "{\"folder\":false,\"length\":1e300,\"fileId\":1,\"lastModificationTimeMs\":1}", "{\"folder\":true,\"lastModificationTimeMs\":\"1\"}"};
  memset(&it, 7, sizeof it);
  struct prelux_proxy_info before = it;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(describe(bad[i], &it), -EPROTO);
  assert_memory_equal(&it, &before, sizeof it); /* untouched */
}

static void modes(void **state)
{
  static const struct
  {
    uint32_t mode;
    const char *text;
  } rows[] = {{0, "NONE NONE NONE"}, {0644, "READ_WRITE READ READ"}, {0750, "ALL READ_EXECUTE NONE"}, {0321, "WRITE_EXECUTE WRITE EXECUTE"}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
  {
    char text[100];
    cJSON *o = cJSON_CreateObject();
    assert_true(prelux_proxy_add_mode(o, rows[i].mode));
    const cJSON *mode = cJSON_GetObjectItemCaseSensitive(o, "mode");
    snprintf(text, sizeof text, "%s %s %s", cJSON_GetStringValue(cJSON_GetObjectItem(mode, "ownerBits")),
             cJSON_GetStringValue(cJSON_GetObjectItem(mode, "groupBits")), cJSON_GetStringValue(cJSON_GetObjectItem(mode, "otherBits")));
    assert_string_equal(text, rows[i].text);
    cJSON_Delete(o);
  }
}

/* Turns */

static struct prelux_proxy shared;
static _Atomic int order;

struct waiter
{
  struct prelux_proxy_turn turn;
  _Atomic int got; /* place in the order; 0: still waits */
};

static void *wait_for_turn(void *arg)
{
  struct waiter *w = arg;
  prelux_proxy_turn_begin(&shared, &w->turn);
  w->got = ++order;
  return NULL;
}

/* Whether it has its turn within a while. */
static bool has_it(struct waiter *w)
{
  for (int i = 0; i < 60 && !w->got; i++)
    usleep(1000);
  return w->got != 0;
}

static void turns(void **state)
{
  struct waiter put = {.turn.paths = {"d/e/f"}}, folder = {.turn = {.paths = {"d", "x"}, .folder = true}}, late = {.turn.paths = {"x/f"}},
                other = {.turn.paths = {"dd/f"}}, second = {.turn = {.paths = {"d/e", "y"}, .folder = true}};
  struct waiter *all[] = {&put, &folder, &late, &other, &second};
  pthread_t threads[5];
  pthread_mutex_init(&shared.lock, NULL);
  pthread_cond_init(&shared.changed, NULL);
  for (int i = 0; i < 4; i++)
  {
    assert_int_equal(pthread_create(&threads[i], NULL, wait_for_turn, all[i]), 0);
    assert_int_equal(has_it(all[i]), i == 0 || i == 3); /* the folder waits for the put below it, the late one for the folder */
  }
  prelux_proxy_turn_end(&shared, &put.turn);
  assert_true(has_it(&folder) && !has_it(&late));
  assert_int_equal(pthread_create(&threads[4], NULL, wait_for_turn, all[4]), 0);
  assert_true(has_it(&second)); /* two folders do not wait for each other: Alluxio decides */
  prelux_proxy_turn_end(&shared, &folder.turn);
  assert_true(has_it(&late));
  for (int i = 0; i < 5; i++)
    pthread_join(threads[i], NULL);
  for (int i = 2; i < 5; i++)
    prelux_proxy_turn_end(&shared, &all[i]->turn);
  assert_null(shared.turns);
  pthread_cond_destroy(&shared.changed);
  pthread_mutex_destroy(&shared.lock);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(urls),      cmocka_unit_test(queries), cmocka_unit_test(every_status), cmocka_unit_test(other_answers),
      cmocka_unit_test(texts_are_clean), cmocka_unit_test(file_info), cmocka_unit_test(modes),     cmocka_unit_test(turns),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
