/* A few lines of etcd's JSON gateway in this process, which can be down, silent, slow, strict about tokens, or talk nonsense. The
 * real one is tests/servers/etcd.py. */
#ifndef PRELUX_TESTS_ETCD_FAKE_H
#define PRELUX_TESTS_ETCD_FAKE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum etcd_mood { ETCD_WELL, ETCD_SILENT, ETCD_SLOW, ETCD_HTML, ETCD_503, ETCD_CUT };

struct etcd_fake {
  int listener;
  unsigned port;
  pthread_t thread;
  atomic_bool ending;
  _Atomic enum etcd_mood mood;
  atomic_bool beta;      /* knows /v3beta only */
  atomic_int token;      /* > 0: only "tokenN" is let in; log in as me/word gives it */
  atomic_int asked, logged_in, refused;
  pthread_mutex_t lock;
  char *kvs;             /* JSON array, or NULL: nobody */
};

static inline void fake_send(int fd, const char *data, size_t len)
{
  for (ssize_t n; len && (n = send(fd, data, len, MSG_NOSIGNAL)) > 0; data += n, len -= (size_t)n)
    ;
}

static inline void fake_answer(struct etcd_fake *e, int fd, int status, const char *body)
{
  char head[128];
  size_t len = strlen(body);
  int n = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status, len);
  fake_send(fd, head, (size_t)n);
  if (atomic_load(&e->mood) == ETCD_CUT)
    len /= 2;
  for (; atomic_load(&e->mood) == ETCD_SLOW && len > 0 && !atomic_load(&e->ending); len--, body++)
  {
    fake_send(fd, body, 1);
    usleep(100000);
  }
  fake_send(fd, body, len);
}

/* The request, head and body. */
static inline bool fake_read(struct etcd_fake *e, int fd, char *buf, size_t cap)
{
  size_t len = 0;
  while (!atomic_load(&e->ending) && len + 1 < cap)
  {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 50) == 0)
      continue;
    ssize_t n = recv(fd, buf + len, cap - 1 - len, 0);
    if (n <= 0)
      return false;
    len += (size_t)n;
    buf[len] = 0;
    char *body = strstr(buf, "\r\n\r\n"), *cl = strcasestr(buf, "content-length:");
    if (body && len >= (size_t)(body + 4 - buf) + (cl ? strtoul(cl + 15, NULL, 10) : 0))
      return true;
  }
  return false;
}

static inline void fake_range(struct etcd_fake *e, int fd)
{
  pthread_mutex_lock(&e->lock);
  char *kvs = e->kvs ? strdup(e->kvs) : NULL, *body = NULL;
  pthread_mutex_unlock(&e->lock);
  if (asprintf(&body, "{\"header\":{\"revision\":\"5\"}%s%s}", kvs ? ",\"kvs\":" : "", kvs ? kvs : "") < 0)
    abort();
  fake_answer(e, fd, 200, body);
  free(body);
  free(kvs);
}

static inline void fake_serve_one(struct etcd_fake *e, int fd)
{
  char request[8192], want[64];
  if (!fake_read(e, fd, request, sizeof request))
    return;
  atomic_fetch_add(&e->asked, 1);
  enum etcd_mood mood = atomic_load(&e->mood);
  int token = atomic_load(&e->token);
  snprintf(want, sizeof want, "\r\nAuthorization: token%d\r\n", token);
  while (mood == ETCD_SILENT && !atomic_load(&e->ending) && atomic_load(&e->mood) == ETCD_SILENT)
    usleep(20000);
  if (mood == ETCD_SILENT)
    return;
  if (mood == ETCD_HTML)
    fake_answer(e, fd, 200, "<html>hello</html>");
  else if (mood == ETCD_503)
    fake_answer(e, fd, 503, "{\"error\":\"etcdserver: request timed out\",\"code\":14}");
  else if (strncmp(request, atomic_load(&e->beta) ? "POST /v3beta/" : "POST /v3/", atomic_load(&e->beta) ? 13 : 9) != 0)
    fake_answer(e, fd, 404, "404 page not found");
  else if (strstr(request, "/auth/authenticate "))
  {
    char body[64];
    bool right = strstr(request, "\"name\":\"me\"") && strstr(request, "\"password\":\"word\"");
    atomic_fetch_add(right ? &e->logged_in : &e->refused, 1);
    snprintf(body, sizeof body, "{\"header\":{},\"token\":\"token%d\"}", token);
    fake_answer(e, fd, right ? 200 : 400, right ? body : "{\"error\":\"etcdserver: authentication failed, invalid user ID or password\"}");
  }
  else if (token && !strstr(request, want))
  {
    bool some = strstr(request, "\r\nAuthorization: ") != NULL;
    atomic_fetch_add(&e->refused, 1);
    fake_answer(e, fd, some ? 401 : 400, some ? "{\"error\":\"etcdserver: invalid auth token\"}" : "{\"error\":\"etcdserver: user name is empty\"}");
  }
  else
    fake_range(e, fd);
}

