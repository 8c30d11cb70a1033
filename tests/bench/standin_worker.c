/* A stand-in for one worker of Alluxio 3.x, for benches: what a client that reads asks, and no more, as fast as this machine does it, so that
 * the clients' own cost is seen. It is NOT Alluxio, and not tests/standin either: that one, in Python, knows the traps and the faults.
 *
 *   standin_worker UFS ROOT HOST HTTP_PORT S3_PORT
 *
 * UFS is a folder, ROOT what Alluxio calls it. HTTP port: /v1/info, /v1/files, and /v1/node as a forwarder before a worker answers it. S3 port: GET of
 * an object or a range of it, HEAD; behind a body the connection is of no use any more, as that of a worker, and any other answer ends it.
 * Bytes are the folder's: to who asks, everything is cached. Names are those of benches: letters, digits, '.', '_', '-', '/'.
 * Two threads, each with connections of its own. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS 2
#define ASK_MAX 8192
#define EVENTS 64

struct conn {
  int fd;
  bool listens, s3;
  bool spent; /* a body went out on the S3 port: nothing comes after it */
  bool ends;  /* closed when all is sent */
  char ask[ASK_MAX];
  size_t asked;
  char *text; /* what is to be sent: this, then the file's part */
  size_t text_len, text_at;
  int file;
  off_t at, end;
};

static const char *ufs, *root, *host, *http_port;

static void say(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct conn *c, const char *fmt, ...)
{
  char *more = NULL;
  va_list ap;
  va_start(ap, fmt);
  int n = vasprintf(&more, fmt, ap);
  va_end(ap);
  if (n < 0)
    abort();
  c->text = realloc(c->text, c->text_len + (size_t)n + 1);
  memcpy(c->text + c->text_len, more, (size_t)n + 1);
  c->text_len += (size_t)n;
  free(more);
}

