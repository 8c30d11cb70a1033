/* Searching and comparing of strings, for this library alone. libasan and its like put their own in the place of libc's, which
 * jump nowhere while such a library sets itself up; and it makes folders for its log then, by our hooks. What they do provide
 * from the first moment (strlen, memcpy, memmove, memset, memcmp) is libc's here, too. */
#include <stddef.h>

#define OWN __attribute__((visibility("hidden")))

OWN int strcmp(const char *a, const char *b);
OWN int strncmp(const char *a, const char *b, size_t n);
OWN char *strchrnul(const char *s, int c);
OWN char *strchr(const char *s, int c);
OWN char *strrchr(const char *s, int c);
OWN void *memchr(const void *s, int c, size_t n);
OWN size_t strnlen(const char *s, size_t n);
OWN size_t strcspn(const char *s, const char *set);
OWN char *strpbrk(const char *s, const char *set);
OWN char *strstr(const char *s, const char *word);

int strcmp(const char *a, const char *b)
{
  while (*a && *a == *b) a++, b++;
  return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
  while (n > 0 && *a && *a == *b) a++, b++, n--;
  return n > 0 ? (unsigned char)*a - (unsigned char)*b : 0;
}

char *strchrnul(const char *s, int c)
{
  while (*s && *s != (char)c) s++;
  return (char *)s;
}

char *strchr(const char *s, int c)
{
  s = strchrnul(s, c);
  return *s == (char)c ? (char *)s : NULL;
}

char *strrchr(const char *s, int c)
{
  const char *found = NULL;
  for (;; s++) {
    if (*s == (char)c) found = s;
    if (!*s) return (char *)found;
  }
}

void *memchr(const void *s, int c, size_t n)
{
  const unsigned char *p = s;
  for (; n > 0; n--, p++)
    if (*p == (unsigned char)c) return (void *)p;
  return NULL;
}

size_t strnlen(const char *s, size_t n)
{
  size_t len = 0;
  while (len < n && s[len]) len++;
  return len;
}

size_t strcspn(const char *s, const char *set)
{
  size_t len = 0;
  while (s[len] && !strchr(set, s[len])) len++;
  return len;
}

char *strpbrk(const char *s, const char *set)
{
  s += strcspn(s, set);
  return *s ? (char *)s : NULL;
}

char *strstr(const char *s, const char *word)
{
  for (;; s++) {
    size_t n = 0;
    while (word[n] && s[n] == word[n]) n++;
    if (!word[n]) return (char *)s;
    if (!*s) return NULL;
  }
}