static inline void *fake_serve(void *arg)
{
  struct etcd_fake *e = arg;
  while (!atomic_load(&e->ending))
  {
    struct pollfd p = {.fd = e->listener, .events = POLLIN};
    int fd = poll(&p, 1, 50) > 0 ? accept(e->listener, NULL, NULL) : -1;
    if (fd < 0)
      continue;
    fake_serve_one(e, fd);
    close(fd);
  }
  return NULL;
}

/* port 0: any */
static inline void etcd_fake_start(struct etcd_fake *e, unsigned port)
{
  struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
  socklen_t len = sizeof sin;
  int one = 1;
  e->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(e->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(e->listener, (struct sockaddr *)&sin, sizeof sin) || listen(e->listener, 100) ||
      getsockname(e->listener, (struct sockaddr *)&sin, &len))
    abort();
  e->port = ntohs(sin.sin_port);
  atomic_store(&e->ending, false);
  if (port == 0)
    pthread_mutex_init(&e->lock, NULL);
  if (pthread_create(&e->thread, NULL, fake_serve, e))
    abort();
}

static inline void etcd_fake_stop(struct etcd_fake *e)
{
  atomic_store(&e->ending, true);
  pthread_join(e->thread, NULL);
  close(e->listener);
}

static inline char *fake_base64(const char *s)
{
  char *out = malloc(strlen(s) * 2 + 8);
  EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)s, (int)strlen(s));
  return out;
}

/* values: texts of values, NULL-terminated; the n-th registered at revision births[n] (NULL: all 5). */
static inline void etcd_fake_set(struct etcd_fake *e, const char *const *values, const int *births)
{
  char *out = NULL;
  size_t len;
  FILE *f = open_memstream(&out, &len);
  fputc('[', f);
  for (size_t i = 0; values[i]; i++)
  {
    char *value = fake_base64(values[i]);
    fprintf(f, "%s{\"key\":\"eA==\",\"create_revision\":\"2\",\"mod_revision\":\"%d\",\"value\":\"%s\",\"lease\":\"2324035519251052555\"}", i ? "," : "",
            births ? births[i] : 5, value);
    free(value);
  }
  fputc(']', f);
  fclose(f);
  pthread_mutex_lock(&e->lock);
  free(e->kvs);
  e->kvs = values[0] ? out : NULL;
  pthread_mutex_unlock(&e->lock);
  if (!values[0])
    free(out);
}

#define FAKE_WORKER(id, host, port)                                                                                                   \
  "{\"Identity\":{\"version\":1,\"identifier\":\"" id "\"},\"WorkerNetAddress\":{\"Host\":\"" host "\",\"ContainerHost\":\"\","        \
  "\"RpcPort\":29999,\"DataPort\":29997,\"SecureRpcPort\":0,\"NettyDataPort\":29997,\"WebPort\":30000,\"DomainSocketPath\":\"\","      \
  "\"HttpServerPort\":" port "},\"State\":\"AUTHORIZED\",\"GenerationNumber\":-1,\"ServiceEntityName\":\"worker-x\"}"

#endif
