/* The bare client that prelux is held against: libcurl and pwrite, nothing else.
 *
 *   fetch FOLDER CONNECTIONS [HEADER...] <requests
 *
 * A line of requests: FILE KIND OFFSET RANGE URL, where KIND is data (written to FOLDER/FILE at OFFSET), lone (the same over a
 * connection of its own), head or meta (dropped); RANGE is as libcurl takes it, or -. All files are fetched at once, each over
 * that many connections, which take its requests in order. Files are numbered from 0. Exit status 1: a request failed. */
#include <curl/curl.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUESTS 8192
#define FILES 64
#define CONNECTIONS 16

struct request {
  char kind[8], range[64], url[1024];
  long long offset;
};

struct file {
  int fd;
  size_t n, next;
  pthread_mutex_t lock;
  struct request *requests[REQUESTS];
};

struct place {
  int fd;
  off_t at;
};

static struct file files[FILES];
static size_t n_files;
static int failed;
static struct curl_slist *headers;

static size_t drop(char *data, size_t size, size_t count, void *arg)
{
  return size * count;
}

static size_t store(char *data, size_t size, size_t count, void *arg)
{
  struct place *p = arg;
  size_t n = size * count;
  if (pwrite(p->fd, data, n, p->at) != (ssize_t)n)
    return 0;
  p->at += n;
  return n;
}

static struct request *take(struct file *f)
{
  pthread_mutex_lock(&f->lock);
  struct request *r = f->next < f->n ? f->requests[f->next++] : NULL;
  pthread_mutex_unlock(&f->lock);
  return r;
}

static void set_up(CURL *e, const struct request *r, struct place *p)
{
  int lone = strcmp(r->kind, "lone") == 0, data = lone || strcmp(r->kind, "data") == 0;
  curl_easy_reset(e); /* keeps the connections */
  curl_easy_setopt(e, CURLOPT_URL, r->url);
  curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(e, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, (long)lone);
  curl_easy_setopt(e, CURLOPT_FORBID_REUSE, (long)lone);
  curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(e, CURLOPT_NOBODY, (long)(strcmp(r->kind, "head") == 0));
  if (strcmp(r->range, "-") != 0)
    curl_easy_setopt(e, CURLOPT_RANGE, r->range);
  curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, data ? store : drop);
  curl_easy_setopt(e, CURLOPT_WRITEDATA, p);
}

static void *work(void *arg)
{
  struct file *f = arg;
  struct request *r;
  CURL *e = curl_easy_init();
  while (e && (r = take(f)))
  {
    struct place p = {.fd = f->fd, .at = r->offset};
    set_up(e, r, &p);
    CURLcode rc = curl_easy_perform(e);
    if (rc == CURLE_OK)
      continue;
    fprintf(stderr, "%s %s: %s\n", r->url, r->range, curl_easy_strerror(rc));
    __atomic_store_n(&failed, 1, __ATOMIC_SEQ_CST);
    break;
  }
  curl_easy_cleanup(e);
  return NULL;
}

static int read_requests(void)
{
  struct request r;
  size_t file;
  while (scanf("%zu %7s %lld %63s %1023s", &file, r.kind, &r.offset, r.range, r.url) == 5)
  {
    struct file *f = file < FILES ? &files[file] : NULL;
    struct request *kept = malloc(sizeof r);
    if (!f || !kept || f->n == REQUESTS)
      return -1;
    *kept = r;
    f->requests[f->n++] = kept;
    n_files = file + 1 > n_files ? file + 1 : n_files;
  }
  return 0;
}

int main(int argc, char **argv)
{
  pthread_t threads[FILES][CONNECTIONS];
  int connections = argc > 2 ? atoi(argv[2]) : 0;
  if (connections < 1 || connections > CONNECTIONS || read_requests() < 0 || chdir(argv[1]) < 0)
    return 2;
  for (int i = 3; i < argc; i++)
    headers = curl_slist_append(headers, argv[i]);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  for (size_t i = 0; i < n_files; i++)
  {
    char name[24];
    snprintf(name, sizeof name, "%zu", i);
    pthread_mutex_init(&files[i].lock, NULL);
    files[i].fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (files[i].fd < 0)
      return 2;
    for (int k = 0; k < connections; k++)
      if (pthread_create(&threads[i][k], NULL, work, &files[i]) != 0)
        return 2;
  }
  for (size_t i = 0; i < n_files; i++)
    for (int k = 0; k < connections; k++)
      pthread_join(threads[i][k], NULL);
  return failed;
}