static long long millis(const struct stat *st)
{
  return (long long)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

/* A FileInfo as JSON; rel begins with a slash. */
static char *info(const char *rel, const struct stat *st)
{
  char *ret;
  bool folder = S_ISDIR(st->st_mode);
  long long size = folder ? 0 : (long long)st->st_size;
  const char *slash = strrchr(rel, '/');
  if (asprintf(&ret,
               "{\"mType\":\"%s\",\"mName\":\"%s\",\"mPath\":\"%s\",\"mUfsPath\":\"%s%s\",\"mLastModificationTimeMs\":%lld,\"mLength\":%lld,"
               "\"mHumanReadableFileSize\":\"%lldB\"}",
               folder ? "directory" : "file", slash + 1, rel, root, rel, millis(st), size, size) < 0)
    abort();
  return ret;
}

/* The names of a folder, or the file itself; "[]" when it is not there. */
static char *listing(const char *rel)
{
  char path[4096], *ret = NULL;
  size_t len = 0;
  struct stat st;
  FILE *out = open_memstream(&ret, &len);
  snprintf(path, sizeof path, "%s%s", ufs, rel);
  DIR *dir = opendir(path);
  fputc('[', out);
  bool first = true;
  for (struct dirent *e; dir && (e = readdir(dir));)
  {
    char below[4096];
    if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
      continue;
    snprintf(below, sizeof below, "%.3000s/%s", strcmp(rel, "/") ? rel : "", e->d_name);
    char *one = info(below, &st);
    fprintf(out, "%s%s", first ? "" : ",", one);
    first = false;
    free(one);
  }
  if (dir)
    closedir(dir);
  else if (stat(path, &st) == 0)
  {
    char *one = info(rel, &st);
    fputs(one, out);
    free(one);
  }
  fputc(']', out);
  fclose(out);
  return ret;
}

/* The path of ?path=ROOT/..., below the root, as it stands there but for %2F and %3A. NULL: of no path of ours. */
static const char *asked_path(char *query)
{
  char *from = strstr(query, "path="), *to;
  if (!from)
    return NULL;
  from = to = from + 5;
  for (char *p = from; *p && *p != '&'; to++)
  {
    bool slash = strncasecmp(p, "%2F", 3) == 0, colon = strncasecmp(p, "%3A", 3) == 0;
    *to = slash ? '/' : colon ? ':' : *p;
    p += slash || colon ? 3 : 1;
  }
  *to = 0;
  size_t n = strlen(root);
  if (strncmp(from, root, n) != 0)
    return NULL;
  while (to > from + n + 1 && to[-1] == '/')
    *--to = 0;
  return from[n] == '/' ? from + n : from[n] ? NULL : "/";
}

/* False: closed without a word, which is how the HTTP port says no. */
static bool on_http(struct conn *c, char *target)
{
  char *query = strchr(target, '?'), *body = NULL;
  const char *rel = query ? asked_path(query) : NULL;
  if (!rel)
    return false;
  *query = 0;
  if (strcmp(target, "/v1/node") == 0)
  {
    if (asprintf(&body, "{\"Host\":\"%s\",\"HttpServerPort\":%s}", host, http_port) < 0)
      abort();
  }
  else if (strcmp(target, "/v1/files") == 0)
    body = listing(rel);
  else if (strcmp(target, "/v1/info") == 0)
  {
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s%s", ufs, rel);
    if (stat(path, &st) < 0)
      return false;
    char *one = info(rel, &st);
    if (asprintf(&body, "[%s]", one) < 0)
      abort();
    free(one);
  }
  if (!body)
    return false;
  say(c, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", strlen(body));
  say(c, "%s", body);
  free(body);
  return true;
}

static void on_s3(struct conn *c, const char *target, bool head)
{
  char path[4096], date[64], *cut;
  struct stat st;
  unsigned long long first, last;
  struct tm tm;
  snprintf(path, sizeof path, "%s%s", ufs, target);
  if ((cut = strchr(path, '?')))
    *cut = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool there = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  c->ends = !there || head || st.st_size == 0;
  if (!there)
    say(c, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
  if (there)
  {
    const char *range = strcasestr(c->ask, "\r\nRange: bytes=");
    bool part = range && !head && sscanf(range + 15, "%llu-%llu", &first, &last) == 2 && first < (unsigned long long)st.st_size && last >= first;
    if (!part)
    {
      first = 0;
      last = (unsigned long long)st.st_size - 1;
    }
    if (last >= (unsigned long long)st.st_size)
      last = (unsigned long long)st.st_size - 1;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&st.st_mtim.tv_sec, &tm));
    say(c, "HTTP/1.1 %s\r\nlast-modified: %s\r\nContent-Length: %llu\r\n", part ? "206 Partial Content" : "200 OK", date, last + 1 - first);
    if (part)
      say(c, "accept-ranges: bytes\r\nContent-Range: bytes %llu-%llu/%lld\r\n", first, last, (long long)st.st_size);
    say(c, "ETAG: (len:%lld, modtime:%lld)\r\nContent-Type: application/octet-stream\r\n\r\n", (long long)st.st_size, millis(&st));
  }
  if (!there || c->ends)
  {
    if (fd >= 0)
      close(fd);
    return;
  }
  c->file = fd;
  c->at = (off_t)first;
  c->end = (off_t)last + 1;
  c->spent = true;
}

/* One request, if it is whole. False: the connection is over. */
static bool answer(struct conn *c)
{
  char *end = strstr(c->ask, "\r\n\r\n"), *target, *blank;
  if (!end)
    return c->asked < ASK_MAX - 1;
  bool head = strncmp(c->ask, "HEAD ", 5) == 0, get = strncmp(c->ask, "GET ", 4) == 0;
  target = c->ask + (head ? 5 : 4);
  if ((!get && !head) || !(blank = strchr(target, ' ')) || strstr(c->ask, ".."))
    return false;
  char *copy = strndup(target, (size_t)(blank - target));
  bool good = true;
  if (c->s3)
    on_s3(c, copy, head);
  else
  {
    good = on_http(c, copy);
    c->ends = strcasestr(c->ask, "\r\nConnection: close") != NULL;
  }
  free(copy);
  end += 4;
  c->asked -= (size_t)(end - c->ask);
  memmove(c->ask, end, c->asked + 1);
  return good;
}

static bool pending(const struct conn *c)
{
  return c->text_at < c->text_len || c->at < c->end;
}

/* False: the connection is over. */
static bool flush_out(struct conn *c)
{
  while (c->text_at < c->text_len)
  {
    ssize_t n = send(c->fd, c->text + c->text_at, c->text_len - c->text_at, MSG_NOSIGNAL | (c->at < c->end ? MSG_MORE : 0));
    if (n < 0)
      return errno == EAGAIN;
    c->text_at += (size_t)n;
  }
  while (c->at < c->end)
  {
    ssize_t n = sendfile(c->fd, c->file, &c->at, (size_t)(c->end - c->at));
    if (n <= 0)
      return n < 0 && errno == EAGAIN;
  }
  if (c->file >= 0)
    close(c->file);
  c->file = -1;
  c->text_len = c->text_at = 0;
  c->at = c->end = 0;
  return !c->ends;
}

/* Reads, answers, sends: until it would block. False: the connection is over. */
static bool serve(struct conn *c)
{
  for (;;)
  {
    if (pending(c))
    {
      if (!flush_out(c))
        return false;
      if (pending(c))
        return true;
    }
    if (c->spent)
      c->asked = 0;
    else if (c->asked && strstr(c->ask, "\r\n\r\n"))
    {
      if (!answer(c))
        return false;
      continue;
    }
    ssize_t n = recv(c->fd, c->ask + c->asked, ASK_MAX - 1 - c->asked, 0);
    if (n <= 0)
      return n < 0 && errno == EAGAIN;
    c->asked += (size_t)n;
    c->ask[c->asked] = 0;
  }
}

static void drop(struct conn *c)
{
  close(c->fd);
  if (c->file >= 0)
    close(c->file);
  free(c->text);
  free(c);
}

static void take_in(int epoll, const struct conn *door)
{
  static const int on = 1;
  int fd;
  while ((fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
  {
    struct conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->s3 = door->s3;
    c->file = -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!serve(c)) /* the request is often there already */
    {
      drop(c);
      continue;
    }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
  }
}

static void *run(void *arg)
{
  struct conn *doors = arg;
  struct epoll_event events[EVENTS];
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < 2; i++)
  {
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = &doors[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, doors[i].fd, &e);
  }
  for (;;)
  {
    int n = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++)
    {
      struct conn *c = events[i].data.ptr;
      if (c->listens)
        take_in(epoll, c);
      else if (!serve(c))
        drop(c);
    }
  }
  return NULL;
}

static struct conn door(const char *port, bool s3)
{
  static const int on = 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
  struct conn c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .listens = true, .s3 = s3, .file = -1};
  setsockopt(c.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (inet_pton(AF_INET, host, &to.sin_addr) != 1 || bind(c.fd, (struct sockaddr *)&to, sizeof to) < 0 || listen(c.fd, 1024) < 0)
  {
    perror("standin_worker: listen");
    exit(1);
  }
  return c;
}

int main(int argc, char **argv)
{
  pthread_t threads[THREADS];
  if (argc != 6)
    return 2;
  signal(SIGPIPE, SIG_IGN);
  ufs = argv[1];
  root = argv[2];
  host = argv[3];
  http_port = argv[4];
  struct conn doors[2] = {door(argv[4], false), door(argv[5], true)};
  puts("stand-in worker in C: listening");
  fflush(stdout);
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, run, doors) != 0)
      return 1;
  pthread_join(threads[0], NULL);
  return 0;
}
