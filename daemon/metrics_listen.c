/* One thread that answers one scrape at a time. Any user of the node can connect, so nobody gets more than PATIENCE_MS for all of his request and
 * its answer, however he spreads them, and the daemon's end waits for nobody. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/metrics.h"
#include "lib/base/log.h"

#define LISTENERS 8
#define REQUEST_MAX 8192
#define PATIENCE_MS 2000u
#define AGAIN_MS 200

/* Both are of `compiling`'s holder; the threads have the listeners that are in use. */
static struct listener {
  struct prelux_daemon *d; /* NULL: free */
  char address[128];
  pthread_t thread;
  atomic_int fd; /* -1: not yet; closed by who ends it, when the thread has left */
  atomic_bool over;
} listeners[LISTENERS];
/* What the last text of each configuration names; several, when variables of the environment are in it. */
static struct named {
  struct named *next;
  char *source, *address; /* address NULL: none */
  uint64_t text;
} *named;

/* A connection, non-blocking. */
struct visit {
  struct listener *l;
  int fd, listening;
  uint64_t until_ms;
};

/* False: his time is up, or it is over (the listening socket is shut down then: POLLHUP, which is always told). */
static bool wait_for(const struct visit *v, short events)
{
  for (;;)
  {
    struct pollfd p[] = {{.fd = v->fd, .events = events}, {.fd = v->listening}};
    uint64_t now = prelux_clock_ms();
    if (now >= v->until_ms || atomic_load(&v->l->over))
      return false;
    int n = poll(p, 2, (int)(v->until_ms - now));
    if (n < 0 && errno != EINTR)
      return false;
    if (n > 0)
      return !p[1].revents;
  }
}

static void send_all(const struct visit *v, const char *text, size_t len)
{
  while (len > 0 && wait_for(v, POLLOUT))
  {
    ssize_t n = send(v->fd, text, len, MSG_NOSIGNAL);
    if (n <= 0 && errno != EINTR && errno != EAGAIN)
      return;
    text += n > 0 ? n : 0;
    len -= n > 0 ? (size_t)n : 0;
  }
}

static void answer(const struct visit *v, const char *status, const char *type, const char *body)
{
  char head[256];
  int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status, type, strlen(body));
  send_all(v, head, (size_t)n);
  send_all(v, body, strlen(body));
}

/* The head of a request is in buf, or false. */
static bool read_head(const struct visit *v, char *buf, size_t cap)
{
  size_t len = 0;
  while (len < cap - 1 && wait_for(v, POLLIN))
  {
    ssize_t n = recv(v->fd, buf + len, cap - 1 - len, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (n <= 0)
      return false;
    buf[len += (size_t)n] = 0;
    if (strstr(buf, "\r\n\r\n") || strstr(buf, "\n\n"))
      return true;
  }
  return false;
}

static void serve_one(struct prelux_daemon *d, const struct visit *v)
{
  char buf[REQUEST_MAX];
  if (!read_head(v, buf, sizeof buf))
    return;
  size_t verb = strcspn(buf, " "), path = strcspn(buf + verb + (buf[verb] != 0), " ?\r\n");
  const char *at = buf + verb + (buf[verb] != 0);
  if (strncmp(buf, "GET ", 4) != 0)
    answer(v, "405 Method Not Allowed", "text/plain", "GET /metrics\n");
  else if (path != 8 || strncmp(at, "/metrics", 8) != 0)
    answer(v, "404 Not Found", "text/plain", "/metrics\n");
  else
  {
    char *text = prelux_metrics_text(d);
    answer(v, text ? "200 OK" : "503 Service Unavailable", "text/plain; version=0.0.4; charset=utf-8", text ? text : "");
    free(text);
  }
}

/* A listening socket, or -errno. */
static int bind_to(const char *address)
{
  char host[64];
  const char *colon = strrchr(address, ':');
  size_t n = colon ? (size_t)(colon - address) : 0;
  struct sockaddr_in in = {.sin_family = AF_INET};
  struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
  if (!colon || n >= sizeof host)
    return -EINVAL;
  bool bracket = n > 2 && address[0] == '[' && address[n - 1] == ']';
  snprintf(host, sizeof host, "%.*s", (int)(bracket ? n - 2 : n), address + bracket);
  in.sin_port = in6.sin6_port = htons((uint16_t)atoi(colon + 1));
  bool v4 = inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &in.sin_addr) == 1;
  if (!v4 && inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
    return -EINVAL;
  if (v4 ? ntohl(in.sin_addr.s_addr) >> 24 != 127 : !IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr))
    return -EPERM;
  int one = 1, fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, v4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6, v4 ? sizeof in : sizeof in6) == 0 && listen(fd, 16) == 0)
    return fd;
  int err = -errno;
  close(fd);
  return err;
}

