/* Raw system calls as -errno: for code that also runs inside other people's processes (index
 * reader, ipc client, error log). They never pass the PLT, never touch errno, never cancel. */
#ifndef PRELUX_BASE_SYS_H
#define PRELUX_BASE_SYS_H

#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long prelux_sys6(long n, long a, long b, long c, long d, long e, long f)
{
  long ret;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(ret)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return ret;
}
#elif defined(__aarch64__)
static inline long prelux_sys6(long n, long a, long b, long c, long d, long e, long f)
{
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#error "prelux supports x86_64 and aarch64"
#endif

#define PRELUX_SYS_PICK(_0, _1, _2, _3, _4, _5, _6, name, ...) name
#define PRELUX_SYS0(n) prelux_sys6(n, 0, 0, 0, 0, 0, 0)
#define PRELUX_SYS1(n, a) prelux_sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define PRELUX_SYS2(n, a, b) prelux_sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define PRELUX_SYS3(n, a, b, c) prelux_sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define PRELUX_SYS4(n, a, b, c, d) prelux_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define PRELUX_SYS5(n, a, b, c, d, e) prelux_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define PRELUX_SYS6(n, a, b, c, d, e, f) \
  prelux_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Code and data of the library that every process touches when it starts: shim/layout.ld puts them on as few pages as
 * can be. A page touched costs each process of the machine some microseconds. */
#define PRELUX_AT_START __attribute__((section(".text.start")))
#define PRELUX_START_DATA __attribute__((section(".bss.start")))

/* prelux_sys(SYS_x, args...): the result, or -errno. */
#define prelux_sys(...)                                                                                   \
  PRELUX_SYS_PICK(__VA_ARGS__, PRELUX_SYS6, PRELUX_SYS5, PRELUX_SYS4, PRELUX_SYS3, PRELUX_SYS2, PRELUX_SYS1, \
                  PRELUX_SYS0)                                                                            \
  (__VA_ARGS__)

#endif
