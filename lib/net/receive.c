/* A large body on a connection of its own: from the socket to where it belongs, past curl's buffer.
 *
 * Theory of operation. curl brings the head and the first bytes after each wait; what else lies in the socket is received at once behind them, without
 * the copy out of curl's buffer, which costs as much as the one out of the socket (its target is cold: a quarter of the engine's time at 2 GB/s). curl
 * does not know of these bytes, so it counts too few: the transfer ends when all that Content-Length promised is there, by the error with which a callback
 * ends one, and the connection with it; nobody else would have used it. A body that ends early, and one that stalls, curl notices as ever, for it is
 * the one who reads first.
 * Whether curl holds back bytes that it has read is not guessed from its version: what the kernel handed out of this connection must be what has
 * come here as head and body. So chunked bodies, TLS and whatever a later curl reads ahead are left to it. */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "lib/net/engine.h"

#define AT_ONCE (1u << 20) /* then the other transfers have their turn */

/* A socket that curl has made. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
  struct prelux_net_transfer *t = arg;
  (void)purpose;
  t->socket_made = fd;
  return CURL_SOCKOPT_OK;
}

void prelux_net_receive_connected(struct prelux_net_transfer *t, int local_port)
{
  struct sockaddr_storage a;
  socklen_t len = sizeof(a);
  bool same = false;
  if (!t->receives || getsockname(t->socket_made, (struct sockaddr *)&a, &len) < 0)
    return;
  if (a.ss_family == AF_INET)
    same = ntohs(((struct sockaddr_in *)&a)->sin_port) == local_port;
  else if (a.ss_family == AF_INET6)
    same = ntohs(((struct sockaddr_in6 *)&a)->sin6_port) == local_port;
  t->socket = same ? t->socket_made : -1; /* of several addresses another may have won */
}

void prelux_net_receive_set_up(struct prelux_net_transfer *t)
{
  const struct prelux_net_request *r = t->req;
  t->socket = -1;
  t->receives = r->lone && r->sink && !r->upload && !t->here && strncasecmp(t->url, "http://", 7) == 0;
  if (!t->receives)
    return;
  curl_easy_setopt(t->easy, CURLOPT_BUFFERSIZE, CURL_MAX_WRITE_SIZE); /* one piece each time, and nothing is left of it */
  curl_easy_setopt(t->easy, CURLOPT_SOCKOPTFUNCTION, on_socket);
  curl_easy_setopt(t->easy, CURLOPT_SOCKOPTDATA, t);
}

/* Has all that was read from the connection come here? False, too, when that cannot be said because more arrives just now. */
static bool in_step(int fd, uint64_t taken)
{
  struct tcp_info info;
  socklen_t len = sizeof(info);
  int before, after;
  if (ioctl(fd, SIOCINQ, &before) < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || ioctl(fd, SIOCINQ, &after) < 0)
    return false;
  return before == after && before > 0 && len >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received) &&
         info.tcpi_bytes_received == taken + (uint64_t)before;
}

size_t prelux_net_receive_clip(struct prelux_net_transfer *t, size_t n)
{
  uint64_t left = t->answer->content_length - t->received;
  return t->answer->straight && n > left ? (size_t)left : n;
}

/* What lies in the socket, into at most n bytes at t->fill's end: how much. */
static size_t take(struct prelux_net_transfer *t, size_t room)
{
  size_t n = 0;
  int fd = t->socket;
  if (!in_step(fd, t->header_bytes + t->received))
    return 0;
  while (n < room)
  {
    ssize_t got = recv(fd, t->fill + t->fill_len + n, room - n, MSG_DONTWAIT);
    if (got <= 0) /* nothing there now; an end or an error curl will see itself */
      break;
    n += (size_t)got;
  }
  return n;
}

bool prelux_net_receive(struct prelux_net_transfer *t)
{
  if (t->socket < 0 || !t->answer->bounded)
    return false;
  uint64_t left = t->answer->content_length - t->received;
  size_t room = t->fill_cap - t->fill_len;
  room = left < room ? (size_t)left : room;
  size_t n = room ? take(t, room < AT_ONCE ? room : AT_ONCE) : 0;
  t->fill_len += n;
  t->received += n;
  t->answer->straight += n;
  t->whole = t->answer->straight && t->received == t->answer->content_length;
  return t->whole;
}