/* The daemon before may have it still. */
static int bind_when_free(struct listener *l)
{
  int fd = bind_to(l->address);
  if (fd == -EADDRINUSE)
    prelux_warn("metrics.listen %s: %s; it is tried again", l->address, strerror(EADDRINUSE));
  while (fd == -EADDRINUSE && !atomic_load(&l->over))
  {
    poll(NULL, 0, AGAIN_MS);
    fd = bind_to(l->address);
  }
  if (fd < 0 && !atomic_load(&l->over))
    prelux_warn("metrics.listen %s: %s", l->address, fd == -EPERM ? "only addresses of this node's loopback are served" : strerror(-fd));
  return fd;
}

static void *serve(void *arg)
{
  struct listener *l = arg;
  int listening = bind_when_free(l);
  if (listening < 0)
    return NULL;
  atomic_store(&l->fd, listening);
  prelux_info("metrics at http://%s/metrics", l->address);
  while (!atomic_load(&l->over))
  {
    struct pollfd p = {.fd = listening, .events = POLLIN};
    if (poll(&p, 1, -1) <= 0)
      continue;
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) /* it is over, or no number is free */
    {
      poll(NULL, 0, atomic_load(&l->over) ? 0 : AGAIN_MS);
      continue;
    }
    const struct visit v = {.l = l, .fd = fd, .listening = listening, .until_ms = prelux_clock_ms() + PATIENCE_MS};
    serve_one(l->d, &v);
    close(fd);
  }
  return NULL;
}

static void begin(struct prelux_daemon *d, const char *address)
{
  sigset_t all, before;
  unsigned i = 0;
  while (i < LISTENERS && listeners[i].d)
    i++;
  struct listener *l = &listeners[i];
  if (i == LISTENERS || strlen(address) >= sizeof l->address)
  {
    prelux_warn("metrics.listen %.200s: not served, %s", address, i == LISTENERS ? "this daemon serves as many others as it can" : "too long");
    return;
  }
  *l = (struct listener){.d = d, .fd = -1};
  snprintf(l->address, sizeof l->address, "%s", address);
  sigfillset(&all); /* signals are the loop's */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int err = pthread_create(&l->thread, NULL, serve, l);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (err)
  {
    prelux_warn("metrics.listen %s: %s", address, strerror(err));
    l->d = NULL;
  }
}

static void end(struct listener *l)
{
  atomic_store(&l->over, true);
  int fd = atomic_load(&l->fd);
  if (fd >= 0)
    shutdown(fd, SHUT_RDWR); /* wakes it */
  pthread_join(l->thread, NULL);
  fd = atomic_load(&l->fd);
  if (fd >= 0)
    close(fd);
  l->d = NULL;
}

static bool is_served(const char *address)
{
  for (unsigned i = 0; i < LISTENERS; i++)
    if (listeners[i].d && strcmp(listeners[i].address, address) == 0)
      return true;
  return false;
}

static bool is_named(const char *address)
{
  for (struct named *n = named; n; n = n->next)
    if (n->address && strcmp(n->address, address) == 0)
      return true;
  return false;
}

static void forget(struct named **at)
{
  struct named *n = *at;
  *at = n->next;
  free(n->source);
  free(n->address);
  free(n);
}

/* Forgets what other texts of that configuration named. True: this is there already. */
static bool is_known(const char *source, uint64_t text, const char *address)
{
  bool there = false;
  for (struct named **at = &named; *at;)
  {
    struct named *n = *at;
    bool same = strcmp(n->source, source) == 0;
    there = there || (same && n->text == text && strcmp(n->address ? n->address : "", address ? address : "") == 0);
    if (same && n->text != text)
      forget(at);
    else
      at = &n->next;
  }
  return there;
}

void prelux_metrics_follow(struct prelux_daemon *d, const char *source, uint64_t text, const char *address, bool old)
{
  for (struct named *n = named; old && n; n = n->next)
    if (strcmp(n->source, source) == 0) /* there has been a newer one, or it is that */
      return;
  if (is_known(source, text, address))
    return;
  struct named *n = calloc(1, sizeof *n);
  if (n)
    *n = (struct named){named, strdup(source), address ? strdup(address) : NULL, text};
  if (!n || !n->source || (address && !n->address))
  {
    prelux_warn("metrics.listen %s: %s", address ? address : "", strerror(ENOMEM));
    if (n)
      forget(&n);
    return;
  }
  named = n;
  for (unsigned i = 0; i < LISTENERS; i++)
    if (listeners[i].d && !is_named(listeners[i].address))
    {
      prelux_info("metrics.listen %s: no configuration names it any more", listeners[i].address);
      end(&listeners[i]);
    }
  for (n = named; n; n = n->next) /* also those for which there was no room */
    if (n->address && !is_served(n->address))
      begin(d, n->address);
}

void prelux_metrics_end(void)
{
  for (unsigned i = 0; i < LISTENERS; i++) /* all at once: each may have somebody who asks */
    if (listeners[i].d)
      atomic_store(&listeners[i].over, true);
  for (unsigned i = 0; i < LISTENERS; i++)
    if (listeners[i].d)
      end(&listeners[i]);
  while (named)
    forget(&named);
}
