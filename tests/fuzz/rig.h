/* What the fuzzers share: checks, pieces of an input, and a stand-in for the network (rig_net.c): each call of prelux_net_call gets the next answer of
 * the input. A fuzzer is a file fuzz_X.c with LLVMFuzzerTestOneInput; libFuzzer or main.c runs it. */
#ifndef PRELUX_TESTS_FUZZ_RIG_H
#define PRELUX_TESTS_FUZZ_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf/conf.h"
#include "lib/net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for every input. */
#define FUZZ_CHECK(what) ((what) ? (void)0 : fuzz_wrong(__FILE__, __LINE__, #what, NULL))
#define FUZZ_CHECK_TEXT(what, text) ((what) ? (void)0 : fuzz_wrong(__FILE__, __LINE__, #what, text))
_Noreturn void fuzz_wrong(const char *file, int line, const char *what, const char *text);

/* A password of our configurations: it may be in no text that somebody is shown. */
#define FUZZ_SECRET "Zq7SecretWord"
static inline bool fuzz_tells(const char *text)
{
  return text && strstr(text, FUZZ_SECRET);
}

/* The input up to `sign` (or its end), as memory of its own with a NUL behind it: reading beyond it is seen. Caller frees. */
char *fuzz_piece(const uint8_t **data, size_t *size, const char *sign, size_t *ret_len);
#define FUZZ_NEXT "\n===\n"

/* A folder of this process, in memory where that can be had, removed at its end; the same each time. */
const char *fuzz_folder(void);
/* Writes a file there. */
void fuzz_file(const char *name, const void *data, size_t len, int mode);

/* What the code logs (at all levels) goes to a file there; the check: no password is in it. It begins anew then. */
void fuzz_log(void);
void fuzz_log_check(void);

/* The backend of that name in a configuration that must be right. */
const struct prelux_conf_backend *fuzz_backend(const char *yaml, const char *name);

/* The answers to come, divided by FUZZ_NEXT: head lines, an empty line, the body. None left: the connection is refused. */
void fuzz_answers(const uint8_t *data, size_t size);
struct prelux_net *fuzz_net(void);
unsigned fuzz_asked(void); /* calls since fuzz_answers() */

/* The first line of the input ("stat d/f.txt") is asked of a backend of this configuration, the rest are its server's answers. What backend.h promises is
 * checked. */
int fuzz_drive(const struct prelux_conf_backend *conf, const uint8_t *data, size_t size);

#endif
